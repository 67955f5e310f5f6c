"""Examples that stand in the data twice, in both splits, or outside every class: found by their features, near means a large cosine.

Features are centred and each is scaled to deviation 1, so that a common background does not make everything near to everything.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.data import Examples, Lazy
from unseen.errors import UnseenError
from unseen.hashing import uniform

ROWS, COLUMNS = 1024, 8192  # of a tile of products
NEAR = 0.9  # cosine
LOWEST = 0.5
NEIGHBOURS = 20
PROJECTIONS = 128
SLACK = 0.1  # of a projection's cosine
ROUNDING = 1e-5
CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of near examples: first < second, int64 (k,), and their cosines (k,), nearest first."""

    first: Tensor
    second: Tensor
    cosine: Tensor

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.first)

    def keep(self, chosen: Tensor) -> "Pairs":
        """Those pairs that a mask (k,) or places choose."""
        return Pairs(self.first[chosen], self.second[chosen], self.cosine[chosen])

    def __or__(self, others: "Pairs") -> "Pairs":
        """Those of both, each once."""
        both = torch.stack([torch.cat([self.first, others.first]), torch.cat([self.second, others.second])])
        places, inverse = both.unique(dim=1, return_inverse=True)
        cosine = self.cosine.new_empty(places.shape[1]).scatter_(0, inverse, torch.cat([self.cosine, others.cosine]))
        return Pairs(places[0], places[1], cosine).nearest_first()

    def nearest_first(self) -> "Pairs":
        """The same, by falling cosine."""
        return self.keep(self.cosine.argsort(descending=True, stable=True))


def directions(features: Tensor, like: Tensor | None = None) -> Tensor:
    """Rows of norm 1 of ``scaled`` features."""
    return torch.nn.functional.normalize(scaled(features, like), dim=1)


def scaled(features: Tensor, like: Tensor | None = None) -> Tensor:
    """Features (n, d) centred and scaled to deviation 1 by the moments of ``like``, or their own; constant ones are 0.

    Raises:
        UnseenError: for a NaN.
    """
    reference = (features if like is None else like).double()
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features).all(1)).nonzero()[0])
        raise UnseenError(f"The features of row {row} hold a NaN or an infinite number. Allowed: finite numbers. Look at that example.")
    mean, deviation = reference.mean(0), reference.std(0)
    inverse = torch.where(deviation > CONSTANT * (mean.abs() + deviation), 1 / deviation, 0.0)
    return (features.float() - mean.float()) * inverse.float()


def near_pairs(features: Tensor, near: float = NEAR, others: Tensor | None = None) -> Pairs:
    """All pairs of examples with a cosine of at least ``near``.

    Tiles of products of 128 random projections find candidates, .1 below ``near`` (six deviations of the projection's error at .9), and
    exact cosines decide. Memory: features, projections and candidates.

    Args:
        features: (n, d).
        near: cosine, above .5 and up to 1: below it projections find too much.
        others: (m, d): pairs of a row of ``features`` (first) and one of these (second), such as train and test; else within ``features``.

    Raises:
        UnseenError: for ``near`` out of range, or a NaN.
    """
    if not LOWEST < near <= 1:
        raise UnseenError(f"near is {near!r}. Allowed: a cosine above {LOWEST} and up to 1. Choose one, such as {NEAR}.")
    rows = directions(features)
    columns = None if others is None else directions(others, features)
    threshold = near - (SLACK if rows.shape[1] > PROJECTIONS else 0) - ROUNDING
    found = scan(projected(rows), threshold, None if columns is None else projected(columns))
    pairs = _with_cosines(found, rows, rows if columns is None else columns)
    return pairs.keep(pairs.cosine >= near - ROUNDING)


def pairs_above(keys: Tensor, threshold: float, features: Tensor, other_keys: Tensor | None = None, others: Tensor | None = None) -> Pairs:
    """Pairs whose keys (rows of norm 1) have a product of at least a threshold, with the cosines of their features: as ``near_pairs``."""
    rows = directions(features)
    return _with_cosines(scan(keys, threshold, other_keys), rows, rows if others is None else directions(others, features))


