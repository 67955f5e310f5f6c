"""Where examples lie among each other: two dimensions for the map, and the nearest of those that have cards."""

from typing import TYPE_CHECKING, Any

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

Plane = NDArray[np.float32]


def looks(run: Run, examples: Examples) -> Tensor | None:
    """What each training example looks like: float32 (n, at most 128), each row of norm 1; None where it would take too long.

    The features that the run scored, which are in the cache, else the standardised inputs; of texts their words.
    """
    train = examples.train
    if len(train) > MOST or train.inputs is None:
        return None
    kind = run.config.data.features
    if kind is None:
        kind = "tfidf" if train.texts is not None else "pixels"
        size = int(np.prod(train.shape)) * len(train)
        if size > LARGEST or (isinstance(train.inputs, Lazy) and size > LARGEST // 10):
            return None
    whole = examples if run.config.data.features else train  # chunks of the cache are of all examples
    rows = extract(whole, kind, cache=cache_folder() if run.config.data.features else None).tensor()
    return projected(directions(rows[: len(train)]))


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
