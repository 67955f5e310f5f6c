"""Train one seed and write its parts of the run: turn-over dropout, or members."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples
from unseen.masks import key
from unseen.measure import SIDES, measure
from unseen.members import Members, membership, new_members, train_members
from unseen.models import build
from unseen.places import check_capacity
from unseen.progress import Bar
from unseen.runs import Run
from unseen.train import Epoch, channels_last, null_mask, train
from unseen.truth import LOST, WARM_UP, small, two_samples
from unseen.turnover import TurnOverNet
from unseen.watch import coming_steps, gradient_rows, gradient_table

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HISTORY = [f"{quantity}_{side}" for quantity in ("loss", "margin", "correct", "error_norm") for side in SIDES]


def train_all(fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, progress: bool) -> None:
    """Train and measure every seed that is not done; in each process."""
    examples = examples.to(fabric.device)
    for seed in range(config.seed, config.seed + config.seeds):
        if not (run.path / final_name(seed)).exists():
            one_seed = train_members_of_seed if config.estimator == "members" else train_seed
            one_seed(fabric, run, config, examples, model, seed, progress)


def train_seed(fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, seed: int, progress: bool) -> None:
    """One training run: after each epoch its history and a state to resume from; at the end the last measurement."""
    net = new_net(config, examples, model, seed)
    kept = examples.train
    kept = kept.select(~null_mask(kept.index.cpu(), config.null_fraction, config.seed))
    state, mean, done = _last_state(run, seed)
    writer = fabric.global_rank == 0
    bar = Bar(config, len(kept), seed, done, progress and writer)
    with bar:
        for epoch in train(net, kept, config, seed, fabric, state, done, bar.step):
            mean = running_mean(mean, epoch, config)
            last = epoch.number == config.epochs
            if last or epoch.number % config.history_every == 0:
                measured = measure(net, examples, fabric, probabilities=last)
                bar.accuracies(measured, examples)
                if writer:
                    _write_history(run, examples, measured, seed, epoch.number)
            if last:
                net.load_state_dict(mean)
                measured = measure(net, examples, fabric, probabilities=True) if config.average > 1 else measured
                if writer:
                    _write_final(run, examples, measured, seed)
            if writer and config.gradients_every and epoch.number % config.gradients_every == 0:
                _write_gradients(run, net, examples, config, seed, epoch.number)
            if writer and config.save_every and epoch.number % config.save_every == 0:
                weights = {name: value for name, value in epoch.state.items() if name.startswith("net.")}
                run.write_tensors(f"seed-{seed}-epoch-{epoch.number:06d}", weights, epoch=str(epoch.number))
            if writer:
                saved = {f"mean.{name}": value for name, value in mean.items()} if config.average > 1 else {}
                run.write_tensors(f"seed-{seed}", epoch.state | saved, epoch=str(epoch.number))
            fabric.barrier()


def train_members_of_seed(
    fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, seed: int, progress: bool
) -> None:
    """Many small networks in place of one: after each epoch what they showed while training, at the end a measurement.

    Test and held-out examples get a membership too, which no member has used: their gaps are the noise floor.
    """
    kept = examples.train
    kept = kept.select(~null_mask(kept.index.cpu(), config.null_fraction, config.seed))
    recipe = small(config, len(kept)) if isinstance(model, str) else config
    seeds = [key(seed, "member", number) % 2**31 for number in range(config.members)]
    networks = new_members(recipe, kept, seeds, None if isinstance(model, str) else model)
    member = membership(kept.index, seed, config.members, config.fraction)
    probabilities, later = torch.zeros(len(kept), len(kept.classes)), 0
    with Bar(config, len(kept), seed, 0, progress) as bar:
        for epoch in train_members(networks, kept, recipe, member, key(seed, "order"), fabric, lost=LOST):
            bar.epoch(len(kept), epoch.observed)
            if epoch.number > min(WARM_UP * config.epochs, config.epochs - 1):
                probabilities, later = probabilities + epoch.unseen_probabilities, later + 1
            if epoch.number == config.epochs or epoch.number % config.history_every == 0:
                _write_history(run, kept, epoch.observed, seed, epoch.number)
    networks = epoch.members()
    measured = measure_members(networks, examples, membership(examples.index, seed, config.members, config.fraction), fabric)
    trained = torch.isin(examples.index.cpu(), kept.index.cpu())
    measured["probabilities"][trained] = probabilities / later  # less noisy than those of the last epoch alone
    _write_final(run, examples, measured, seed)
    weights = {f"net.{name}": value for name, value in (networks.weights | networks.state).items()}
    run.write_tensors(f"seed-{seed}", weights, epoch=str(config.epochs))


@torch.no_grad()
def measure_members(members: Members, examples: Examples, member: Tensor, fabric: "Fabric", batch_size: int = 256) -> dict[str, Tensor]:
    """What members with and without each example, and all, say of it: as ``measure``, means over members, for all examples.

    loss is the mean of losses, predicted the largest mean probability; beside them memorization_se and half_width (90%) of the gap,
    by Welch's two-sample t.
    """
    import numpy as np
    from scipy.stats import t

    members.eval()
    losses, sides = torch.zeros(len(members), len(examples)), torch.zeros(len(SIDES), len(examples), len(examples.classes))
    with fabric.autocast():
        for positions in torch.arange(len(examples)).split(batch_size):
            x, labels, _ = examples.batch(positions)
            logs = members(channels_last(x)).float().log_softmax(2).cpu()  # (K, B, classes)
            losses[:, positions] = -logs.gather(2, labels.cpu().expand(len(logs), -1)[..., None]).squeeze(2)
            inside = member[:, positions]
            for side, chosen in enumerate((inside, ~inside, torch.ones_like(inside))):
                sides[side, positions] = (logs.exp() * chosen[..., None]).sum(0) / chosen.sum(0)[:, None]
    gap = two_samples(losses.double().numpy(), member.numpy())
    result = {"loss_seen": gap.seen, "loss_unseen": gap.unseen, "loss_full": losses.double().numpy().mean(0)}
    result |= {"memorization_se": gap.standard_error, "half_width": t.ppf(0.95, np.maximum(gap.degrees, 1)) * gap.standard_error}
    tensors = {name: torch.from_numpy(values).float() for name, values in result.items()}
    predicted = {f"predicted_{side}": sides[number].argmax(1).float() for number, side in enumerate(SIDES)}
    return tensors | predicted | {"probabilities": sides[1]}


def running_mean(mean: dict[str, Tensor], epoch: Epoch, config: Config) -> dict[str, Tensor]:
    """Mean of the weights over the last ``config.average`` epochs so far; empty before them.

    Stochastic weight averaging (Izmailov et al. 2018). It keeps the halves apart: what an example never changed at any epoch,
    the mean over epochs leaves unchanged.
    """
    weights = {name.removeprefix("net."): value for name, value in epoch.state.items() if name.startswith("net.")}
    count = epoch.number - (config.epochs - config.average)
    if count < 1:
        return {}
    if count == 1:
        return {name: value.clone() for name, value in weights.items()}
    return {name: mean[name].lerp(value, 1 / count) if value.is_floating_point() else value for name, value in weights.items()}


def new_net(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> TurnOverNet:
    """A fresh network with masks: weights a function of the seed."""
    import copy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, str):
            net = build(model, examples.shape, len(examples.classes), config.hidden, config.width, config.output_bias)
        else:
            net = copy.deepcopy(model)
    options: dict[str, Any] = {name: getattr(config, name) for name in ("groups", "tied", "only", "skip")}
    wrapped = TurnOverNet(net, seed=seed, scale=config.mask_scale, **options)
    check_capacity(wrapped.masked_layers(), int(examples.index.max()) + 1)
    return wrapped


def _last_state(run: Run, seed: int) -> tuple[dict[str, Tensor] | None, dict[str, Tensor], int]:
    """What training left: its state, the running mean of the weights, and the number of epochs done."""
    if not (run.path / f"weights/seed-{seed}.safetensors").exists():
        return None, {}, 0
    tensors, notes = run.read_tensors(f"seed-{seed}")
    mean = {name.removeprefix("mean."): tensors.pop(name) for name in list(tensors) if name.startswith("mean.")}
    return tensors, mean, int(notes["epoch"])


def _write_history(run: Run, examples: Examples, measured: dict[str, Tensor], seed: int, epoch: int) -> None:
    import polars as pl

    index = examples.index.cpu().numpy()
    parts = run.path / "parts"
    for stale in parts.glob(f"history-{seed}-*.parquet"):  # an epoch measured after the last state was saved
        if int(stale.stem.rpartition("-")[2]) >= epoch:
            stale.unlink()
    columns = {"seed": pl.Series([seed] * len(index), dtype=pl.Int64), "epoch": pl.Series([epoch] * len(index), dtype=pl.Int32)}
    history = pl.DataFrame(columns | {"index": index} | {name: measured[name].numpy() for name in HISTORY})
    run.write_table(f"parts/history-{seed}-{epoch:06d}", history)


def _write_gradients(run: Run, net: TurnOverNet, examples: Examples, config: Config, seed: int, epoch: int) -> None:
    subsets = {str(name): rows["index"].to_list() for (name,), rows in run.table("subsets").group_by("subset", maintain_order=True)}
    kept = examples.train
    kept = kept.select(~null_mask(kept.index.cpu(), config.null_fraction, config.seed))
    rows = gradient_rows(net, examples, subsets, coming_steps(kept, config.batch_size, seed, epoch), config.gradient_examples, seed)
    run.write_table(f"parts/gradients-{seed}-{epoch:06d}", gradient_table([{"seed": seed, "epoch": epoch} | row for row in rows]))


def _write_final(run: Run, examples: Examples, measured: dict[str, Tensor], seed: int) -> None:
    import polars as pl

    names = [f"{quantity}_{side}" for quantity in ("loss", "predicted") for side in SIDES]
    final = {"index": examples.index.cpu().numpy()} | {name: measured[name].numpy() for name in names}
    final |= {name: measured[name].numpy() for name in ("memorization_se", "half_width") if name in measured}
    final |= {f"p_{c}": column.numpy() for c, column in enumerate(measured["probabilities"].unbind(1))}
    run.write_table(final_name(seed).removesuffix(".parquet"), pl.DataFrame(final))


def final_name(seed: int) -> str:
    """File of a seed's last measurement; where it is, the seed is done."""
    return f"parts/final-{seed}.parquet"
