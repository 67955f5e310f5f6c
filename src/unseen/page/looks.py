"""Where examples lie among each other: two dimensions for the map, and the nearest of those that have cards."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.curate import directions, projected
from unseen.data import Examples, Lazy
from unseen.features import extract
from unseen.page.related import NEAREST
from unseen.runs import Run
from unseen.scoring import cache_folder

if TYPE_CHECKING:
    import polars as pl

MOST = 70_000  # examples: of more, what the networks say places them
LARGEST = 300_000_000  # numbers of the inputs of all
ROWS = 512
PLACES = 512  # of hashed words

Plane = NDArray[np.float32]


def looks(run: Run, examples: Examples) -> Tensor | None:
    """What each training example looks like: float32 (n, at most 128), each row of norm 1; None where it would take too long.

    The features that the run scored, which are in the cache, else the standardised inputs; of texts their words: what ``tfidf`` learns
    takes longer than all the rest of a page.
    """
    train = examples.train
    if len(train) > MOST:
        return None
    if train.texts is not None:
        return projected(directions(words(train.texts)))
    kind = run.config.data.features
    if kind is None:
        size = int(np.prod(train.shape)) * len(train)
        if size > LARGEST or (isinstance(train.inputs, Lazy) and size > LARGEST // 10):
            return None
        return projected(directions(extract(train, "pixels").tensor()))
    rows = extract(examples, kind, cache=cache_folder()).tensor()  # chunks of the cache are of all examples
    return projected(directions(rows[: len(train)]))


def words(texts: Sequence[str]) -> Tensor:
    """The words of each text, weighted by log(texts / texts that have it), with signs in 512 places by their hash: float32 (n, 512).

    Feature hashing: Weinberger et al., 2009.
    """
    found = [set(re.findall(r"\w+", text.lower())) for text in texts]
    frequency = Counter(chain.from_iterable(found))
    rows = np.repeat(np.arange(len(found)), [len(some) for some in found])
    flat = list(chain.from_iterable(sorted(some) for some in found))
    hashes = np.array([crc32(word.encode()) for word in flat], dtype=np.int64)
    weights = np.log(len(found) / np.array([frequency[word] for word in flat], dtype=np.float64).clip(1))
    made = np.zeros((len(found), PLACES), np.float32)
    np.add.at(made, (rows, hashes % PLACES), np.where(hashes >> 31, weights, -weights))
    return torch.from_numpy(made)


def plane(rows: Tensor) -> Plane:
    """The first two principal components of rows (n, d): float32 (n, 2), the second 0 where there is no second."""
    centred = rows.double() - rows.double().mean(0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    first = axes[:, -2:].flip(1)
    first = first * first[first.abs().argmax(0), torch.arange(first.shape[1])].sign()  # eigenvectors have no sign of their own
    found = torch.zeros(len(rows), 2)
    found[:, : first.shape[1]] = (centred @ first).float()
    return found.numpy()


def said_plane(probabilities: NDArray[Any]) -> Plane:
    """The same of what the networks that never saw an example say: logarithms of probabilities (n, classes), floored at e^-9."""
    return plane(torch.as_tensor(np.log(np.maximum(probabilities, np.exp(-9.0)))))


def nearest_of(rows: Tensor, index: NDArray[np.int64], wanted: NDArray[np.int64]) -> "pl.DataFrame":
    """The six nearest of some examples among all others.

    Args:
        rows: (n, d), of norm 1.
        index: of the rows, (n,).
        wanted: index of the examples asked for.

    Returns:
        Columns index, other, value (the cosine), the nearest first.
    """
    import polars as pl

    order = np.argsort(index)
    places = torch.as_tensor(order[np.searchsorted(index, wanted, sorter=order)])
    count, parts = min(NEAREST, len(rows) - 1), []
    for some in places.split(ROWS):
        cosine = rows[some] @ rows.T
        cosine[torch.arange(len(some)), some] = -2.0
        value, other = cosine.topk(count, dim=1)
        columns = {
            "index": index[some.numpy()].repeat(count),
            "other": index[other.flatten().numpy()],
            "value": value.flatten().double().numpy(),
        }
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts) if parts else pl.DataFrame(schema={"index": pl.Int64, "other": pl.Int64, "value": pl.Float64})
