"""Which examples a page holds: all of them, or every extreme and a sample of the crowd."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.hashing import uniform

if TYPE_CHECKING:
    import polars as pl

PLOTTED = ("memorization", "loss_seen", "loss_unseen", "confidence", "variability", "label_score")
TAIL = 0.01
PER_CLASS = 20


def choose(scores: "pl.DataFrame", listed: "Iterable[pl.Series]", limit: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of ``scores`` to show, and how many examples each stands for.

    Where there are more than ``limit``: the first of each list (at most a tenth of ``limit``), the most memorized 1% (at most a third),
    the largest and smallest of every plotted column, the most and the least memorized of every class, each standing for itself; of the
    rest those with the smallest uniform(index, "report"), each standing for its share.
    """
    count = len(scores)
    if count <= limit:
        return np.arange(count), np.ones(count, np.float32)
    keep = _extremes(scores, listed, limit)
    rest = np.flatnonzero(~keep)
    places = max(1, limit - int(keep.sum()))
    draw = uniform(_tensor(scores["index"].to_numpy()[rest]), "report").numpy()
    sampled = rest[np.argpartition(draw, min(places, len(rest)) - 1)[:places]]
    weights = keep.astype(np.float32)
    weights[sampled] = len(rest) / len(sampled)
    chosen = np.flatnonzero(weights)
    return chosen, weights[chosen]


def _extremes(scores: "pl.DataFrame", listed: "Iterable[pl.Series]", limit: int) -> NDArray[np.bool_]:
    import polars as pl

    keep = np.zeros(len(scores), bool)
    for indices in listed:
        keep |= scores["index"].is_in(indices.head(limit // 10).implode()).to_numpy()
    gap = scores["memorization"].to_numpy()
    keep[np.argsort(-gap)[: min(round(TAIL * len(gap)), limit // 3)]] = True
    ends = max(1, limit // 200)
    for name in PLOTTED:
        order = np.argsort(scores[name].to_numpy())
        keep[order[:ends]] = keep[order[-ends:]] = True
    per_class = max(1, min(PER_CLASS, limit // (8 * scores["given_label"].n_unique())))
    rank = pl.col("memorization").rank("ordinal").over("given_label")
    last = pl.len().over("given_label") - per_class
    keep |= scores.select((rank <= per_class) | (rank > last)).to_series().to_numpy()
    return keep


def _tensor(values: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))