def scan(rows: Tensor, threshold: float, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Places of all pairs with a product of at least a threshold, tile by tile: a row and a later one, or a row and one of ``others``."""
    columns, found = rows if others is None else others, []
    for top in range(0, len(rows), ROWS):
        for left in range(0 if others is not None else top // COLUMNS * COLUMNS, len(columns), COLUMNS):
            places = candidates(rows[top : top + ROWS], columns[left : left + COLUMNS], threshold)
            first, second = places[:, 0] + top, places[:, 1] + left
            kept = first < second if others is None else torch.ones_like(first, dtype=torch.bool)
            found.append(torch.stack([first[kept], second[kept]]))
    first, second = torch.cat([torch.zeros(2, 0, dtype=torch.int64), *found], 1)
    return first, second


def _with_cosines(places: tuple[Tensor, Tensor], rows: Tensor, columns: Tensor) -> Pairs:
    """Pairs at these places, nearest first."""
    first, second = places
    parts = zip(first.split(ROWS), second.split(ROWS), strict=True)
    cosine = torch.cat([rows.new_empty(0), *((rows[some] * columns[other]).sum(1) for some, other in parts)]).clamp_max(1)
    return Pairs(first, second, cosine).nearest_first()


def projected(rows: Tensor) -> Tensor:
    """``shortened`` rows, of norm 1; those of fewer numbers stay as they are."""
    return rows if rows.shape[1] <= PROJECTIONS else torch.nn.functional.normalize(shortened(rows), dim=1)


def shortened(rows: Tensor) -> Tensor:
    """Rows (n, d) on 128 random directions (Johnson & Lindenstrauss); those of fewer numbers stay as they are."""
    size = rows.shape[1]
    if size <= PROJECTIONS:
        return rows
    return rows @ uniform(torch.arange(size * PROJECTIONS), "projections").mul(2).sub(1).view(size, PROJECTIONS).float()


def candidates(rows: Tensor, columns: Tensor, threshold: float) -> Tensor:
    """Places (k, 2) of products of at least a threshold; most rows have none, and are passed over by their maximum."""
    products = rows @ columns.T
    some = (products.amax(1) >= threshold).nonzero()[:, 0]
    places = (products[some] >= threshold).nonzero()
    places[:, 0] = some[places[:, 0]]
    return places


def exact_pairs(pairs: Pairs, firsts: Examples, seconds: Examples) -> Tensor:
    """Which pairs have the same inputs, bit for bit (texts: the same text): bool (k,). A thousand pairs are in memory at once.

    Args:
        pairs: places in the examples.
        firsts: of which ``pairs.first`` are.
        seconds: of which ``pairs.second`` are; maybe the same.
    """
    parts = zip(pairs.first.split(ROWS), pairs.second.split(ROWS), strict=True)
    return torch.cat([torch.zeros(0, dtype=torch.bool), *(_are_equal(firsts, one, seconds, two) for one, two in parts)])


def _are_equal(firsts: Examples, one: Tensor, seconds: Examples, two: Tensor) -> Tensor:
    if firsts.texts is not None and seconds.texts is not None:
        texts = zip(one.tolist(), two.tolist(), strict=True)
        return torch.tensor([firsts.texts[first] == seconds.texts[second] for first, second in texts], dtype=torch.bool)
    return (inputs_at(firsts, one) == inputs_at(seconds, two)).flatten(1).all(1)


def inputs_at(examples: Examples, places: Tensor) -> Tensor:
    """Inputs of some examples as they were read, in memory: of a thousand pictures, say."""
    inputs = examples.select(places).inputs
    return inputs.gather(torch.arange(len(inputs))) if isinstance(inputs, Lazy) else inputs


def groups(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """A number for each of ``count`` examples, the same for those that pairs connect: int64 (count,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_matrix((ones, (pairs.first.numpy(), pairs.second.numpy())), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def strangeness(features: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """How far each example is from everything else, float32 (n,): more than 1.5 is an outlier (Tukey 1977).

    The larger of two distances, each in interquartile ranges above its third quartile: the mean distance to the ``count`` nearest, measured
    on 128 random projections, and the distance to the mean of all. The first finds what lies between the classes, the second garbage:
    in many dimensions noise is not farther from its nearest than pictures are from theirs (LOG.md).
    """
    rows = scaled(features)
    return torch.maximum(_above(nearest_distance(shortened(rows), count)), _above(rows.norm(dim=1)))


def nearest_distance(rows: Tensor, count: int) -> Tensor:
    """Mean Euclidean distance of each row (n, d) to its ``count`` nearest, itself left out: float32 (n,)."""
    squares, found = rows.square().sum(1), []
    for some in torch.arange(len(rows)).split(ROWS):
        tile = squares[some, None] + squares - 2 * rows[some] @ rows.T
        tile[torch.arange(len(some)), some] = torch.inf
        found.append(tile.topk(min(count, len(rows) - 1), largest=False).values.clamp_min(0).sqrt().mean(1))
    return torch.cat(found)


def _above(values: Tensor) -> Tensor:
    low, high = values.quantile(0.25), values.quantile(0.75)
    return (values - high) / (high - low).clamp_min(1e-6 * high.abs() + 1e-12)
