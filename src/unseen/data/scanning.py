"""The data of a run, shard by shard: what one pass over the shards finds, and each read again when it is needed."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.config import Config
from unseen.data.examples import Examples
from unseen.data.labels import class_order
from unseen.data.loading import examples_of
from unseen.data.moments import Moments
from unseen.data.raw import Columns, Raw
from unseen.data.shards import Shards
from unseen.data.sources import read
from unseen.data.splits import null_mask, trained
from unseen.errors import UnseenError
from unseen.hashing import hash64, uniform


@dataclass(frozen=True, eq=False, repr=False)
class Sharded:
    """All the examples of a run in one shard or many; data in memory are one shard.

    Attributes:
        name: of the data set.
        classes: names of the labels 0, 1, … of the whole.
        counts: examples of each shard.
        trains: how many of each are trained on.
        read: from a shard's number to its examples, of which the last one read is kept.
        index: from a shard's number to the index of its examples, int64, and which of them are of the train split, bool.
        label: from a shard's number to how a message calls it.
    """

    name: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    trains: tuple[int, ...]
    read: Callable[[int], Examples]
    index: Callable[[int], tuple[Tensor, Tensor]]
    label: Callable[[int], str] = "shard {}".format
    last: dict[int, Examples] = field(default_factory=dict)

    @classmethod
    def of(cls, examples: Examples, null_fraction: float, seed: int) -> "Sharded":
        """Examples in memory as one shard."""
        count = len(trained(examples, null_fraction, seed))
        return cls(examples.name, examples.classes, (len(examples),), (count,), (examples,).__getitem__, partial(_index_of, examples))

    def to(self, device: torch.device) -> "Sharded":
        """With the one shard of data in memory on a device; other shards are moved when they are read."""
        return replace(self, read=(self[0].to(device),).__getitem__, last={}) if self.is_whole else self

    @property
    def is_whole(self) -> bool:
        """Whether all examples are in memory at once."""
        return len(self.counts) == 1

    def __len__(self) -> int:
        """Number of shards."""
        return len(self.counts)

    def __getitem__(self, number: int) -> Examples:
        """The examples of a shard. Raises UnseenError where it is not what ``scan`` saw."""
        if number not in self.last:
            self.last.clear()
            self.last[number] = self.read(number)
        return self.last[number]

    def walk(self, numbers: Sequence[int]) -> Iterator[Examples]:
        """The examples of some shards, the next one read by a thread while the one before is worked on."""
        if len(numbers) < 2 or self.is_whole:
            yield from map(self.__getitem__, numbers)
            return
        self.last.clear()
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, numbers[0])
            for following in [*numbers[1:], None]:
                examples = coming.result()
                if following is not None:
                    coming = reader.submit(self.read, following)
                yield examples
                del examples  # else there would be three

    def windows(self, seed: int, epoch: int, most: int) -> list[list[int]]:
        """The shards that are trained on in the order of one epoch, by the hash of (seed, epoch, number), cut into windows.

        A window is a row of neighbours in that order with up to ``most`` trained examples, or one shard: their examples share batches.
        """
        numbers = torch.arange(len(self))[torch.tensor(self.trains) > 0]
        windows: list[list[int]] = []
        room = 0
        for number in numbers[hash64(numbers, seed, "shards", epoch).argsort()].tolist():
            if self.trains[number] > room:
                windows.append([])
                room = most
            windows[-1].append(number)
            room -= self.trains[number]
        return windows

    def draws(self, *purpose: int | str, train_only: bool = False) -> Iterator[Tensor]:
        """A uniform number of each example, shard by shard: a function of (purpose, index)."""
        for index, of_train in map(self.index, range(len(self))):
            yield uniform(index[of_train] if train_only else index, *purpose)


def _index_of(examples: Examples, _: int) -> tuple[Tensor, Tensor]:
    return examples.index.cpu(), torch.tensor([split != "test" for split in examples.split])


@dataclass(frozen=True, eq=False, repr=False)
class _Source:
    """Shards as ``scan`` found them, which are read again and compared with what they were.

    Attributes:
        starts: how many examples come before each shard.
        train_rows: examples of the train shards.
        mean: of the whole, as in ``Examples``.
        std: see ``mean``.
        prints: a checksum of each shard.
        is_counted: whether an example's index is its position, so that its split follows from that.
        change: what is done to a shard when it is read: noise.
    """

    shards: Shards
    config: Config
    counts: tuple[int, ...]
    starts: tuple[int, ...]
    train_rows: int
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    prints: tuple[int, ...]
    is_counted: bool
    change: Callable[[Examples], Examples] | None = None

    def read(self, number: int) -> Examples:
        """The examples of a shard, as the part of the whole that it is."""
        piece = read_piece(self.shards, number, self.config, self.starts[number], self.train_rows)[0]
        if _print(piece) != self.prints[number]:
            name = self.shards.label(number).capitalize()
            raise UnseenError(f"{name} is not what it was when the run began. Restore it, or start again with --force.")
        places = {name: place for place, name in enumerate(self.classes)}
        labels = torch.tensor([places[name] for name in piece.classes])[piece.labels]
        if isinstance(piece.inputs, Tensor) and piece.inputs.dtype == torch.float64 and self.mean.dtype == torch.float32:
            piece = replace(piece, inputs=piece.inputs.float())  # which the whole says loses nothing
        piece = replace(piece, labels=labels, classes=self.classes, mean=self.mean, std=self.std, name=self.shards.name)
        return self.change(piece) if self.change else piece

    def index(self, number: int) -> tuple[Tensor, Tensor]:
        """See ``Sharded``; nothing is read where the index is the position."""
        if self.is_counted:
            index = self.starts[number] + torch.arange(self.counts[number])
            return index, ~_test_rows(self.shards, number, index, self.config)
        piece = read_piece(self.shards, number, self.config, self.starts[number], self.train_rows)[0]
        return _index_of(piece, number)


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """What ``scan`` found. ``sharded(change)`` gives the shards, each changed when it is read."""

    source: _Source
    trains: tuple[int, ...]

    @property
    def print(self) -> int:
        """A checksum of the whole."""
        return zlib.crc32(repr((self.source.counts, self.source.prints)).encode())

    def sharded(self, change: Callable[[Examples], Examples] | None = None) -> Sharded:
        """The shards. change: a function of a shard's examples."""
        source, shards = replace(self.source, change=change), self.source.shards
        return Sharded(shards.name, source.classes, source.counts, self.trains, source.read, source.index, shards.label)


