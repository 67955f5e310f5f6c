"""Ranks over data that need not fit in memory: the k-th smallest, a sample, detection by fine bins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.hashing import uniform
from unseen.scoring.floor import Floats
from unseen.scoring.scores import detection

if TYPE_CHECKING:
    import polars as pl

BINS = 2**16
FINE_BITS = 20
EXACT = 1_000_000  # examples up to which scores are sorted, as in memory


def kth_smallest(values: Callable[[], Iterator[Tensor]], k: int) -> float:
    """The k-th smallest of many numbers in [0, 1), k from 1; 1 where there are fewer. Args: values: gives them again, piece by piece.

    Two passes, and memory for one in 65,536 of them.
    """
    counts = torch.zeros(BINS, dtype=torch.int64)
    for piece in values():
        counts += torch.bincount((piece * BINS).long(), minlength=BINS)
    upto = counts.cumsum(0)
    if k > int(upto[-1]):
        return 1.0
    place = int(torch.searchsorted(upto, k))
    inside = torch.cat([piece[(piece * BINS).long() == place] for piece in values()]).sort().values
    return float(inside[k - int(upto[place] - counts[place]) - 1])


@dataclass
class Sample:
    """Values of up to ``EXACT`` examples: of more, those with the smallest uniform(index, "sample")."""

    draws: Floats = field(default_factory=lambda: np.zeros(0))
    values: Floats | None = None

    def add(self, index: "pl.Series", values: Floats) -> None:
        """Args: values (..., n)."""
        draws = uniform(torch.from_numpy(index.to_numpy().copy()), "sample").numpy()
        self.draws = np.concatenate([self.draws, draws])
        self.values = values if self.values is None else np.concatenate([self.values, values], -1)
        if len(self.draws) > EXACT:
            kept = np.argpartition(self.draws, EXACT)[:EXACT]
            self.draws, self.values = self.draws[kept], self.values[..., kept]


@dataclass
class Detection:
    """AUROC and average precision of a score (high = suspect) for wrong labels, piece by piece.

    Up to ``EXACT`` examples as ``detection`` gives them. Of more, scores are counted in 2^20 bins, which tell two scores apart where they
    differ by more than one part in 2,000; memory is then that of the bins.
    """

    pieces: list[tuple[NDArray[np.bool_], Floats]] = field(default_factory=list)
    bins: NDArray[np.int64] | None = None

    def add(self, wrong: NDArray[np.bool_], score: Floats) -> None:
        """Args: wrong (n,), score (n,)."""
        self.pieces.append((wrong, score))
        if self.bins is not None or sum(len(piece[0]) for piece in self.pieces) > EXACT:
            self.bins = np.zeros((2, 2**FINE_BITS), np.int64) if self.bins is None else self.bins
            for kind, values in self.pieces:
                np.add.at(self.bins, (kind.astype(np.int64), _bin(values)), 1)
            self.pieces = []

    def facts(self) -> dict[str, float]:
        """Under auroc and average_precision; nothing where no labels are known to be wrong, or all are."""
        if self.bins is None and not self.pieces:
            return {}
        if self.bins is None:
            wrong, score = (np.concatenate([piece[place] for piece in self.pieces]) for place in (0, 1))
            return detection(wrong, score) if 0 < wrong.sum() < len(wrong) else {}
        right, wrong = self.bins[:, ::-1].astype(np.float64)  # the most suspect first
        if not right.sum() or not wrong.sum():
            return {}
        found, called = wrong.cumsum(), (right + wrong).cumsum()
        auroc = ((right.sum() - (called - found)) * wrong + right * wrong / 2).sum() / (right.sum() * wrong.sum())
        return {"auroc": float(auroc), "average_precision": float((wrong * found / np.maximum(called, 1)).sum() / wrong.sum())}


def _bin(score: Floats) -> NDArray[np.int64]:
    """The bin of a float32: its bits, in the order of the numbers, without the last twelve."""
    bits = (score.astype(np.float32) + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + 2**31
    return ordered >> (32 - FINE_BITS)
