"""What `unseen score` will take, before it starts: a small sample is scored, or measured, and the rest follows by proportion."""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.config import Config
from unseen.data import Examples, Raw, Reading, sample
from unseen.features import extract, parse_kind
from unseen.scoring.engine import score
from unseen.scoring.estimators import estimator_of
from unseen.scoring.inputs import load_options

FIXED = 5.0  # seconds of any run here, for imports and tables
SHORT = 20.0  # seconds of training below which operations are counted, and nothing is tried
WIDEST = 128  # hidden units of a member
FASTEST = 10  # times as fast as counted no run has been
SCORED = 1024  # examples that are scored, for two epochs more and for two less
DESCRIBED = 48  # pictures whose features are computed
TEXTS = 96  # texts of the same
WORDS = (1500, 10_000)  # features of the words of texts, at most, and texts that they are learned from
LANDMARKS = 2000  # features of the head, at most, where they are bent
EIGEN = 20  # operations of an eigenproblem (m x m), in units of m^3, for two of them
BESIDES = 96 * 2**20  # bytes that tables and their writers take
RIDGES = 31  # that the head tries


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Args:
        seconds: of the whole, from data to tables.
        memory_bytes: of the whole process at its largest.
        estimator: that `auto` takes, or the one asked for.
        features: that it takes in place of the inputs, where it does.
    """

    seconds: float
    memory_bytes: float
    estimator: str
    features: str | None


def estimate(source: Raw | Examples, reading: Reading, settings: Config) -> Estimate:
    """Time and memory of scoring these data with these options, within a factor of about two; nothing is kept.

    Args:
        source: opened; of its pictures a few are decoded.
        reading: what ``inspect`` says of it, with the seconds that reading takes.
        settings: the configuration, completed by ``chosen``.
    """
    is_fitted_at_once = "epochs" in estimator_of(settings).fixes
    seconds, memory = (_of_head if is_fitted_at_once else _of_epochs)(source, reading, settings)
    features = None
    if settings.data.features is not None:
        features = "+".join(parse_kind(settings.data.features, sample(source, image_size=settings.data.image_size))[0])
    return Estimate(seconds + (reading.seconds or 0.0), memory, settings.estimator, features)


def _of_epochs(source: Raw | Examples, reading: Reading, settings: Config) -> tuple[float, float]:
    """Of an estimator that trains in epochs. Where they may take long, a sample is scored for one epoch, and for three."""
    rows = reading.read
    memory = largest_memory() + 8.0 * rows * math.prod(reading.shape) + 40.0 * rows * settings.training.epochs
    counted = _counted(reading, settings)
    if counted < SHORT:
        return FIXED + counted, memory
    some = sample(source, SCORED, settings.data.image_size)
    classes = min(max(len(some.classes), 2), max(len(some) // 4, 2))  # those of a few may be too few, or each its own
    some = replace(some, labels=torch.arange(len(some)) % classes)
    options = {name: value for name, value in settings.flat().items() if name not in ("data", "model", *load_options(settings))}
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (1, 1, 3):  # the first time imports what it needs
            started = time.perf_counter()
            score(some, settings.network.model, out=Path(folder) / "run", force=True, **options | {"epochs": epochs})
            times[epochs] = time.perf_counter() - started
    each = max(times[3] - times[1], 0.0) / (2 * len(some))
    measured = times[1] + each * (settings.training.epochs * rows - len(some))
    return max(measured, FIXED + counted / FASTEST), memory  # on a busy machine three epochs may take no longer than one


def _counted(reading: Reading, settings: Config) -> float:
    """Seconds of members of one hidden layer by their operations: 6 per weight and example of training, 2 of measuring."""
    units = max(settings.members.members, 1) * max(16, min(settings.network.hidden[0] // 4, WIDEST))
    weights = units * (math.prod(reading.shape) + max(len(reading.classes), 2))
    return weights * settings.training.epochs * (6.0 * sum(reading.classes.values()) + 2.0 * reading.read) / speed(torch.float32)


def _of_head(source: Raw | Examples, reading: Reading, settings: Config) -> tuple[float, float]:
    """Of the ridge head: features of a few examples are computed, and what follows is counted in products of matrices."""
    some = sample(source, DESCRIBED if source.texts is None else TEXTS, settings.data.image_size)
    kind = settings.data.features or "auto"
    times = {}
    for number in (len(some) // 4, len(some) // 4, len(some)):  # the first time loads what it needs
        few = some.select(torch.arange(max(number, 2)))
        started = time.perf_counter()
        found = extract(few, kind)
        times[len(few)] = time.perf_counter() - started
    small, large = min(times), max(times)
    each = max(times[large] - times[small], 0.0) / max(large - small, 1)
    rows, width, classes = float(reading.read), float(found.dimensions), max(len(some.classes), 2)
    words = min(WORDS[0], rows - 1) if source.texts is not None else 0.0
    width += words - min(words, large - 1)
    features = min(LANDMARKS, rows) if found.bends else width
    double = 8 * min(rows, WORDS[1]) * words**2 + rows * features * (8 * features + 2 * RIDGES * (1 + classes)) + EIGEN * features**3
    single = 8 * rows * features * (width + features) if found.bends else 0.0
    seconds = times[small] + each * rows + double / speed(torch.float64) + single / speed(torch.float32)
    memory = largest_memory() + rows * (8.0 * width + 16.0 * features) + 40.0 * features**2
    return seconds, memory


def speed(kind: torch.dtype, side: int = 512) -> float:
    """Operations per second of a product of two square matrices."""
    one = torch.randn(side, side, dtype=kind)
    return 2.0 * side**3 / _seconds(lambda: one @ one)


def _seconds(deed: Callable[[], Tensor], least: float = 0.1) -> float:
    """Of one of many."""
    deed()
    started, times = time.perf_counter(), 0
    while time.perf_counter() - started < least:
        deed()
        times += 1
    return (time.perf_counter() - started) / times


def largest_memory() -> float:
    """The most that this process has held so far, in bytes."""
    try:
        import resource
    except ImportError:  # Windows has none
        return float(BESIDES)
    found: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(found * (1 if sys.platform == "darwin" else 1024)) + BESIDES
