"""The main job: from data and a configuration to a run folder that scores every example."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from unseen.config import Config
from unseen.data import Sharded
from unseen.masks import Leak, advice, audit
from unseen.runs import Run, open_run, start_run
from unseen.scoring.estimators import TurnOverDropout, estimator_of
from unseen.scoring.inputs import example_table, prepare, prepare_whole, settings_of, subset_table, watched_subsets
from unseen.scoring.loggers import log_history, make_loggers
from unseen.scoring.options import Options, with_options
from unseen.scoring.sameness import NAME as FINGERPRINT
from unseen.scoring.sameness import fingerprint, refuse_other_data, refuse_other_scores, unchanged
from unseen.scoring.seeds import train_seeds
from unseen.scoring.tables import remove_leftovers, table_name, write_tables
from unseen.torchrun import is_first, process_count
from unseen.training import first, holding, launch


@with_options
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
    **options: Unpack[Options],
) -> Run:
    """Train once and score every training example.

    Args:
        data: what ``load`` takes: a name, a path, arrays, a data set; or ``Shards``, or a streaming data set.
        model: a name, or your own network (not trained yet; it is copied for each seed).
        out: the run's folder; default runs/<data>-<model>-<hash of the configuration>.
        data_dir: where mnist/, cifar10/ … lie.
        devices: processes, or GPUs; those of ``torchrun`` where it started this one.
        resume: go on with an unfinished run.
        force: train again what is there.
        progress: show a bar, and say before pictures are read how long that takes, where it is long.
        loggers: csv, tensorboard, wandb, mlflow, or loggers of Lightning: they get every epoch when the run is finished.
        options: of ``Config``: epochs, random_labels, seed, …; `unseen score --help` says what each does.

    Returns:
        The run; ``run.scores`` is a Polars frame, one row per training example. A finished run of the same configuration is returned as
        it is.

    Raises:
        UnseenError: for bad input; nothing that was finished before is lost.

    Example:
        >>> import tempfile, unseen
        >>> run = unseen.score("digits", hidden=(64,), epochs=2, out=tempfile.mkdtemp())
        >>> run.scores.columns[:4]
        ['index', 'id', 'trained', 'given_label']
    """
    settings = settings_of(data, model, dict(options))
    if settings.data.shards and isinstance(data, str) and not force and (there := _finished(settings, out)):
        refuse_other_data(there, data, data_dir)
        first(partial(remove_leftovers, there))
        return there  # no example need be read to see that
    with unchanged(data, data_dir):
        settings, examples = prepare(data, model, data_dir, settings, _say if progress and is_first() else None)
        estimator_of(settings).check(settings, process_count(devices))
        folder = Path(out) if out else settings.folder()
        logged = make_loggers(loggers, folder)
        run = first(partial(start_run, folder, settings, resume, force))
        first(partial(_same_data, run, settings.data.data if isinstance(data, str) else data, data_dir))
    if run.finished:
        first(partial(remove_leftovers, run))
        return run
    with holding(run):
        first(partial(_begin, run, settings, examples))
        launch(
            partial(train_seeds, run=run, config=settings, data=examples, model=model, progress=progress),
            devices,
            settings.training.precision,
        )
        first(partial(write_tables, run, settings, examples, model))
        if is_first():
            log_history(run, logged)
    return run


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def begin_run(run: Run, settings: Config, examples: Sharded, data: Any, data_dir: str | Path | None) -> None:
    """What a run starts from: the tables of its examples and its subsets, and a note of what they are. The caller holds the run."""
    _same_data(run, data, data_dir)
    _begin(run, settings, examples)


def _same_data(run: Run, data: Any, data_dir: str | Path | None) -> None:
    """Note what a new run is made of. Raises UnseenError where one that is there was made of other data."""
    refuse_other_data(run, data, data_dir)
    if not (run.path / FINGERPRINT).exists() and not run.finished and (found := fingerprint(data, data_dir)) is not None:
        run.write_json(FINGERPRINT, found, indent=None)
    if (scores := run.config.measuring.scores) is not None:
        refuse_other_scores(run, open_run(scores))


def _finished(settings: Config, out: str | Path | None) -> Run | None:
    """The finished run of this configuration, where there is one."""
    run = Run(Path(out) if out else settings.folder())
    return run if (run.path / "config.json").exists() and run.finished and run.config == settings else None


def _begin(run: Run, settings: Config, data: Sharded) -> None:
    for number, examples in enumerate(data.walk(range(len(data)))):
        run.write_table(table_name("examples", number, data), example_table(examples))
    if settings.measuring.watch:
        run.write_table("subsets", subset_table(watched_subsets(settings, data[0])))


def audit_model(data: Any, model: str, data_dir: str | Path | None, examples: int, options: dict[str, Any]) -> tuple[list[Leak], str]:
    """``audit`` a named model, fresh, on the first training examples of a data set: the leaks and the advice."""
    settings, loaded = prepare_whole(data, model, data_dir, settings_of(data, model, {"estimator": "turnover"} | options))
    net = TurnOverDropout.network(settings, loaded, model, settings.seed)
    x, labels, index = loaded.train.batch(torch.arange(min(examples, len(loaded.train))))
    leaks = audit(net, x, labels, index)
    return leaks, advice(net, leaks)
