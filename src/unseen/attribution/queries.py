"""Queries: the predictions that influence is asked of. Examples of the data set, or inputs of one's own with their labels."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.training import share

ALLOWED = "Write test, test[:100], train[5], train[10:20], or a list of index such as 3,17,99."


Asked = Examples | tuple[Tensor, Tensor]
"""What a user asks: an ``Examples``, or standardised inputs (queries, ...) and int64 labels (queries,)."""


@dataclass(frozen=True)
class Queries:
    """The predictions that influence is asked of: inputs with their labels.

    Attributes:
        asked: examples of a data set, or inputs of one's own and their labels.
    """

    asked: Asked

    @classmethod
    def of(cls, asked: "Asked | Queries") -> "Queries":
        """Queries, of what they are given as."""
        return asked if isinstance(asked, Queries) else cls(asked)

    def __len__(self) -> int:
        """How many."""
        return len(self.asked) if isinstance(self.asked, Examples) else len(self.asked[1])

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of the queries at these positions, int64 (B,)."""
        if isinstance(self.asked, Examples):
            x, labels, _ = self.asked.batch(positions)
            return x, labels
        x, labels = self.asked
        return x[positions.to(x.device)], labels[positions.to(labels.device)]

    def share(self, rank: int, world: int, device: torch.device) -> "Queries":
        """Process ``rank``'s of ``world`` equal shares, on its device."""
        some = share(len(self), rank, world)
        if isinstance(self.asked, Examples):
            return Queries(self.asked.select(torch.arange(some.start, some.stop)).to(device))
        x, labels = (part[some].to(device) for part in self.asked)
        return Queries((x, labels))

    def names(self) -> tuple[Tensor, list[str]]:
        """Index and id of each; queries of one's own are numbered and called query/<number>."""
        if isinstance(self.asked, Examples):
            return self.asked.index.cpu(), self.asked.ids
        return torch.arange(len(self)), [f"query/{i}" for i in range(len(self))]


def parse_queries(text: str, examples: Examples) -> Examples:
    """Queries as written on the command line: ``test``, ``test[:100]``, ``train[5]``, ``train[10:20]``, or an index list ``3,17,99``.

    Raises:
        UnseenError: for anything else, for positions that are not there, and for an empty choice.

    >>> import unseen
    >>> digits = unseen.load("digits")
    >>> len(parse_queries("test[:100]", digits)), parse_queries("3,17", digits).index.tolist()
    (100, [3, 17])
    """
    if re.fullmatch(r"\d+(,\d+)*", text):
        return _by_index([int(part) for part in text.split(",")], examples)
    match = re.fullmatch(r"(train|test)(?:\[(?:(\d+)|(\d*):(\d*))\])?", text)
    if not match:
        raise UnseenError(f"{text!r} does not name queries. {ALLOWED}")
    split, one, first, last = match.groups()
    part = examples.train if split == "train" else examples.test
    start = int(one or first or 0)
    stop = start + 1 if one else int(last) if last else len(part)
    positions = range(len(part))[start:stop]
    if not positions:
        raise UnseenError(f"{text!r} names no example: {split} of {examples.name} has {len(part):,}. {ALLOWED}")
    return part.select(list(positions))


def _by_index(wanted: list[int], examples: Examples) -> Examples:
    places = {index: position for position, index in enumerate(examples.index.tolist())}
    if missing := [index for index in wanted if index not in places]:
        raise UnseenError(
            f"No example has the index {missing[0]}. {examples.name} has {len(places):,}, from {min(places)} to {max(places)}."
        )
    return examples.select([places[index] for index in wanted])
