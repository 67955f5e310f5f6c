"""Train one seed and write its parts of the run: turn-over dropout, or members."""

import json
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples, trained
from unseen.gradients import coming_steps, gradient_rows, gradient_table
from unseen.hashing import key
from unseen.masks import Ordinary, TurnOverNet, check_capacity, classifier, first_rows
from unseen.models import build
from unseen.runs import Run
from unseen.training import (
    LOST,
    SIDES,
    Bar,
    Epoch,
    Laps,
    Members,
    Pass,
    channels_last,
    first_epochs,
    measure,
    membership,
    new_members,
    plain_seconds,
    share,
    small,
    train,
    train_members,
    two_samples,
)

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric

HISTORY = [f"{quantity}_{side}" for quantity in ("loss", "margin", "correct", "error_norm") for side in SIDES]


def train_all(fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, progress: bool) -> None:
    """Train and measure every seed that is not done; in each process."""
    examples = examples.to(fabric.device)
    for seed in range(config.seed, config.seed + config.seeds):
        if not _done(run, config, seed):
            one_seed = train_members_of_seed if config.estimator == "members" else train_seed
            one_seed(fabric, run, config, examples, model, seed, progress)


def _done(run: Run, config: Config, seed: int) -> bool:
    """Whether the seed's last measurement is there and, since a run can be killed between them, its last weights."""
    return (run.path / final_name(seed)).exists() and int(_last_state(run, seed)[2]["epoch"]) == config.epochs


def train_seed(fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, seed: int, progress: bool) -> None:
    """One training run: after each epoch its history and a state to resume from; at the end the last measurement."""
    net = new_net(config, examples, model, seed)
    kept = trained(examples, config)
    state, mean, notes = _last_state(run, seed)
    if int(notes["epoch"]) == config.epochs:  # the seed is not done all the same: its tables were deleted
        state, mean, notes = None, {}, {"epoch": "0", "seconds": "{}"}
    writer, done, laps = fabric.global_rank == 0, int(notes["epoch"]), Laps(fabric.device, json.loads(notes["seconds"]))
    _forget(fabric, run, seed, done)
    bar = Bar(config, len(kept), seed, done, progress and writer)
    with bar:
        for epoch in train(net, kept, config, seed, fabric, state, done, bar.step):
            laps.lap("training")
            mean = running_mean(mean, epoch, config)
            last = epoch.number == config.epochs
            if last or epoch.number % config.history_every == 0:
                measured = measure(net, examples, fabric, measure_size(config), probabilities=last)
                bar.accuracies(measured, examples)
                _write_history(fabric, run, examples, measured, seed, epoch.number)
            if last:
                net.load_state_dict(mean)
                measured = measure(net, examples, fabric, measure_size(config), probabilities=True) if config.average > 1 else measured
                laps.lap("measuring")
                write_cost(fabric, run, config, kept, model, seed, laps)
                if writer:
                    _write_final(run, examples, measured, seed)
            if writer and config.gradients_every and epoch.number % config.gradients_every == 0:
                _write_gradients(run, net, examples, config, seed, epoch.number)
            fabric.barrier()  # the state is written when all shares of the history are
            if writer and config.save_every and epoch.number % config.save_every == 0:
                weights = {name: value for name, value in epoch.state.items() if name.startswith("net.")}
                run.write_tensors(f"seed-{seed}-epoch-{epoch.number:06d}", weights, epoch=str(epoch.number))
            if writer:
                saved = {f"mean.{name}": value for name, value in mean.items()} if config.average > 1 else {}
                run.write_tensors(f"seed-{seed}", epoch.state | saved, epoch=str(epoch.number), seconds=json.dumps(laps.seconds))
            laps.lap("measuring")
    fabric.barrier()


