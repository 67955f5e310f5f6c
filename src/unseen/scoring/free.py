"""The scores that cost nothing extra, as running sums over the epochs: memory does not grow with their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unseen.config import Config

if TYPE_CHECKING:
    import polars as pl

SUMS = (
    "visits",
    "cumulative_loss",
    "margin",
    "early",
    "el2n",
    "forgotten",
    "learned",
    "correct",
    "probability",
    "squares",
    "correctness",
    "later",
    "later_halves",
    "gap",
    "unseen",
    "full",
    "heads",
    "head_gap",
    "head_loss",
)
"""Each float64 (n,).

correct is that of the last epoch, forgotten the events so far, learned whether it was ever right, squares the sum of squared differences
from the mean probability; visits, early, later, later_halves (of which both halves were measured) and heads (of which a head on the
network's own features was fitted) count epochs.
"""

HEADS = {"head_gap": "memorization", "head_loss": "loss"}
"""Sums of what a head on the network's own features says, and its name there."""


@dataclass(frozen=True)
class MeasuredEpochs:
    """Which epochs of a run are measured.

    The first tenth of them, rounded and at least one, is early: it says more of the initial weights than of the examples. EL2N is of the
    early ones, means over epochs are of the later ones; where there is but one, it is early and later both.
    """

    epochs: tuple[int, ...]

    @classmethod
    def of(cls, config: Config) -> "MeasuredEpochs":
        """Every ``history_every`` epochs, and the last."""
        every, last = config.measuring.history_every, config.training.epochs
        return cls(tuple(epoch for epoch in range(1, last + 1) if epoch % every == 0 or epoch == last))

    def is_early(self, epoch: int) -> bool:
        """Whether an epoch is of the first tenth."""
        return self.epochs.index(epoch) < self._early

    def is_later(self, epoch: int) -> bool:
        """Whether an epoch counts in means over the later epochs."""
        return not self.is_early(epoch) or len(self.epochs) == 1

    @property
    def later(self) -> int:
        """How many of them are later ones."""
        return max(1, len(self.epochs) - self._early)

    @property
    def _early(self) -> int:
        return max(1, round(len(self.epochs) / 10))


class FreeScores:
    """Running sums of the free scores of n examples.

    Args:
        tensors: the sums so far, by ``SUMS``; empty at the beginning.
        side: whose: "seen" is the half that trains, the counterpart of the network whose training such scores are defined on; "full" where
            there is but one network.

    What was not measured is NaN, and does not count.
    """

    def __init__(self, tensors: dict[str, Tensor], side: str = "seen") -> None:
        self.tensors = {name: tensors[name] for name in SUMS if name in tensors}
        self.side = side

    def add(self, measured: dict[str, Tensor], is_early: bool, is_later: bool) -> None:
        """Add an epoch.

        Args:
            measured: float32 (n,) under ``<quantity>_<side>``. Of several networks, means over them: then also probability, forgotten (the
                share of them that was right at the epoch before and is wrong now) and learned (the share that was ever right), which cannot
                be told from the means of loss and correct.
            is_early: see ``MeasuredEpochs``.
            is_later: likewise.
        """
        value = {name: column.double() for name, column in measured.items() if column.dim() == 1}
        loss = value[f"loss_{self.side}"]
        sums = self.tensors or {name: torch.zeros_like(loss) for name in SUMS}
        visited = ~loss.isnan()
        correct, visits = value[f"correct_{self.side}"], sums["visits"] + visited
        probability = value.get(f"probability_{self.side}", (-loss).exp())
        forgotten = value.get(f"forgotten_{self.side}", (correct < sums["correct"]).double() * (sums["visits"] > 0))
        learned = value.get(f"learned_{self.side}", torch.maximum(sums["learned"], correct))
        apart = probability - sums["probability"] / sums["visits"].clamp_min(1)
        gap = value["loss_unseen"] - value["loss_seen"] if "loss_unseen" in value else torch.full_like(loss, torch.nan)
        new = {
            "cumulative_loss": loss,
            "margin": value[f"margin_{self.side}"],
            "el2n": value[f"error_norm_{self.side}"] * float(is_early),
            "forgotten": forgotten * visited,
            "probability": probability,
            "squares": apart.square() * (sums["visits"] / visits.clamp_min(1)),  # Welford 1962
            "correctness": correct,
            "gap": gap * float(is_later),
            "unseen": value.get("loss_unseen", torch.full_like(loss, torch.nan)) * float(is_later),
            "full": value.get("loss_full", torch.full_like(loss, torch.nan)) * float(is_later),
        }
        heads = {name: value.get(f"head_{short}", torch.full_like(loss, torch.nan)) for name, short in HEADS.items()}
        new |= {name: column * float(is_later) for name, column in heads.items()}
        total = {name: sums[name] + column.nan_to_num(0.0) for name, column in new.items()}
        counts = {
            "visits": visited,
            "early": visited & is_early,
            "later": ~new["full"].isnan() & is_later,
            "later_halves": ~gap.isnan() & is_later,
            "heads": ~heads["head_loss"].isnan() & is_later,
        }
        total |= {name: sums[name] + count for name, count in counts.items()}
        now = {"correct": correct, "learned": learned}
        self.tensors = total | {name: torch.where(visited, column, sums[name]) for name, column in now.items()}


def free_table(index: Tensor, seeds: list[dict[str, Tensor]], epochs: int, keep: Sequence[str] = ()) -> "pl.DataFrame":
    """The free scores from each seed's sums, means over the seeds: a row per index, sorted by it.

    Args:
        index: int64 (n,).
        seeds: of each, the sums of ``FreeScores``.
        epochs: how many were measured; an example that fewer of them had is scored by those that did.
        keep: columns that stay also where nothing was measured for them.

    Returns:
        index; cumulative_loss (sum over epochs), aum (mean margin), el2n (mean over the first tenth of the epochs), forgetting_events
        (epochs at which right turned wrong; epochs + 1 of an example that was never right), confidence, variability and correctness; and
        memorization_mean, unseen_loss_mean, full_loss_mean, head_memorization and head_loss over the later epochs. A column that nothing
        was measured for is left out.
    """
    import polars as pl

    found = [free_scores(sums, epochs) for sums in seeds]
    columns = {name: torch.stack([scores[name] for scores in found]).mean(0) for name in found[0]}
    known = {name: column for name, column in columns.items() if name in keep or not column.isnan().all()}
    table = pl.DataFrame({"index": index.numpy()} | {name: column.numpy() for name, column in known.items()})
    table = table.with_columns(pl.exclude("index").fill_nan(None))
    return table.with_columns(pl.exclude("index", "forgetting_events").cast(pl.Float32)).sort("index")


def free_scores(sums: dict[str, Tensor], epochs: int) -> dict[str, Tensor]:
    """Of one seed: float64 (n,)."""
    visits, early, later, halves = (sums[name] for name in ("visits", "early", "later", "later_halves"))
    return {
        "cumulative_loss": sums["cumulative_loss"] * (epochs / visits),
        "aum": sums["margin"] / visits,
        "el2n": sums["el2n"] / early,
        "forgetting_events": sums["forgotten"] + (1 - sums["learned"]) * (epochs + 1),  # never learned: more than any other can have
        "confidence": sums["probability"] / visits,
        "variability": (sums["squares"] / visits).sqrt(),
        "correctness": sums["correctness"] / visits,
        "memorization_mean": sums["gap"] / halves,
        "unseen_loss_mean": sums["unseen"] / halves,
        "full_loss_mean": sums["full"] / later,
        "head_memorization": sums["head_gap"] / sums["heads"],
        "head_loss": sums["head_loss"] / sums["heads"],
    }
