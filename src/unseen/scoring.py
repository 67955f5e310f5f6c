"""The main job: one training run, a run folder that scores every example."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unseen.audit import Leak, advice, audit
from unseen.config import Config
from unseen.cost import cost_facts
from unseen.data import Examples, load
from unseen.errors import UnseenError
from unseen.estimators import cost_name, final_name, new_net, train_all
from unseen.loggers import log_history, make_loggers
from unseen.prepare import example_table, load_options, prepare, run_examples, shared_parameters, subset_table, watched_subsets
from unseen.processes import count, first, holding, is_first, launch, make_fabric
from unseen.runs import Run, start_run
from unseen.scores import (
    NoiseFloor,
    floor_facts,
    free_scores,
    in_order,
    joined_scores,
    mean_probabilities,
    null_rows,
    plain_facts,
    rank_correlation,
    self_confidence,
    summarize,
    with_judgement,
    without_halves,
)
from unseen.streaming import is_sharded, score_shards

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric


def score(
    data: Any = "digits",
    model: str | nn.Module = "mlp",
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    devices: int = 1,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    loggers: Sequence[Any] = (),
    **config: Any,
) -> Run:
    """Train once with turn-over dropout and score every training example.

    Args:
        data: what ``load`` takes: a name, a path, arrays, a data set. model: a name, or your own network (not trained
            yet; it is copied for each seed).
        out: the run's folder; default runs/<data>-<model>-<hash of the configuration>.
        data_dir: where mnist/, cifar10/ … lie. devices: processes, or GPUs; those of ``torchrun`` where it started this one.
        resume: go on with an unfinished run. force: train again what is there. progress: show a bar.
        loggers: csv, tensorboard, wandb, mlflow, or loggers of Lightning: they get every epoch when the run is finished.
        config: fields of ``Config``: epochs, random_labels, seed, …

    Returns the run; ``run.scores`` is a Polars frame, one row per training example. A finished run of the same
    configuration is returned as it is.

    Raises UnseenError for bad input; nothing that was finished before is lost.

    Example:
        >>> import tempfile, unseen
        >>> run = unseen.score("digits", hidden=(64,), epochs=2, out=tempfile.mkdtemp())
        >>> run.scores.columns[:4]
        ['index', 'id', 'trained', 'given_label']
    """
    if is_sharded(data, config):
        return score_shards(data, model, out, data_dir, devices, resume, force, progress, config, loggers)
    settings, examples = prepare(data, model, data_dir, config)
    if settings.estimator == "members" and settings.members % count(devices):
        raise UnseenError(f"{settings.members} members do not divide among {count(devices)} processes. Make --members a multiple of them.")
    folder = Path(out) if out else settings.folder()
    logged = make_loggers(loggers, folder)
    run = first(partial(start_run, folder, settings, resume, force))
    if run.finished:
        first(run.remove_parts)  # of a run that was killed between its last table and this
        return run
    with holding(run):
        first(partial(_begin, run, settings, examples))
        job = partial(train_all, run=run, config=settings, examples=examples, model=model, progress=progress)
        launch(job, devices, settings.precision)
        first(partial(finish, run, settings, examples, model))
        if is_first():
            log_history(run, logged)
    return run


def _begin(run: Run, settings: Config, examples: Examples) -> None:
    run.write_table("examples", example_table(examples))
    if settings.watch:
        run.write_table("subsets", subset_table(watched_subsets(settings, examples)))


def finish(run: Run, config: Config, examples: Examples, model: str | nn.Module) -> None:
    """Join the parts into the run's tables; ``summary.json`` last, which marks the run as finished."""
    import polars as pl

    seeds = range(config.seed, config.seed + config.seeds)
    parts = sorted((run.path / "parts").glob("history-*.parquet"))
    history = pl.concat(run.table(f"parts/{part.stem}") for part in parts).sort("seed", "epoch", "index")
    finals = [run.table(final_name(seed).removesuffix(".parquet")) for seed in seeds]
    table, probabilities, facts = score_table(examples, config, history, finals)
    if config.estimator == "plain":
        history, table, facts = without_halves(history), without_halves(table), plain_facts(facts)
    else:
        run.write_table("unseen_probabilities", probabilities)
    run.write_table("history", history)
    run.write_table("scores", table, seed=str(config.seed))
    gradients = sorted((run.path / "parts").glob("gradients-*.parquet"))
    if gradients:
        run.write_table(
            "gradients", pl.concat(run.table(f"parts/{part.stem}") for part in gradients).sort("seed", "epoch", maintain_order=True)
        )
    for state in (run.path / "weights").glob("members-*.safetensors"):
        state.unlink()
    costs = cost_facts([run.read_json(cost_name(seed)) for seed in seeds])
    run.write_json("summary.json", facts | costs | {"classes": list(examples.classes)} | shared_parameters(config, examples, model))
    run.remove_parts()