def train_members_of_seed(
    fabric: "Fabric", run: Run, config: Config, examples: Examples, model: str | nn.Module, seed: int, progress: bool
) -> None:
    """Many small networks in place of one: after each epoch what they showed while training, at the end a measurement.

    Each process trains its share of the members, on the same batches. Test and held-out examples get a membership too, which no
    member has used: their gaps are the noise floor.
    """
    kept = trained(examples, config)
    recipe = small(config, len(kept)) if isinstance(model, str) else config
    own = share(config.members, fabric.global_rank, fabric.world_size)
    seeds = [key(seed, "member", number) % 2**31 for number in range(config.members)]
    state, probabilities, notes = _members_state(fabric, run, seed)
    writer, done, laps = fabric.global_rank == 0, int(notes["epoch"]), Laps(fabric.device, json.loads(notes["seconds"]))
    _forget(fabric, run, seed, done)
    networks = new_members(recipe, kept, seeds[own], None if isinstance(model, str) else model)
    member = membership(kept.index, seed, config.members, config.fraction)[own]
    with Bar(config, len(kept), seed, done, progress and writer) as bar:
        for epoch in train_members(networks, kept, recipe, member, key(seed, "order"), fabric, lost=LOST, state=state, done=done):
            laps.lap("training")
            observed, chances = _over_processes(fabric, epoch, member)
            bar.epoch(len(kept), observed)
            if epoch.number > first_epochs(config.epochs):
                probabilities = probabilities + chances
            if epoch.number == config.epochs or epoch.number % config.history_every == 0:
                _write_history(fabric, run, kept, observed, seed, epoch.number)
            fabric.barrier()
            if epoch.number < config.epochs:
                saved = epoch.state() | {"sum.probabilities": probabilities}
                name = _state_name(fabric, seed)
                run.write_tensors(f"{name}-{epoch.number:06d}", saved, epoch=str(epoch.number), seconds=json.dumps(laps.seconds))
                fabric.barrier()  # so that there is an epoch of which all processes have theirs
                (run.path / f"weights/{name}-{epoch.number - 1:06d}.safetensors").unlink(missing_ok=True)
            laps.lap("measuring")
    networks = epoch.members()
    measured = measure_members(networks, examples, membership(examples.index, seed, config.members, config.fraction), fabric)
    inside = torch.isin(examples.index.cpu(), kept.index.cpu())
    later = config.epochs - first_epochs(config.epochs)
    measured["probabilities"][inside] = probabilities / later  # less noisy than those of the last epoch alone
    weights = {f"net.{name}": _gathered(fabric, value) for name, value in (networks.weights | networks.state).items()}
    laps.lap("measuring")
    write_cost(fabric, run, config, kept, model, seed, laps)
    if writer:
        run.write_tensors(f"seed-{seed}", weights, epoch=str(config.epochs))
        _write_final(run, examples, measured, seed)
    fabric.barrier()


def _members_state(fabric: "Fabric", run: Run, seed: int) -> tuple[dict[str, Tensor] | None, Tensor, dict[str, str]]:
    """What training left of this process's members at the last epoch that all processes have, the sum of the probabilities, and notes."""
    paths = (run.path / "weights").glob(f"{_state_name(fabric, seed)}-*.safetensors")
    last = max((int(path.stem.rpartition("-")[2]) for path in paths), default=0)
    done = int(_gathered(fabric, torch.tensor([last])).min())
    if not done:
        return None, torch.zeros(()), {"epoch": "0", "seconds": "{}"}
    state, notes = run.read_tensors(f"{_state_name(fabric, seed)}-{done:06d}")
    return state, state.pop("sum.probabilities"), notes


def _state_name(fabric: "Fabric", seed: int) -> str:
    return f"members-{seed}-{fabric.global_rank}-of-{fabric.world_size}"


