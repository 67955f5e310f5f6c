"""What would be read of a data set, and what not, before anything is trained."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from unseen.commands.following import flags, following

if TYPE_CHECKING:
    from unseen.data import Reading
    from unseen.scoring import Estimate

COLUMNS = ("target", "text", "image_column", "id_column", "split_column", "drop", "separator", "encoding")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SHOWN = 20  # rows of a table on the screen; JSON has all


@dataclass(frozen=True)
class Data:
    """Say what would be read of a data set: splits, classes, columns, sizes, what is left out and why. Nothing is trained."""

    data: Positional[str]
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name[@revision]"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    target: str | None = None
    """column of the class in a table"""
    text: str | None = None
    """column of texts in a table, which become the input"""
    image_column: str | None = None
    """column of pictures, or of their paths relative to the table"""
    id_column: str | None = None
    """column that names each example"""
    split_column: str | None = None
    """column of a table that says train, test, …"""
    drop: tuple[str, ...] = ()
    """columns that are left out"""
    separator: str | None = None
    """what separates the fields of a CSV; default: found from its first lines"""
    encoding: str | None = None
    """encoding of a CSV; default: found from its bytes"""
    limit: int | None = None
    """use only the first N training examples"""
    test_fraction: float | None = None
    """share held out where the data has no test split; default: that of `unseen score`, 0.2, or 0 where it scores everything without"""
    image_size: int | None = None
    """resize images to this height and width"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Print what would be read."""
        from unseen.commands.table import print_rows, say
        from unseen.data import inspect, opened, sample
        from unseen.scoring import chosen, estimate, settings_of

        columns = {name: getattr(self, name) for name in COLUMNS}
        options = {name: getattr(self, name) for name in ("limit", "image_size", "test_fraction")}
        started = time.perf_counter()
        source = opened(self.data, self.data_dir, **columns)
        opening = time.perf_counter() - started
        asked = settings_of(self.data, "mlp", columns | options)
        settings = chosen(asked, sample(source, image_size=self.image_size))
        options |= {"image_size": settings.data.image_size, "test_fraction": settings.data.held_out}
        reading = inspect(source, **options)
        reading = replace(reading, seconds=round((reading.seconds or 0.0) + opening, 3))
        found = estimate(source, reading, settings)
        if self.json:
            print(json.dumps(reading.as_dict() | {"score": asdict(found)}, indent=1))
            return None
        for line in summary(reading, found):
            say(line)
        print()
        for title, rows in tables(reading):
            print_rows(rows[:SHOWN], title=title)
            if len(rows) > SHOWN:
                print(f"and {len(rows) - SHOWN:,} more (--json has them)\n")
        damaged = ("--skip-damaged",) if reading.damaged else ()
        return following("train, and score every example", "score", self.data, *flags(self), *damaged)


def summary(reading: "Reading", estimate: "Estimate") -> Iterator[str]:
    """Sentences: what it is, what is left out, what is changed or suspicious, duplicates, small classes, memory and time."""
    splits = ", ".join(f"{name} {count:,}" for name, count in reading.splits.items())
    read = f"{reading.read:,} examples ({splits}), inputs of shape {reading.shape}"
    yield f"{reading.kind or 'Data'}: {reading.found:,} {reading.unit} found, {read}."
    yield from (part.sentence for part in reading.skipped)
    yield from reading.suspicious
    yield from reading.notes
    for count, unit, what in ((reading.duplicate_files, "file", "bytes"), (reading.duplicate_rows, "row", "inputs")):
        if count:
            yield f"{count:,} {unit}s have the {what} of one before them." if count > 1 else f"1 {unit} has the {what} of one before it."
    if small := reading.small_classes:
        names = ", ".join(map(repr, list(small)[:SHOWN])) + (" …" if len(small) > SHOWN else "")
        yield f"Classes with fewer than 5 trained examples, too few to judge a label: {len(small):,}, namely {names}."
    if reading.memory_bytes is not None and reading.seconds is not None:
        yield f"Reading takes about {reading.seconds:,.1f} s, and the inputs {size(reading.memory_bytes)} of memory."
    how = f"--estimator {estimate.estimator}" + (f", features {estimate.features}" if estimate.features else "")
    takes = f"{duration(estimate.seconds)} on this machine, and {size(estimate.memory_bytes)} of memory in all"
    yield f"`unseen score` with its defaults ({how}) takes about {takes}."


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