def score_table(
    examples: Examples, config: Config, history: "pl.DataFrame", finals: "list[pl.DataFrame]"
) -> "tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]":
    """The score table, the unseen half's probabilities, and the facts of ``summary.json``."""
    import numpy as np
    import polars as pl

    table = joined_scores(example_table(examples), free_scores(history), finals, config)
    gaps, null_gaps = table["memorization"].to_numpy(), null_rows(table, config)["memorization"].to_numpy()
    floor = NoiseFloor.of(null_gaps) if len(null_gaps) > 1 else None
    q_values = floor.q_values(np.bincount(floor.above(gaps), minlength=len(null_gaps) + 1)) if floor else np.ones(1)
    probabilities = mean_probabilities(finals)
    table = with_judgement(table, probabilities, floor, q_values, self_confidence(probabilities, table["given_label"].to_numpy()))
    train_rows = (table["split"] != "test").to_numpy()
    facts = {"estimator": config.estimator} | summarize(table) | floor_facts(table, null_gaps, config)
    rows = table.filter(pl.col("split") != "test").drop("split")
    facts["seed_correlation"] = None if config.estimator == "plain" else _seed_correlation(finals, rows)
    columns = {"index": rows["index"]} | {f"p_{c}": probabilities[train_rows, c] for c in range(probabilities.shape[1])}
    return in_order(rows, config), pl.DataFrame(columns), facts


def _seed_correlation(finals: "Sequence[pl.DataFrame]", rows: "pl.DataFrame") -> float | None:
    if len(finals) < 2:
        return None
    kept = [final.join(rows.filter("trained").select("index"), on="index", how="semi", maintain_order="left") for final in finals]
    import numpy as np

    return rank_correlation(np.stack([(part["loss_unseen"] - part["loss_seen"]).to_numpy() for part in kept]))


def audit_model(data: Any, model: str, data_dir: str | Path | None, examples: int, config: dict[str, Any]) -> tuple[list[Leak], str]:
    """``audit`` a named model, fresh, on the first training examples of a data set: the leaks and the advice."""
    settings, loaded = prepare(data, model, data_dir, config)
    net = new_net(settings, loaded, model, settings.seed)
    x, labels, index = loaded.train.batch(torch.arange(min(examples, len(loaded.train))))
    leaks = audit(net, x, labels, index)
    return leaks, advice(net, leaks)


def plot_run(run: Run, data_dir: str | Path | None = None, out: Path | None = None) -> Path:
    """Write the overview figure of a run, or its long tail where the examples are no images; returns the path."""
    from unseen.plots import long_tail, overview, save_figure

    config = run.config
    try:
        examples = load(config.data, data_dir=data_dir, **load_options(config))
        figure = overview(run, examples) if len(examples.shape) == 3 else long_tail(run)
    except UnseenError:  # data that came from Python, or is not here: the tables still are
        figure = long_tail(run)
    return save_figure(figure, out or run.path / "overview.png", bbox_inches="tight")


def write_truth(
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
    """Retrain by the run's recipe and write its ``truth.parquet`` and ``truth.json``; see ``truth`` and ``leave_one_out``.

    Args: left_out: positions for exact leave-one-out in place of random subsets. data, model: what the run was made of, where that was
    not a name. devices: processes (or GPUs), which share the chunks of members. Chunks that were finished before are not trained again.
    """
    config, examples = run_examples(run, data, model, data_dir)
    job = partial(_truth, run, config, examples, members, fraction, left_out, model)
    with holding(run):
        if count(devices) > 1:  # the processes leave their chunks in the run; the first one then finds them all there
            launch(job, devices, config.precision)
        table, facts = first(partial(job, make_fabric(1, config.precision), progress))
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
    from unseen.truth import leave_one_out, truth

    if left_out is None:
        return truth(examples, config, members, fraction, seed=config.seed, run=run, fabric=fabric, model=model, progress=progress)
    seeds = range(config.seed, config.seed + max(3, config.seeds))
    table = leave_one_out(examples, config, left_out, seeds, run=run, fabric=fabric, model=model)
    return table, {"left_out": len(left_out), "seeds": len(seeds), "reliability": None}
