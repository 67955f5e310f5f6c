"""The influences of a run: its networks, its queries, as many processes as there are, and its ``influence.parquet``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from unseen.attribution.gradient import gradient_influence
from unseen.attribution.members import top_by_members
from unseen.attribution.queries import Asked, Queries, parse_queries
from unseen.attribution.ranking import Extremes, extremes, influence_table, joined
from unseen.attribution.turnover import queries_at_once, top_influence
from unseen.config import CHOICES, Config
from unseen.data import Examples, trained
from unseen.errors import UnseenError
from unseen.runs import Run
from unseen.scoring import run_examples, saved_epochs, saved_network
from unseen.torchrun import process_count
from unseen.training import Members, first, holding, launch, membership

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric

Method = Literal["turnover", "gradient"]


def influence(
    run: Run,
    queries: str | Asked = "test[:100]",
    top: int = 20,
    method: Method = "turnover",
    *,
    data: Any = None,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
    memory_gib: float = 2.0,
    precision: str | None = None,
    devices: int = 1,
    **options: Any,
) -> "pl.DataFrame":
    """Which training examples help or hurt which predictions of a run, the mean over its seeds; kept in its ``influence.parquet``.

    Args:
        run: finished or not.
        queries: as written on the command line, see ``parse_queries``; or ``Examples``; or standardised inputs and their labels.
        top: training examples to keep at each end, per query.
        method: "turnover" (Liu et al. 2021, eq. 5), or "gradient", see ``gradient_influence``, from the saved epochs; from the last alone
            where none were saved. A run of many networks (--estimator members) has only its own, see ``members_influence``.
        data: what the run was made of, where that was not a name.
        model: likewise.
        data_dir: where mnist/, cifar10/ … lie.
        memory_gib: ceiling for what this adds to memory.
        precision: "32", "bf16", or "auto" for bf16 where the hardware gains from it; by default the run's own.
        devices: processes, or GPUs, which share the queries.
        options: of ``gradient_influence``.

    Returns:
        A frame, see ``influence_table``: a row per query, end and rank.

    Raises:
        UnseenError: no weights, queries that are not there, other data or another model than the run's, a precision that is none; and
            "turnover" where examples share masks.
    """
    config, examples = run_examples(run, data, model, data_dir)
    chosen = Queries.of(parse_queries(queries, examples) if isinstance(queries, str) else queries)
    world = min(process_count(devices), len(chosen))
    precision = precision or config.training.precision
    if precision not in CHOICES["precision"]:
        raise UnseenError(f"--precision is {precision!r}; it must be one of {', '.join(CHOICES['precision'])}.")
    if method == "turnover":
        _refuse_shared_masks(run)
    options |= {"memory_gib": memory_gib} if method == "gradient" else {"memory_gib": memory_gib, "precision": precision}
    with holding(run):
        launch(partial(_share, run, config, examples, chosen, top, method, model, options), devices, precision)
        return first(partial(_joined_shares, run, config, examples, chosen, world))


def _refuse_shared_masks(run: Run) -> None:
    """Equation 5 says the same of all examples that have the same masks in every seed: of few groups it would rank nothing."""
    facts = run.summary if run.finished else {}
    if "examples_per_mask" in facts and (facts["trained"] / facts["examples_per_mask"]) ** run.config.seeds < facts["trained"]:
        raise UnseenError(
            f"Masks of {facts['mask_groups']} groups are each shared by about {facts['examples_per_mask']:,.0f} examples, of all of which "
            "equation 5 says the same. Use --method gradient, or score with a mask for each example (--groups 0)."
        )


def _joined_shares(run: Run, config: Config, examples: Examples, queries: Queries, world: int) -> "pl.DataFrame":
    """The influences of all processes as ``influence.parquet``."""
    files = [f"influence-{rank}-of-{world}" for rank in range(world)]
    shares = [run.read_tensors(file) for file in files]
    found = joined([Extremes(**tensors) for tensors, _ in shares])
    table = influence_table(found, trained(examples, config.noise.null_fraction, config.seed), queries)
    run.write_table("influence", table, method=shares[0][1]["method"], seed=str(config.seed))
    for file in files:
        (run.path / f"weights/{file}.safetensors").unlink()
    return table


def _share(
    run: Run,
    config: Config,
    examples: Examples,
    queries: Queries,
    top: int,
    method: Method,
    model: nn.Module | None,
    options: dict[str, Any],
    fabric: "Fabric",
) -> None:
    """Write the influences on this process's share of the queries."""
    world = min(fabric.world_size, len(queries))
    if fabric.global_rank >= world:
        return
    own, examples = queries.share(fabric.global_rank, world, fabric.device), examples.to(fabric.device)
    nets = {seed: saved_network(run, config, examples, seed, model) for seed in range(config.seed, config.seed + config.seeds)}
    found, by = _top(run, config, nets, examples, own, top, method, options)
    run.write_tensors(f"influence-{fabric.global_rank}-of-{world}", vars(found), method=by)


def _top(
    run: Run,
    config: Config,
    nets: dict[int, nn.Module],
    examples: Examples,
    queries: Queries,
    top: int,
    method: Method,
    options: dict[str, Any],
) -> tuple[Extremes, str]:
    """The extremes by what these networks are, and the name of the method."""
    train = trained(examples, config.noise.null_fraction, config.seed)
    crowds = [(net, _members_of(config, train, seed)) for seed, net in nets.items() if isinstance(net, Members)]
    if crowds and method == "gradient":
        raise UnseenError(f"{run.path} has many networks. --method gradient is of one: score with --estimator turnover, or leave it out.")
    if crowds:
        return top_by_members(crowds, train, queries, top, options["memory_gib"]), "members"
    if method == "gradient":
        return _top_by_gradient(run, nets, train, queries, top, **options), method
    return top_influence(list(nets.values()), train, queries, top, **options), method  # type: ignore[arg-type]


def _members_of(config: Config, train: Examples, seed: int) -> torch.Tensor:
    return membership(train.index, seed, config.members.members, config.members.fraction).to(train.labels.device)


def _top_by_gradient(
    run: Run, nets: dict[int, nn.Module], train: Examples, queries: Queries, top: int, memory_gib: float, **options: Any
) -> Extremes:
    weights = sum(parameter.numel() for parameter in nets[run.config.seed].parameters())  # the most that is formed of a gradient
    found = []
    for some in torch.arange(len(queries)).split(queries_at_once(12 * len(train) + 4 * weights, memory_gib)):
        lot = queries.batch(some)
        sums = [
            gradient_influence(net, train, lot, (kept[1:] for kept in saved_epochs(run, seed, net)), **options)
            for seed, net in nets.items()
        ]
        found.append(extremes([(train.index, torch.stack(sums).mean(0))], top))
    return joined(found)
