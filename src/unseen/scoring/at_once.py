"""One seed of a run by itself, so that the seeds of many runs can be trained side by side; ``score`` makes the tables of them.

Whoever calls these holds the run's lock for all of them (``Run.alone``) between ``begin`` and the last seed.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from unseen.config import Config
from unseen.data import Sharded
from unseen.runs import Run, start_run
from unseen.scoring.engine import begin_run
from unseen.scoring.inputs import prepare, settings_of
from unseen.scoring.parts import SeedParts
from unseen.scoring.seeds import train_seed
from unseen.training import make_fabric


def begin(data: str, model: str, out: Path, data_dir: Path | None, options: dict[str, Any]) -> list[int]:
    """Make a run's folder, or find it, and write what its seeds start from. Returns the seeds that are not trained yet."""
    settings, examples = _prepared(data, model, data_dir, tuple(sorted(options.items())))
    run = start_run(out, settings, resume=True)
    if run.finished:
        return []
    with run.alone():
        begin_run(run, settings, examples, data, data_dir)
    return missing_seeds(run, settings)


def missing_seeds(run: Run, settings: Config) -> list[int]:
    """The seeds of a run that are not trained to the end."""
    return [seed for seed in range(settings.seed, settings.seed + settings.seeds) if not SeedParts(run, seed).has_cost()]


def train_one(data: str, model: str, out: Path, data_dir: Path | None, options: dict[str, Any], seed: int) -> None:
    """Train and measure one seed of a run that ``begin`` made, from where it stands."""
    settings, examples = _prepared(data, model, data_dir, tuple(sorted(options.items())))
    run = Run(out)
    with run.held():
        train_seed(make_fabric(1, settings.training.precision), run, settings, examples, model, seed)


@lru_cache(1)  # seeds of one run follow each other
def _prepared(data: str, model: str, data_dir: Path | None, options: tuple[tuple[str, Any], ...]) -> tuple[Config, Sharded]:
    return prepare(data, model, data_dir, settings_of(data, model, dict(options)))
