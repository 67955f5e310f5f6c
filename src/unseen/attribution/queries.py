"""Queries: the predictions that influence is asked of. Examples of the data set, or inputs of one's own with their labels."""

import re

import torch
from torch import Tensor

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.training import share as part_of

Queries = Examples | tuple[Tensor, Tensor]
"""An ``Examples``, or standardised inputs (queries, ...) and int64 labels (queries,)."""

ALLOWED = "Write test, test[:100], train[5], train[10:20], or a list of index such as 3,17,99."


def count(queries: Queries) -> int:
    """How many."""
    return len(queries) if isinstance(queries, Examples) else len(queries[1])


def batch(queries: Queries, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the queries at these positions, int64 (B,)."""
    if isinstance(queries, Examples):
        x, labels, _ = queries.batch(positions)
        return x, labels
    x, labels = queries
    return x[positions.to(x.device)], labels[positions.to(labels.device)]


def share(queries: Queries, rank: int, world: int, device: torch.device) -> Queries:
    """Process ``rank``'s of ``world`` equal shares, on its device."""
    some = part_of(count(queries), rank, world)
    if isinstance(queries, Examples):
        return queries.select(torch.arange(some.start, some.stop)).to(device)
    x, labels = (part[some].to(device) for part in queries)
    return x, labels


def names(queries: Queries) -> tuple[Tensor, list[str]]:
    """Index and id of each; queries of one's own are numbered and called query/<number>."""
    if isinstance(queries, Examples):
        return queries.index.cpu(), queries.ids
    return torch.arange(count(queries)), [f"query/{i}" for i in range(count(queries))]


def parse_queries(text: str, examples: Examples) -> Examples:
    """Queries as written on the command line: ``test``, ``test[:100]``, ``train[5]``, ``train[10:20]``, or an index list ``3,17,99``.

    Raises UnseenError for anything else, for positions that are not there, and for an empty choice.

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
