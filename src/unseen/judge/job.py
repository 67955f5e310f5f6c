"""The truth of a run: retraining by its recipe, by as many processes as there are, and its ``truth.parquet``."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from unseen.config import Config
from unseen.data import Examples
from unseen.judge.retraining import leave_one_out, subset_truth
from unseen.runs import Run
from unseen.scoring import run_examples
from unseen.torchrun import is_first, process_count
from unseen.training import first, holding, launch, make_fabric

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric


def truth(
    run: Run,
    members: int = 400,
    fraction: float = 0.7,
    left_out: Sequence[int] | None = None,
    *,
    data_dir: str | Path | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    devices: int = 1,
    progress: Callable[[int], None] | None = None,
) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """What a run's scores should have said: retraining by its recipe, kept in its ``truth.parquet`` and ``truth.json``.

    Args:
        left_out: positions for exact leave-one-out in place of random subsets.
        data: what the run was made of, where that was not a name.
        model: see ``data``.
        devices: processes (or GPUs), which share the chunks of members. Chunks that were finished before are not trained again.
    """
    config, examples = run_examples(run, data, model, data_dir)
    job = partial(_truth, run, config, examples, members, fraction, left_out, model)
    with holding(run):
        if process_count(devices) > 1:  # the processes leave their chunks in the run; the first one then finds them all there
            launch(job, devices, config.training.precision)
        table, facts = first(partial(job, make_fabric(1, config.training.precision), progress))
        if is_first():
            run.write_table("truth", table)
            run.write_json("truth.json", facts)
    return table, facts


def _truth(
    run: Run,
    config: Config,
    examples: Examples,
    members: int,
    fraction: float,
    left_out: Sequence[int] | None,
    model: nn.Module | None,
    fabric: "Fabric",
    progress: Callable[[int], None] | None = None,
) -> "tuple[pl.DataFrame, dict[str, Any]]":
    if left_out is None:
        return subset_truth(examples, config, members, fraction, seed=config.seed, run=run, fabric=fabric, model=model, progress=progress)
    seeds = range(config.seed, config.seed + max(3, config.seeds))
    table = leave_one_out(examples, config, left_out, seeds, run=run, fabric=fabric, model=model)
    return table, {"left_out": len(left_out), "seeds": len(seeds), "reliability": None}
