"""The main job: one training run, a run folder that scores every example."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unseen.config import Config
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.masks import Leak, advice, audit
from unseen.runs import Run, start_run
from unseen.scoring.estimators import cost_name, final_name, new_net, train_all
from unseen.scoring.inputs import example_table, prepare, shared_parameters, subset_table, watched_subsets
from unseen.scoring.loggers import log_history, make_loggers
from unseen.scoring.scores import (
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
from unseen.scoring.streaming import is_sharded, score_shards
from unseen.torchrun import is_first, process_count
from unseen.training import cost_facts, first, holding, launch

if TYPE_CHECKING:
    import polars as pl


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
    if settings.estimator == "members" and settings.members % process_count(devices):
        raise UnseenError(
            f"{settings.members} members do not divide among {process_count(devices)} processes. Make --members a multiple of them."
        )
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
    trained = table["trained"].to_numpy()
    confidence = self_confidence(probabilities[trained], table["given_label"].to_numpy()[trained])
    table = with_judgement(table, probabilities, floor, q_values, confidence)
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
