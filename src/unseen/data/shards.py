"""Data that do not fit in memory: a source in shards, each read when it is needed, and what one pass over them finds."""

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.labels import class_order
from unseen.config import Config
from unseen.data.examples import Examples
from unseen.data.loading import examples_of
from unseen.errors import UnseenError
from unseen.data.frames import TEST_SPLITS
from unseen.data.raw import Columns, Raw
from unseen.hashing import hash64, uniform
from unseen.data.moments import Moments
from unseen.data.layouts import parquet_files
from unseen.data.sources import CLASSES, data_folder, read
from unseen.data.splits import null_mask


@dataclass(frozen=True)
class Shards:
    """A data set in pieces, each of which fits in memory; the whole need not.

    Args:
        count: how many. make: from a shard's number to what ``load`` takes: (x, y), a path of a table or .npz, a ``datasets.Dataset``.
            A function of the number alone: every shard is made several times, and one that comes out another way is refused.
        name: of the whole. test: the last so many shards are the test split.
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
    """The shards of a source: ``Shards``, a folder of parquet files (or of .npz files), a streaming set of the package ``datasets``.

    Raises UnseenError for anything else, and for a set of numbered files (train-00000-of-00003.parquet) with one missing.
    """
    if isinstance(data, Shards):
        return data
    if is_stream(data):
        return _streams(data)
    path = data_folder(data_dir) / data if isinstance(data, str) and data in CLASSES else Path(str(data))
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


@dataclass(frozen=True, eq=False, repr=False)
class Sharded:
    """Shards as ``scan`` found them: ``sharded[number]`` reads one, as the part of the whole that it is.

    Args:
        counts: examples of each shard. starts: of each, how many come before it. trains: how many of each are trained on.
        classes, mean, std, shape: as in ``Examples``, of the whole. prints: a checksum of each shard.
        is_counted: the index of an example is its position, and its split follows from that.
        change: what is done to a shard when it is read: noise.
    """

    shards: Shards
    config: Config
    counts: tuple[int, ...]
    starts: tuple[int, ...]
    trains: tuple[int, ...]
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    prints: tuple[int, ...]
    is_counted: bool
    change: Callable[[Examples], Examples] | None = None
    last: dict[int, Examples] = field(default_factory=dict)

    def __len__(self) -> int:
        """Examples of the whole."""
        return sum(self.counts)

    def __getitem__(self, number: int) -> Examples:
        """The examples of a shard; the last one read is kept. Raises UnseenError where it is not what ``scan`` saw."""
        if number not in self.last:
            self.last.clear()
            piece = read_piece(self.shards, number, self.config, self.starts[number], self._train_rows)[0]
            if _print(piece) != self.prints[number]:
                name = self.shards.label(number).capitalize()
                raise UnseenError(f"{name} is not what it was when the run began. Restore it, or start again with --force.")
            places = {name: place for place, name in enumerate(self.classes)}
            labels = torch.tensor([places[name] for name in piece.classes])[piece.labels]
            whole = {"classes": self.classes, "mean": self.mean, "std": self.std, "name": self.shards.name}
            whole |= {"inputs": piece.inputs.float()} if self._rounds(piece) else {}  # type: ignore[union-attr]
            piece = replace(piece, labels=labels, **whole)  # type: ignore[arg-type]
            self.last[number] = self.change(piece) if self.change else piece
        return self.last[number]

    def order(self, seed: int, epoch: int) -> list[int]:
        """The shards that are trained on, in the order of one epoch: by the hash of (seed, epoch, number)."""
        numbers = torch.arange(len(self.counts))[torch.tensor(self.trains) > 0]
        return numbers[hash64(numbers, seed, "shards", epoch).argsort()].tolist()

    def index(self, train_only: bool = False) -> Iterator[Tensor]:
        """The index of the examples, shard by shard; nothing is read where it is the position. train_only: of the train split."""
        for number, (count, start) in enumerate(zip(self.counts, self.starts, strict=True)):
            if self.is_counted:
                index = start + torch.arange(count)
                yield index[~_test_rows(self.shards, number, index, self.config)] if train_only else index
            else:
                piece = read_piece(self.shards, number, self.config, start, self._train_rows)[0]
                yield piece.train.index if train_only else piece.index

    def _rounds(self, piece: Examples) -> bool:
        """Whether float32 holds what a shard gives in float64: the whole says so, as its mean is float32."""
        return isinstance(piece.inputs, Tensor) and piece.inputs.dtype == torch.float64 and self.mean.dtype == torch.float32

    @property
    def _train_rows(self) -> int:
        return sum(self.counts[: self.shards.count - self.shards.test])


def scan(shards: Shards, config: Config) -> Sharded:
    """Read every shard once: check that they belong together, count, and find classes, mean and std of the whole.

    Cost: a pass over the data; memory: one shard.

    Raises UnseenError, naming the shard: one that is empty, unreadable or missing; other columns, shapes, types or classes than the first;
    an index that occurs twice (an index of one's own must ascend from shard to shard, so that this can be seen).
    """
    first: tuple[Raw, Examples] | None = None
    counts, starts, trains, prints, names = [0], [0], [], [], set()
    moments, largest, train_rows, is_counted = None, -1, 0, True
    for number in range(shards.count):
        piece, raw = read_piece(shards, number, config, sum(counts), train_rows)
        first = first or (raw, piece)
        _check_alike(shards.label(number), (raw, piece), first)
        if int(piece.index.min()) <= largest:
            raise UnseenError(
                f"The index of {shards.label(number)} begins at {int(piece.index.min())}, and the one before ends at {largest}. Allowed: "
                "ascending from shard to shard, so that none occurs twice. Sort by it, or drop the column: then positions count."
            )
        largest = int(piece.index.max())
        train = piece.train
        moments = _sum(moments, Moments.of(train.inputs) if len(train) else None)  # type: ignore[arg-type]
        counted = piece if config.join_test else train
        trains.append(int((~null_mask(counted.index, config.null_fraction, config.seed)).sum()))
        counts.append(len(piece))
        starts.append(starts[-1] + len(piece))
        prints.append(_print(piece))
        is_counted = is_counted and raw.index is None and raw.test is None
        train_rows += len(piece) if number < shards.count - shards.test else 0
        names |= set(piece.classes)
    classes = first[0].classes if first and first[0].classes else tuple(sorted(names, key=class_order(list(names))))
    if len(classes) < 2 or moments is None:
        raise UnseenError(f"The shards of {shards.name} have the classes [{', '.join(classes)}]. Allowed: two or more. Add a class.")
    found = (tuple(counts[1:]), tuple(starts[:-1]), tuple(trains), classes, *moments.mean_and_std(), tuple(prints), is_counted)
    return Sharded(shards, config, *found)


def read_piece(shards: Shards, number: int, config: Config, start: int, train_rows: int) -> tuple[Examples, Raw]:
    """A shard with its own classes and without standardisation, and what its source gave.

    Args: start: examples before it. train_rows: examples of the train shards (before it).
    """
    try:
        raw = read(shards.make(number), None, Columns(config.target, whole=False))
        raw = replace(raw, classes=raw.classes or shards.classes)
        count = len(raw.labels)
        is_test = number >= shards.count - shards.test
        prefix, before = ("test", start - train_rows) if is_test else ("train" if shards.test else "row", start)
        ids = [f"{prefix}/{before + row}" for row in range(count)] if raw.ids is None else raw.ids
        index = start + torch.arange(count) if raw.index is None else torch.from_numpy(np.asarray(raw.index).astype(np.int64))
        test = _test_rows(shards, number, index, config) if raw.test is None else raw.test
        piece = examples_of(replace(raw, ids=ids, test=test), image_size=config.image_size, memory_gib=float("inf"), is_piece=True)
    except UnseenError as error:
        raise UnseenError(f"In {shards.label(number)}: {error}") from error
    except Exception as error:  # a user's function may raise anything
        raise UnseenError(f"Could not make {shards.label(number)}: {type(error).__name__}: {error}. Mend its source.") from error
    return (piece if raw.index is not None else replace(piece, index=piece.index + start)), raw


def _test_rows(shards: Shards, number: int, index: Tensor, config: Config) -> Tensor:
    """Which rows of a shard are of the test split: those of the last shards, or a share of all."""
    if shards.test:
        return torch.full((len(index),), number >= shards.count - shards.test)
    return uniform(index, config.seed, "test") < config.test_fraction


def _check_alike(name: str, shard: tuple[Raw, Examples], first: tuple[Raw, Examples]) -> None:
    facts = []
    for raw, piece in (shard, first):
        inputs: Any = piece.inputs
        kind = "text" if any(isinstance(label, str) for label in list(raw.labels[:1])) else "integers"
        facts.append(
            {
                "the features": ", ".join(raw.columns),
                "inputs of shape": piece.shape,
                "inputs of type": str(inputs.dtype).removeprefix("torch."),
                "labels of type": kind,
                "the declared classes": ", ".join(raw.classes or ()) or "none",
                "an index of its own": raw.index is not None,
            }
        )
    for what, value in facts[0].items():
        if value != facts[1][what]:
            raise UnseenError(
                f"{name.capitalize()} has {what} {value}, and the first shard {facts[1][what]}. Allowed: the same in all. "
                "Write the shards alike (texts as numbers, images in one size or with --image-size)."
            )


def _sum(one: Moments | None, other: Moments | None) -> Moments | None:
    return one + other if one and other else one or other


def _print(piece: Examples) -> int:
    """A checksum of a shard: its classes, labels, index and a few inputs."""
    inputs: Any = piece.inputs
    print_of = zlib.crc32("\n".join(piece.classes).encode())
    for values in (piece.labels, piece.index, inputs[:: max(1, len(inputs) // 64)]):
        print_of = zlib.crc32(values.numpy().tobytes(), print_of)
    return print_of
