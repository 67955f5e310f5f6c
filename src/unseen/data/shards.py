"""Data that do not fit in memory: a source in shards, each made when it is needed."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unseen.data.frames import TEST_SPLITS
from unseen.data.layouts import parquet_files
from unseen.data.raw import Table
from unseen.data.sources import CLASSES, data_folder
from unseen.errors import UnseenError, needs

ROWS = 100_000  # of a shard of one large file


@dataclass(frozen=True)
class Shards:
    """A data set in pieces, each of which fits in memory; the whole need not.

    Args:
        count: how many.
        make: from a shard's number to what ``load`` takes: (x, y), a path of a table or .npz, a ``datasets.Dataset``. A function of the
            number alone: every shard is made several times, and one that comes out another way is refused.
        name: of the whole.
        test: the last so many shards are the test split.
        classes: names of the labels, where the shards do not declare them; else the sorted values that occur.
        names: of the shards, for error messages.

    Example:
        >>> import tempfile, torch, unseen
        >>> def make(number):  # 100 examples a shard, out of nothing but their positions
        ...     x = unseen.hashing.uniform(torch.arange(800).view(100, 8) + 800 * number, "x").float()
        ...     return x, (x.sum(1) > 4).long()
        >>> run = unseen.score(unseen.Shards(3, make), hidden=(64,), epochs=2, out=tempfile.mkdtemp())
        >>> len(run.scores), sorted(path.name for path in (run.path / "scores").iterdir())
        (238, ['00000.parquet', '00001.parquet', '00002.parquet'])
    """

    count: int
    make: Callable[[int], Any]
    name: str = "shards"
    test: int = 0
    classes: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.test < self.count:
            raise UnseenError(f"Got {self.count} shards, {self.test} of them test. Allowed: at least one, and at least one to train on.")

    def label(self, number: int) -> str:
        """How to call a shard."""
        return f"shard {number} of {self.count}" + (f" ({self.names[number]})" if self.names else "")


def find_shards(data: Any, data_dir: str | Path | None = None) -> Shards:
    """The shards of a source.

    Those are ``Shards``, a folder of parquet files (or of .npz files), one large parquet file, which is cut by its row groups, or a
    streaming set of the package ``datasets``.

    Raises:
        UnseenError: for anything else, and for a set of numbered files (train-00000-of-00003.parquet) with one missing.
    """
    if isinstance(data, Shards):
        return data
    if is_stream(data):
        return _streams(data)
    path = data_folder(data_dir) / data if isinstance(data, str) and data in CLASSES else Path(str(data))
    if path.suffix == ".parquet" and path.is_file():
        return _row_groups(path)
    train, test = parquet_files(path) if path.is_dir() else ([], [])
    train = train or (sorted(path.glob("*.npz")) if path.is_dir() else [])
    if not train:
        raise UnseenError(
            f"{path if isinstance(data, str | Path) else type(data).__name__} has no shards. Allowed: a folder of .parquet or .npz files, "
            "unseen.Shards, or a streaming datasets.IterableDataset. Write the data as several files, or leave --shards out."
        )
    for files in (train, test):
        _check_numbers(files)
    files = train + test
    return Shards(len(files), files.__getitem__, path.name, len(test), CLASSES.get(str(data)), tuple(map(str, files)))


def _row_groups(path: Path) -> Shards:
    """One parquet file, cut by its row groups: some of about ``ROWS`` rows, a whole number of groups each."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise needs("hub", error) from error
    try:
        metadata = pyarrow.parquet.read_metadata(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UnseenError(f"Cannot read {path}: {error}. Repair the file, or get it again.") from error
    groups: list[list[int]] = [[]]
    rows = 0
    for number in range(metadata.num_row_groups):
        count = metadata.row_group(number).num_rows
        if groups[-1] and rows + count > ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(number)
        rows += count
    names = tuple(f"{path}, row groups {group[0]} to {group[-1]}" for group in groups if group)
    return Shards(len(groups), partial(_read_groups, path, groups), path.stem, names=names)


def _read_groups(path: Path, groups: list[list[int]], number: int) -> Any:
    """Some row groups of a file, as the ``Table`` that ``read`` takes."""
    import polars as pl
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        frame = pl.from_arrow(file.read_row_groups(groups[number]))
        metadata = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    return Table(path.stem, frame, metadata.decode())  # type: ignore[arg-type]


def is_stream(data: Any) -> bool:
    """Whether this is a streaming data set of the package ``datasets``."""
    datasets = sys.modules.get("datasets")  # an object of that package cannot exist before its import
    return datasets is not None and isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict)


def _streams(data: Any) -> Shards:
    import datasets

    splits = {"train": data} if isinstance(data, datasets.IterableDataset) else dict(data)
    if "train" not in splits:
        raise UnseenError(f"The stream has the splits {', '.join(splits)}. Allowed: one named train. Pass one alone.")
    test = next((splits[split] for split in TEST_SPLITS if split in splits), None)
    parts = [(part, number) for part in (splits["train"], test) if part is not None for number in range(part.num_shards)]

    def make(number: int) -> Any:
        whole, place = parts[number]
        part = whole.shard(num_shards=whole.num_shards, index=place)
        for column, kind in (part.features or {}).items():
            part = part.cast_column(column, datasets.Image(decode=False)) if isinstance(kind, datasets.Image) else part
        return datasets.Dataset.from_list(list(part), features=part.features)

    return Shards(len(parts), make, "stream", 0 if test is None else test.num_shards)


def _check_numbers(files: list[Path]) -> None:
    """Files named …-00002-of-00005 must all be there."""
    found = [re.fullmatch(r"(.*)-(\d+)-of-(\d+)", file.stem) for file in files]
    names = {file.stem for file in files}
    for match in found:
        missing = [f"{match[1]}-{n:0{len(match[2])}}-of-{match[3]}" for n in range(int(match[3]))] if match else []
        if absent := [name for name in missing if name not in names]:
            raise UnseenError(f"{files[0].parent} lacks {absent[0]}{files[0].suffix}, one of {match[3]} files. Get it.")  # type: ignore[index]
