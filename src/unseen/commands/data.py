"""What would be read of a data set, and what not, before anything is trained."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from unseen.data import Reading

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SHOWN = 20  # rows of a table on the screen; JSON has all


@dataclass(frozen=True)
class Data:
    """Say what would be read of a data set: splits, classes, columns, sizes, what is left out and why. Nothing is trained."""

    data: Positional[str]
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name[@revision]"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    target: str | None = None
    """column of the class in a table"""
    text: str | None = None
    """column of texts in a table, which become the input"""
    image_column: str | None = None
    """column of pictures, or of their paths relative to the table"""
    id_column: str | None = None
    """column that names each example"""
    split_column: str | None = None
    """column that says of each row which split it is in"""
    drop: tuple[str, ...] = ()
    """columns that are left out"""
    separator: str | None = None
    """of a CSV; default: found by looking"""
    encoding: str | None = None
    """of a CSV; default: found by looking"""
    limit: int | None = None
    """use only the first so many training examples"""
    test_fraction: float = 0.2
    """share held out where the data has no test split"""
    image_size: int | None = None
    """resize images to this height and width"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Print what would be read."""
        from unseen.commands.terminal import print_rows, printable
        from unseen.data import inspect

        names = ("data_dir", "target", "text", "image_column", "id_column", "split_column", "drop", "separator", "encoding", "limit")
        options = {name: getattr(self, name) for name in (*names, "test_fraction", "image_size")}
        reading = inspect(self.data, **options)
        estimate = score_estimate(reading)
        if self.json:
            print(json.dumps(reading.as_dict() | {"score": estimate}, indent=1))
            return
        for line in summary(reading, estimate):
            print(printable(line))
        for title, rows in tables(reading):
            print_rows(rows[:SHOWN], title=title)
            if len(rows) > SHOWN:
                print(f"and {len(rows) - SHOWN:,} more (--json has them)")


def summary(reading: "Reading", estimate: dict[str, float | None]) -> Iterator[str]:
    """Sentences: what it is, what is left out, what is changed or suspicious, duplicates, small classes, memory and time."""
    splits = ", ".join(f"{name} {count:,}" for name, count in reading.splits.items())
    read = f"{reading.read:,} examples ({splits}), inputs of shape {reading.shape}"
    yield f"{reading.kind or 'Data'}: {reading.found:,} {reading.unit} found, {read}."
    yield from (part.sentence for part in reading.skipped)
    yield from reading.suspicious
    yield from reading.notes
    for count, what in ((reading.duplicate_files, "files have the bytes"), (reading.duplicate_rows, "rows have the inputs")):
        if count:
            yield f"{count:,} {what} of one before them."
    if small := reading.small_classes:
        names = ", ".join(map(repr, list(small)[:SHOWN])) + (" …" if len(small) > SHOWN else "")
        yield f"Classes with fewer than 5 trained examples, too few to judge a label: {len(small):,}, namely {names}."
    if reading.memory_bytes is not None and reading.seconds is not None:
        yield f"Reading takes about {reading.seconds:,.1f} s, and the inputs {size(reading.memory_bytes)} of memory."
    if estimate["seconds"] is not None and estimate["memory_bytes"] is not None:
        takes = f"{duration(estimate['seconds'])} on this machine, and {size(estimate['memory_bytes'])} of memory"
        yield f"`unseen score` with its defaults takes about {takes}."


def tables(reading: "Reading") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Tables with their titles: splits, classes, sizes and modes of pictures, columns."""
    if reading.sources:
        yield "Splits", [{"split": name, "examples": count} for name, count in reading.sources.items()]
    names = list(dict.fromkeys([*reading.classes, *reading.tests]))
    yield "Classes", [{"class": repr(name), "train": reading.classes.get(name, 0), "test": reading.tests.get(name, 0)} for name in names]
    for title, counts in (("Sizes of pictures", reading.sizes), ("Modes of pictures", reading.modes)):
        if counts:
            yield title, [{"what": name, "pictures": count} for name, count in counts.items()]
    if reading.damaged:
        yield "Damaged pictures", [{"file": name} for name in reading.damaged]
    if reading.columns:
        yield "Columns", [{"column": part.name, "type": part.type, "becomes": part.becomes} for part in reading.columns]


def score_estimate(reading: "Reading") -> dict[str, float | None]:
    """Seconds and bytes that `unseen score` takes with its defaults: an order of magnitude, not a promise.

    The default is members: K multi-layer perceptrons of one hidden layer. A step of training costs 6 operations per weight and example,
    measuring 2, at the speed of one product of that size, which is timed. Memory is that of the inputs in float32, twice, and of the
    weights with gradients and momenta. None for texts, whose network is another.
    """
    import math

    from unseen.config import Config

    if len(reading.shape) == 2:
        return {"seconds": None, "memory_bytes": None}
    config = Config().resolved()
    features, classes = math.prod(reading.shape), max(len(reading.classes), 2)
    units = config.members.members * min(config.network.hidden[0], 128)
    weights = units * (features + classes)
    train, everyone = sum(reading.classes.values()), reading.read
    operations = weights * config.training.epochs * (6 * train + 2 * everyone)
    return {
        "seconds": operations / speed(min(units, 2048), min(features, 2048), config.training.batch_size),
        "memory_bytes": 8.0 * everyone * features + 12.0 * weights,
    }


def speed(units: int, features: int, batch: int) -> float:
    """Operations per second of a product (units, features) x (features, batch)."""
    import torch

    one, other = torch.randn(units, features), torch.randn(features, batch)
    one @ other
    started, times = time.perf_counter(), 0
    while time.perf_counter() - started < 0.1:
        one @ other
        times += 1
    return 2.0 * units * features * batch * times / (time.perf_counter() - started)


def size(count: float) -> str:
    """Bytes in a unit that suits them.

    >>> size(3), size(2_500_000)
    ('3 B', '2.4 MiB')
    """
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours.

    >>> duration(0.3), duration(200), duration(7000)
    ('1 s', '3 min', '1.9 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
