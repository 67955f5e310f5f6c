"""The most helpful and the most harmful training examples of each query, kept while influences stream by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unseen.attribution.queries import Asked, Queries
from unseen.data import Examples

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Extremes:
    """The most helpful and the most harmful training examples of each query, most extreme first.

    top, bottom: influence, float32 (queries, k). top_index, bottom_index: int64 (queries, k), the examples' index.
    """

    top: Tensor
    top_index: Tensor
    bottom: Tensor
    bottom_index: Tensor


def extremes(tiles: Iterable[tuple[Tensor, Tensor]], top: int) -> Extremes:
    """Streamed top and bottom ``top`` per query; the same as sorting all.

    Args:
        tiles: pairs of train_index (train,) and influence (queries, train). Holds one tile and 4 * top numbers per query.
    """
    best: dict[bool, tuple[Tensor, Tensor]] = {}
    for index, tile in tiles:
        for largest in (True, False):
            values, indices = _best(tile, index.expand_as(tile), top, largest)
            if largest in best:
                old_values, old_indices = best[largest]
                values, indices = torch.cat((old_values, values), 1), torch.cat((old_indices, indices), 1)
                values, indices = _best(values, indices, top, largest)
            best[largest] = values, indices
    return Extremes(*best[True], *best[False])


def joined(found: Sequence[Extremes]) -> Extremes:
    """Extremes of several lots of queries as one."""
    names = ("top", "top_index", "bottom", "bottom_index")
    return Extremes(*(torch.cat([getattr(part, name) for part in found]) for name in names))


def influence_table(found: Extremes, train: Examples, queries: Asked | Queries) -> "pl.DataFrame":
    """``influence.parquet``: query_index, query_id, rank, side, train_index, train_id, influence.

    A row per query, side ("top", "bottom") and rank, from 1. Queries of one's own are numbered, and their id is query/<number>.
    """
    import polars as pl

    train_names = dict(zip(train.index.tolist(), train.ids, strict=True))
    count, k = found.top.shape
    index, ids = Queries.of(queries).names()
    train_index = torch.stack((found.top_index, found.bottom_index), 1).flatten().tolist()  # query, side, rank
    return pl.DataFrame(
        {
            "query_index": index.repeat_interleave(2 * k).numpy(),
            "query_id": [name for name in ids for _ in range(2 * k)],
            "rank": pl.Series(list(range(1, k + 1)) * (2 * count), dtype=pl.Int32),
            "side": (["top"] * k + ["bottom"] * k) * count,
            "train_index": train_index,
            "train_id": [train_names[i] for i in train_index],
            "influence": torch.stack((found.top, found.bottom), 1).flatten().cpu().numpy(),
        }
    )


def _best(values: Tensor, index: Tensor, top: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The largest (or smallest) values of each row, in order, and their index: (rows, min(top, columns))."""
    found, places = values.topk(min(top, values.shape[1]), 1, largest)
    return found, index.gather(1, places)
