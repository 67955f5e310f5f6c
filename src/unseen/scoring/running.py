"""Sums and ranks over data that do not fit in memory: the free scores as running sums, the k-th smallest, detection by fine bins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unseen.config import Config
from unseen.scoring.scores import Floats, detection

if TYPE_CHECKING:
    import polars as pl

BINS = 2**16
FINE_BITS = 20
EXACT = 1_000_000  # examples up to which scores are sorted, as in memory
SUMS = (
    "cumulative_loss",
    "margin",
    "el2n",
    "forgetting_events",
    "correct",
    "probability",
    "squares",
    "correctness",
    "gap",
    "unseen",
    "full",
)
"""Columns of ``add_epoch``; correct is that of the last epoch, squares the sum of squared differences from the mean probability."""


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


@dataclass(frozen=True)
class Measured:
    """Which epochs of a run are measured, and which of these count as early (the first tenth) and which as later."""

    epochs: tuple[int, ...]

    @classmethod
    def of(cls, config: Config) -> "Measured":
        """Every ``history_every`` epochs, and the last."""
        return cls(tuple(epoch for epoch in range(1, config.epochs + 1) if epoch % config.history_every == 0 or epoch == config.epochs))

    @property
    def early(self) -> int:
        """How many are early."""
        return max(1, round(len(self.epochs) / 10))

    @property
    def later(self) -> int:
        """How many are later: all but the early ones, or the only one."""
        return len(self.epochs) - self.early if len(self.epochs) > 1 else 1


def add_epoch(sums: dict[str, Tensor], measured: dict[str, Tensor], epoch: int, epochs: Measured) -> dict[str, Tensor]:
    """Add what an epoch measured to the running sums of the free scores: float64 (n,) by ``SUMS``. Args: sums: empty at the first epoch."""
    place = epochs.epochs.index(epoch)
    value = {name: column.double() for name, column in measured.items() if name != "probabilities"}
    sums = sums or {name: torch.zeros_like(value["loss_seen"]) for name in SUMS}
    probability, correct = (-value["loss_seen"]).exp(), value["correct_seen"]
    is_later = float(place >= epochs.early or len(epochs.epochs) == 1)
    apart = probability - sums["probability"] / max(place, 1)
    return {
        "cumulative_loss": sums["cumulative_loss"] + value["loss_seen"],
        "margin": sums["margin"] + value["margin_seen"],
        "el2n": sums["el2n"] + value["error_norm_seen"] * float(place < epochs.early),
        "forgetting_events": sums["forgetting_events"] + (correct < sums["correct"]).double() * float(place > 0),
        "correct": correct,
        "probability": sums["probability"] + probability,
        "squares": sums["squares"] + apart.square() * (place / (place + 1)),  # Welford 1962
        "correctness": sums["correctness"] + correct,
        "gap": sums["gap"] + (value["loss_unseen"] - value["loss_seen"]) * is_later,
        "unseen": sums["unseen"] + value["loss_unseen"] * is_later,
        "full": sums["full"] + value["loss_full"] * is_later,
    }


def free_of_sums(index: "pl.Series", seeds: list[dict[str, Tensor]], epochs: Measured) -> "pl.DataFrame":
    """The free scores, as ``free_scores`` gives them, from each seed's running sums over all epochs: to rounding the same."""
    import polars as pl

    count, early, later = len(epochs.epochs), epochs.early, epochs.later
    total = {name: torch.stack([sums[name] for sums in seeds]).mean(0).numpy() for name in SUMS if name != "correct"}
    spread = torch.stack([(sums["squares"] / count).sqrt() for sums in seeds]).mean(0).numpy()
    columns = {
        "cumulative_loss": total["cumulative_loss"],
        "aum": total["margin"] / count,
        "el2n": total["el2n"] / early,
        "forgetting_events": total["forgetting_events"],
        "confidence": total["probability"] / count,
        "variability": spread,
        "correctness": total["correctness"] / count,
        "memorization_mean": total["gap"] / later,
        "unseen_loss_mean": total["unseen"] / later,
        "full_loss_mean": total["full"] / later,
    }
    table = pl.DataFrame({"index": index} | columns)
    return table.with_columns(pl.exclude("index", "forgetting_events").cast(pl.Float32)).sort("index")


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