def _over_processes(fabric: "Fabric", epoch: Pass, member: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """An epoch's ``observed`` and ``unseen_probabilities``, means over the members of all processes. member: this one's, (K, n)."""
    if fabric.world_size == 1:
        return epoch.observed, epoch.unseen_probabilities
    counts = {"seen": member.sum(0), "unseen": (~member).sum(0), "full": torch.full(member.shape[1:], len(member))}
    totals = {side: _summed(fabric, count) for side, count in counts.items()}
    sums = {name: _summed(fabric, mean * counts[name.rpartition("_")[2]]) for name, mean in epoch.observed.items()}
    chances = _summed(fabric, epoch.unseen_probabilities * counts["unseen"][:, None]) / totals["unseen"][:, None]
    return {name: value / totals[name.rpartition("_")[2]] for name, value in sums.items()}, chances


def _summed(fabric: "Fabric", value: Tensor) -> Tensor:
    total: Tensor = fabric.all_reduce(value.to(fabric.device, copy=True), reduce_op="sum")  # type: ignore[assignment]
    return total.cpu()  # a copy, since it sums in place


def _gathered(fabric: "Fabric", value: Tensor) -> Tensor:
    """The rows of all processes, (K of each, ...) to (K of all, ...)."""
    if fabric.world_size == 1:
        return value
    return fabric.all_gather(value.to(fabric.device)).flatten(0, 1)  # type: ignore[union-attr]


@torch.no_grad()
def measure_members(members: Members, examples: Examples, member: Tensor, fabric: "Fabric", batch_size: int = 256) -> dict[str, Tensor]:
    """What members with and without each example, and all, say of it: as ``measure``, means over members, for all examples.

    loss is the mean of losses, predicted the largest mean probability; beside them memorization_se and half_width (90%) of the gap,
    by Welch's two-sample t. members: of this process; member: bool (all members, examples).
    """
    import numpy as np
    from scipy.stats import t

    members.eval()
    own = member[len(members) * fabric.global_rank :][: len(members)]
    losses, sides = torch.zeros(len(members), len(examples)), torch.zeros(len(SIDES), len(examples), len(examples.classes))
    with fabric.autocast():
        for positions in torch.arange(len(examples)).split(batch_size):
            x, labels, _ = examples.batch(positions)
            logs = members(channels_last(x)).float().log_softmax(2).cpu()  # (K, B, classes)
            losses[:, positions] = -logs.gather(2, labels.cpu().expand(len(logs), -1)[..., None]).squeeze(2)
            inside = own[:, positions]
            for side, chosen in enumerate((inside, ~inside, torch.ones_like(inside))):
                sides[side, positions] = (logs.exp() * chosen[..., None]).sum(0)
    losses = _gathered(fabric, losses).cpu()
    sides = sides if fabric.world_size == 1 else _summed(fabric, sides)
    gap = two_samples(losses.double().numpy(), member.numpy())
    result = {"loss_seen": gap.seen, "loss_unseen": gap.unseen, "loss_full": losses.double().numpy().mean(0)}
    result |= {"memorization_se": gap.standard_error, "half_width": t.ppf(0.95, np.maximum(gap.degrees, 1)) * gap.standard_error}
    tensors = {name: torch.from_numpy(values).float() for name, values in result.items()}
    predicted = {f"predicted_{side}": sides[number].argmax(1).float() for number, side in enumerate(SIDES)}
    return tensors | predicted | {"probabilities": sides[1] / (~member).sum(0)[:, None]}


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


def measure_size(config: Config) -> int:
    """Examples per batch of a measurement: those of a step, and 256 at least."""
    return max(256, config.batch_size)


def new_net(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> TurnOverNet:
    """A fresh network with masks: weights a function of the seed."""
    if config.estimator == "plain":
        return cast(TurnOverNet, Ordinary(_bare(config, examples, model, seed)))
    options: dict[str, Any] = {name: getattr(config, name) for name in ("groups", "tied", "only", "skip")}
    wrapped = TurnOverNet(_bare(config, examples, model, seed), seed=seed, scale=config.mask_scale, **options)
    check_capacity(wrapped.masked_layers(), int(examples.index.max()) + 1)
    return wrapped


def _bare(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> nn.Module:
    """The same without masks."""
    import copy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, str):
            return build(config.model, examples.shape, len(examples.classes), config.hidden, config.width, config.output_bias)
        x, _, _ = examples.batch(first_rows(len(examples), len(examples.classes)))
        return classifier(copy.deepcopy(model), x, len(examples.classes))


def _last_state(run: Run, seed: int) -> tuple[dict[str, Tensor] | None, dict[str, Tensor], dict[str, str]]:
    """What training left: its state, the running mean of the weights, and the number of epochs done with their seconds."""
    if not (run.path / f"weights/seed-{seed}.safetensors").exists():
        return None, {}, {"epoch": "0", "seconds": "{}"}
    tensors, notes = run.read_tensors(f"seed-{seed}")
    mean = {name.removeprefix("mean."): tensors.pop(name) for name in list(tensors) if name.startswith("mean.")}
    return tensors, mean, {"seconds": "{}"} | notes


def _forget(fabric: "Fabric", run: Run, seed: int, done: int) -> None:
    """Delete what was measured after the last state was saved."""
    for stale in (run.path / "parts").glob(f"history-{seed}-*.parquet") if fabric.global_rank == 0 else ():
        if int(stale.stem.split("-")[2]) > done:
            stale.unlink()
    fabric.barrier()


def _write_history(fabric: "Fabric", run: Run, examples: Examples, measured: dict[str, Tensor], seed: int, epoch: int) -> None:
    """This process's share of the rows, a file of its own."""
    rank, world = fabric.global_rank, fabric.world_size
    history = history_table(examples.index, measured, seed, epoch)[share(len(examples), rank, world)]
    run.write_table(f"parts/history-{seed}-{epoch:06d}" + (f"-{rank}-of-{world}" if world > 1 else ""), history)


def history_table(index: Tensor, measured: dict[str, Tensor], seed: int, epoch: int) -> "pl.DataFrame":
    """seed, epoch, index, and what an epoch measured of both halves and the full network."""
    import polars as pl

    columns = {"seed": pl.Series([seed] * len(index), dtype=pl.Int64), "epoch": pl.Series([epoch] * len(index), dtype=pl.Int32)}
    return pl.DataFrame(columns | {"index": index.cpu().numpy()} | {name: measured[name].numpy() for name in HISTORY})


def _write_gradients(run: Run, net: TurnOverNet, examples: Examples, config: Config, seed: int, epoch: int) -> None:
    subsets = {str(name): rows["index"].to_list() for (name,), rows in run.table("subsets").group_by("subset", maintain_order=True)}
    steps = coming_steps(examples.train, config.batch_size, seed, epoch, (config.null_fraction, config.seed))
    rows = gradient_rows(net, examples, subsets, steps, config.gradient_examples, seed)
    run.write_table(f"parts/gradients-{seed}-{epoch:06d}", gradient_table([{"seed": seed, "epoch": epoch} | row for row in rows]))


def _write_final(run: Run, examples: Examples, measured: dict[str, Tensor], seed: int) -> None:
    run.write_table(final_name(seed).removesuffix(".parquet"), final_table(examples.index, measured))


def final_table(index: Tensor, measured: dict[str, Tensor]) -> "pl.DataFrame":
    """index, losses, predictions and the unseen half's probabilities, of a last measurement."""
    import polars as pl

    names = [f"{quantity}_{side}" for quantity in ("loss", "predicted") for side in SIDES]
    final = {"index": index.cpu().numpy()} | {name: measured[name].numpy() for name in names}
    final |= {name: measured[name].numpy() for name in ("memorization_se", "half_width") if name in measured}
    final |= {f"p_{c}": column.numpy() for c, column in enumerate(measured["probabilities"].unbind(1))}
    return pl.DataFrame(final)


def write_cost(
    fabric: "Fabric", run: Run, config: Config, kept: Examples, model: str | nn.Module, seed: int, laps: Laps, share: float = 1.0
) -> None:
    """Seconds of this seed, of process 0, and those of a plain run, timed now on a network without masks.

    share: of the training examples, that are in ``kept``.
    """
    plain = plain_seconds(_bare(config, kept, model, seed), kept, config, fabric) / share
    if fabric.global_rank == 0:
        seconds = {f"{name}_seconds": value for name, value in laps.seconds.items()}
        run.write_json(cost_name(seed), seconds | {"plain_seconds": plain})


def cost_name(seed: int) -> str:
    """File of a seed's seconds."""
    return f"parts/cost-{seed}.json"


def final_name(seed: int) -> str:
    """File of a seed's last measurement."""
    return f"parts/final-{seed}.parquet"


def final_shard_name(seed: int, number: int) -> str:
    """The same of one shard, where the data come in shards."""
    return f"parts/final-{seed}-{number:05d}.parquet"


def sums_name(seed: int, number: int) -> str:
    """A shard's running sums, under weights/."""
    return f"sums-{seed}-{number:05d}"
