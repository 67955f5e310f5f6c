"""The influences of a run: its weights, its queries, as many processes as there are, and its ``influence.parquet``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from unseen.attribution import queries as asked
from unseen.attribution.gradient import gradient_influence
from unseen.attribution.members import top_by_members
from unseen.attribution.queries import Queries, parse_queries
from unseen.attribution.ranking import Extremes, extremes, influence_table, joined
from unseen.attribution.turnover import queries_at_once, top_influence
from unseen.config import Config
from unseen.data import Examples, trained
from unseen.masks import TurnOverNet
from unseen.runs import Run
from unseen.scoring import new_net, run_examples
from unseen.torchrun import process_count
from unseen.training import first, holding, launch, learning_rate

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric


def run_influence(
    run: Run,
    queries: str | Queries = "test[:100]",
    top: int = 20,
    method: Literal["turnover", "gradient"] = "turnover",
    *,
    data: Any = None,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
    memory_gib: float = 2.0,
    precision: str = "auto",
    devices: int = 1,
    **options: Any,
) -> "pl.DataFrame":
    """Write a run's ``influence.parquet``, mean over its seeds, and return it; see ``influence_table``.

    Args:
        run: finished or not. queries: see ``parse_queries``, or queries themselves. top, memory_gib, precision: see ``top_influence``.
        method: "turnover", or "gradient", see ``gradient_influence``, from the saved epochs; from the last alone where none were saved.
            A run of many networks (--estimator members) has only its own, see ``members_influence``.
        data, model: what the run was made of, where that was not a name. data_dir: see ``load``. options: of ``gradient_influence``.
        devices: processes, or GPUs, which share the queries.

    Raises UnseenError: no weights, queries that are not there, other data or another model than the run's.
    """
    config, examples = run_examples(run, data, model, data_dir)
    chosen = parse_queries(queries, examples) if isinstance(queries, str) else queries
    world = min(process_count(devices), asked.count(chosen))
    options |= {"memory_gib": memory_gib} if method == "gradient" else {"memory_gib": memory_gib, "precision": precision}
    with holding(run):
        launch(partial(_share, run, config, examples, chosen, top, method, model, options), devices, config.precision)
        return first(partial(_joined_shares, run, config, examples, chosen, method, world))


def _joined_shares(run: Run, config: Config, examples: Examples, queries: Queries, method: str, world: int) -> "pl.DataFrame":
    """The influences of all processes as ``influence.parquet``."""
    files = [f"influence-{rank}-of-{world}" for rank in range(world)]
    found = joined([Extremes(**run.read_tensors(file)[0]) for file in files])
    table = influence_table(found, trained(examples, config), queries)
    run.write_table("influence", table, method="members" if config.estimator == "members" else method, seed=str(config.seed))
    for file in files:
        (run.path / f"weights/{file}.safetensors").unlink()
    return table


def _share(
    run: Run,
    config: Config,
    examples: Examples,
    queries: Queries,
    top: int,
    method: str,
    model: nn.Module | None,
    options: dict[str, Any],
    fabric: "Fabric",
) -> None:
    """Write the influences on this process's share of the queries."""
    world = min(fabric.world_size, asked.count(queries))
    if fabric.global_rank >= world:
        return
    own = asked.share(queries, fabric.global_rank, world, fabric.device)
    train = trained(examples.to(fabric.device), config)
    if config.estimator == "members":
        found = top_by_members(run, config, train, own, top, method, options["memory_gib"], model)
    else:
        nets = {seed: new_net(config, examples, model or config.model, seed) for seed in range(config.seed, config.seed + config.seeds)}
        for seed, net in nets.items():
            net.to(fabric.device).load_state_dict(_weights(run, f"seed-{seed}", net))
        found = (
            top_influence(list(nets.values()), train, own, top, **options)
            if method == "turnover"
            else _top_by_gradient(run, nets, train, own, top, **options)
        )
    run.write_tensors(f"influence-{fabric.global_rank}-of-{world}", vars(found))


def _top_by_gradient(
    run: Run, nets: dict[int, TurnOverNet], train: Examples, queries: Queries, top: int, memory_gib: float, **options: Any
) -> Extremes:
    weights = sum(parameter.numel() for parameter in nets[run.config.seed].parameters())  # the most that is formed of a gradient
    found = []
    for some in torch.arange(asked.count(queries)).split(queries_at_once(12 * len(train) + 4 * weights, memory_gib)):
        lot = asked.batch(queries, some)
        sums = [
            gradient_influence(net, train, lot, (kept[1:] for kept in saved_epochs(run, seed, net)), **options)
            for seed, net in nets.items()
        ]
        found.append(extremes([(train.index, torch.stack(sums).mean(0))], top))
    return joined(found)


def saved_epochs(run: Run, seed: int, net: nn.Module) -> Iterator[tuple[int, dict[str, Tensor], float]]:
    """Number, weights and learning rate of the saved epochs (weights/seed-S-epoch-N.safetensors); of the last where none were."""
    paths = sorted((run.path / "weights").glob(f"seed-{seed}-epoch-*.safetensors"))
    for path in paths:
        number = int(path.stem.rpartition("-")[2])
        yield number, _weights(run, path.stem, net), learning_rate(run.config, number - 0.5)
    if not paths:
        yield run.config.epochs, _weights(run, f"seed-{seed}", net), 1.0


def _weights(run: Run, name: str, net: nn.Module) -> dict[str, Tensor]:
    """The network's weights as they were scored: the mean of the last epochs where the run took one."""
    tensors, _ = run.read_like(name, {f"net.{key}": value for key, value in net.state_dict().items()})
    prefix = "mean." if any(key.startswith("mean.") for key in tensors) else "net."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
