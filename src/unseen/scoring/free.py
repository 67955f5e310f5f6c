"""The scores that cost nothing extra, as running sums over the epochs: memory does not grow with their number."""

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
    "forgetting_events",
    "correct",
    "probability",
    "squares",
    "correctness",
    "later",
    "later_halves",
    "gap",
    "unseen",
    "full",
)
"""Each float64 (n,); correct is that of the last epoch, squares the sum of squared differences from the mean probability, visits, early,
later and later_halves (of which both halves were measured) count epochs."""


@dataclass(frozen=True)
class MeasuredEpochs:
    """Which epochs of a run are measured. The first tenth of them is early, and says more of the initial weights than of the examples."""

    epochs: tuple[int, ...]

    @classmethod
    def of(cls, config: Config) -> "MeasuredEpochs":
        """Every ``history_every`` epochs, and the last."""
        every, last = config.measuring.history_every, config.training.epochs
        return cls(tuple(epoch for epoch in range(1, last + 1) if epoch % every == 0 or epoch == last))

    def is_early(self, epoch: int) -> bool:
        """Whether an epoch is of the first tenth, which is at least one."""
        return self.epochs.index(epoch) < max(1, round(len(self.epochs) / 10))

    @property
    def is_one(self) -> bool:
        """Whether there is only one, which then is early and later both."""
        return len(self.epochs) == 1


class FreeScores:
    """Running sums of the free scores of n examples.

    Args:
        tensors: the sums so far, by ``SUMS``; empty at the beginning.
        side: whose: "seen" is the half that trains, the counterpart of the network whose training such scores are defined on; "full"
            where there is but one network.
        only: whether there is one epoch alone.

    What was not measured is NaN, and does not count.
    """

    def __init__(self, tensors: dict[str, Tensor], side: str = "seen", only: bool = False) -> None:
        self.tensors = {name: tensors[name] for name in SUMS if name in tensors}
        self.side, self.only = side, only

    def add(self, measured: dict[str, Tensor], is_early: bool) -> None:
        """Add an epoch. Args: measured: float32 (n,) under ``<quantity>_<side>``. is_early: see ``MeasuredEpochs``."""
        value = {name: column.double() for name, column in measured.items() if column.dim() == 1}
        loss = value[f"loss_{self.side}"]
        sums = self.tensors or {name: torch.zeros_like(loss) for name in SUMS}
        visited = ~loss.isnan()
        probability, correct, visits = (-loss).exp(), value[f"correct_{self.side}"], sums["visits"] + visited
        apart = probability - sums["probability"] / sums["visits"].clamp_min(1)
        gap = value["loss_unseen"] - value["loss_seen"] if "loss_unseen" in value else torch.full_like(loss, torch.nan)
        is_later = not is_early or self.only
        new = {
            "cumulative_loss": loss,
            "margin": value[f"margin_{self.side}"],
            "el2n": value[f"error_norm_{self.side}"] * float(is_early),
            "forgetting_events": (correct < sums["correct"]).double() * (sums["visits"] > 0),
            "probability": probability,
            "squares": apart.square() * (sums["visits"] / visits.clamp_min(1)),  # Welford 1962
            "correctness": correct,
            "gap": gap * float(is_later),
            "unseen": value.get("loss_unseen", torch.full_like(loss, torch.nan)) * float(is_later),
            "full": value.get("loss_full", torch.full_like(loss, torch.nan)) * float(is_later),
        }
        total = {name: sums[name] + column.nan_to_num(0.0) for name, column in new.items()}
        counts = {
            "visits": visited,
            "early": visited & is_early,
            "later": ~new["full"].isnan() & is_later,
            "later_halves": ~gap.isnan() & is_later,
        }
        total |= {name: sums[name] + count for name, count in counts.items()}
        self.tensors = total | {"correct": torch.where(visited, correct, sums["correct"])}


def free_table(index: Tensor, seeds: list[dict[str, Tensor]], epochs: int) -> "pl.DataFrame":
    """The free scores from each seed's sums, means over the seeds: a row per index, sorted by it.

    Args:
        index: int64 (n,).
        seeds: of each, the sums of ``FreeScores``.
        epochs: how many were measured; an example that fewer of them had is scored by those that did.

    Returns:
        index; cumulative_loss (sum over epochs), aum (mean margin), el2n (mean over the first tenth of the epochs), forgetting_events
        (epochs at which right turned wrong), confidence, variability and correctness; and memorization_mean, unseen_loss_mean and
        full_loss_mean over the later epochs. A column that nothing was measured for is left out.
    """
    import polars as pl

    found = [_scores(sums, epochs) for sums in seeds]
    columns = {name: torch.stack([scores[name] for scores in found]).mean(0) for name in found[0]}
    known = {name: column for name, column in columns.items() if not column.isnan().all()}
    table = pl.DataFrame({"index": index.numpy()} | {name: column.numpy() for name, column in known.items()})
    table = table.with_columns(pl.exclude("index").fill_nan(None))
    return table.with_columns(pl.exclude("index", "forgetting_events").cast(pl.Float32)).sort("index")


def _scores(sums: dict[str, Tensor], epochs: int) -> dict[str, Tensor]:
    """Of one seed: float64 (n,)."""
    visits, early, later, halves = (sums[name] for name in ("visits", "early", "later", "later_halves"))
    return {
        "cumulative_loss": sums["cumulative_loss"] * (epochs / visits),
        "aum": sums["margin"] / visits,
        "el2n": sums["el2n"] / early,
        "forgetting_events": sums["forgetting_events"],
        "confidence": sums["probability"] / visits,
        "variability": (sums["squares"] / visits).sqrt(),
        "correctness": sums["correctness"] / visits,
        "memorization_mean": sums["gap"] / halves,
        "unseen_loss_mean": sums["unseen"] / halves,
        "full_loss_mean": sums["full"] / later,
    }