def scan(shards: Shards, config: Config) -> Scan:
    """Read every shard once: check that they belong together, count, and find classes, mean and std of the whole.

    Cost: a pass over the data; memory: one shard.

    Raises:
        UnseenError: naming the shard: one that is empty, unreadable or missing; other columns, shapes, types or classes than the first;
            an index that occurs twice (an index of one's own must ascend from shard to shard, so that this can be seen).
    """
    first: tuple[Raw, Examples] | None = None
    counts: list[int] = []
    trains: list[int] = []
    prints: list[int] = []
    names: set[str] = set()
    moments, largest, train_rows, is_counted = None, -1, 0, True
    for number in range(shards.count):
        piece, raw = read_piece(shards, number, config, sum(counts), train_rows)
        first = first or (raw, piece)
        _check_alike(shards.label(number), (raw, piece), first)
        largest = _checked_order(shards, number, piece.index, largest)
        train = piece.train
        moments = _sum(moments, Moments.of(train.inputs) if len(train) else None)  # type: ignore[arg-type]
        counted = piece if config.data.join_test else train
        trains.append(int((~null_mask(counted.index, config.noise.null_fraction, config.seed)).sum()))
        counts.append(len(piece))
        prints.append(_print(piece))
        is_counted = is_counted and raw.index is None and raw.test is None
        train_rows += len(piece) if number < shards.count - shards.test else 0
        names |= set(piece.classes)
    classes = first[0].classes if first and first[0].classes else tuple(sorted(names, key=class_order(list(names))))
    if len(classes) < 2 or moments is None:
        raise UnseenError(f"The shards of {shards.name} have the classes [{', '.join(classes)}]. Allowed: two or more. Add a class.")
    starts = np.cumsum([0, *counts]).tolist()
    source = _Source(
        shards, config, tuple(counts), tuple(starts[:-1]), train_rows, classes, *moments.mean_and_std(), tuple(prints), is_counted
    )
    return Scan(source, tuple(trains))


def _checked_order(shards: Shards, number: int, index: Tensor, largest: int) -> int:
    """The largest index so far. Raises UnseenError where this shard's begins before it."""
    if int(index.min()) <= largest:
        raise UnseenError(
            f"The index of {shards.label(number)} begins at {int(index.min())}, and the one before ends at {largest}. Allowed: "
            "ascending from shard to shard, so that none occurs twice. Sort by it, or drop the column: then positions count."
        )
    return int(index.max())


def read_piece(shards: Shards, number: int, config: Config, start: int, train_rows: int) -> tuple[Examples, Raw]:
    """A shard with its own classes and without standardisation, and what its source gave.

    Args:
        start: examples before it.
        train_rows: examples of the train shards (before it).
    """
    try:
        raw = read(shards.make(number), None, Columns(config.data.target, whole=False))
        raw = replace(raw, classes=raw.classes or shards.classes)
        count = len(raw.labels)
        is_test = number >= shards.count - shards.test
        prefix, before = ("test", start - train_rows) if is_test else ("train" if shards.test else "row", start)
        ids = [f"{prefix}/{before + row}" for row in range(count)] if raw.ids is None else raw.ids
        index = start + torch.arange(count) if raw.index is None else torch.from_numpy(np.asarray(raw.index).astype(np.int64))
        test = _test_rows(shards, number, index, config) if raw.test is None else raw.test
        piece = examples_of(replace(raw, ids=ids, test=test), image_size=config.data.image_size, memory_gib=float("inf"), is_piece=True)
    except UnseenError as error:
        raise UnseenError(f"In {shards.label(number)}: {error}") from error
    except Exception as error:  # a user's function may raise anything
        raise UnseenError(f"Could not make {shards.label(number)}: {type(error).__name__}: {error}. Mend its source.") from error
    return (piece if raw.index is not None else replace(piece, index=piece.index + start)), raw


def _test_rows(shards: Shards, number: int, index: Tensor, config: Config) -> Tensor:
    """Which rows of a shard are of the test split: those of the last shards, or a share of all."""
    if shards.test:
        return torch.full((len(index),), number >= shards.count - shards.test)
    return uniform(index, config.seed, "test") < config.data.held_out


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
