"""The noise floor: how large the gaps are of examples that were never trained, and which examples stand out from it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.config import Config

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.floating[Any]]
LEVEL = 0.1  # of the false discovery rate at which discoveries are counted
COARSE = 1000  # never trained examples below which the tail of their gaps is known coarsely
MANY_WRONG = 1 / 3  # share of wrong labels from which clean test examples are too generous a floor; see LOG.md


@dataclass(frozen=True)
class NoiseFloor:
    """Memorization of examples that kept a mask and were never trained, ascending; with its mean and standard deviation."""

    gaps: Floats
    mean: float
    deviation: float

    @classmethod
    def of(cls, gaps: Floats) -> "NoiseFloor":
        """The floor of these gaps.

        Args:
            gaps: memorization of examples that were never trained, (m,), m at least 2, in any order.
        """
        return cls(np.sort(gaps), gaps.mean(), max(float(gaps.std()), 1e-12))

    def z_scores(self, gaps: Floats) -> Floats:
        """How many standard deviations each gap is above the mean."""
        z: Floats = (gaps - self.mean) / self.deviation
        return z

    def above(self, gaps: Floats) -> NDArray[np.int64]:
        """How many of the never trained have a gap at least as large, 0 to m."""
        below: NDArray[np.int64] = len(self.gaps) - np.searchsorted(self.gaps, gaps, side="left")
        return below

    def q_values(self, counts: NDArray[np.int64]) -> Floats:
        """The q-value of each number of ``above``.

        Empirical p-values (1 + above) / (1 + m), adjusted by Benjamini & Hochberg (1995): the least of p n / rank from here up.

        Args:
            counts: how many gaps have each number of ``above``, from 0 to m: (m + 1,).

        Returns:
            (m + 1,), from 0 to 1; 1 for a number that no gap has.
        """
        levels = np.flatnonzero(counts)
        adjusted = (1 + levels) / (1 + len(self.gaps)) * (counts.sum() / np.cumsum(counts)[levels])
        values = np.ones(len(counts))
        values[levels] = np.clip(np.minimum.accumulate(adjusted[::-1])[::-1], 0, 1)
        return values


def noise_floor(gaps: Floats, null_gaps: Floats) -> tuple[Floats, Floats]:
    """How far each gap stands out from those of examples that were never trained.

    Args:
        gaps: memorization of the trained examples (n,), which are the hypotheses.
        null_gaps: of examples with a mask that never trained (m,).

    Returns:
        Z-scores against the null's mean and standard deviation, and q-values (see ``NoiseFloor``). A trained and an untrained example
        differ in nothing but training only if the null has the same mix of hard and mislabelled examples (``null_fraction`` gives that;
        test examples have clean labels).
    """
    floor = NoiseFloor.of(null_gaps)
    above = floor.above(gaps)
    return floor.z_scores(gaps), floor.q_values(np.bincount(above, minlength=len(null_gaps) + 1))[above]


def null_rows(table: "pl.DataFrame", config: Config) -> "pl.DataFrame":
    """The rows of the noise floor: train examples held out at random, or else the test examples."""
    import polars as pl

    return table.filter(pl.col("trained").not_() & (pl.col("split") == ("train" if config.noise.null_fraction else "test")))


def floor_facts(table: "pl.DataFrame", null_gaps: Floats, config: Config) -> dict[str, Any]:
    """What the noise floor is, and how many of the trained examples stand out from it at a false discovery rate of 10%."""
    import polars as pl

    facts: dict[str, Any] = {"null": "held out" if config.noise.null_fraction else "test examples", "null_examples": len(null_gaps)}
    facts["null_gap_std"] = float(null_gaps.std()) if len(null_gaps) else None
    found = table.filter("trained").select(pl.col("q_value") < LEVEL).sum().item() if "q_value" in table.columns else None
    return facts | {"discoveries_q10": found}


def least_discoveries(null_examples: int, trained: int) -> int | None:
    """How many trained examples must stand above all of the never trained before any is called at ``LEVEL``; None: not even all would do.

    k of n above all m have the q-value n / (k (1 + m)). So fewer than ten never trained examples can call nothing.

    >>> least_discoveries(99, 1000), least_discoveries(9, 1000)
    (101, None)
    """
    least = int(np.floor(trained / (LEVEL * (1 + null_examples)) + 1e-9)) + 1
    return least if least <= trained else None


def floor_lines(facts: dict[str, Any]) -> list[str]:
    """What ``summary.json`` says of the noise floor, and how far it can be trusted; nothing where there is none."""
    if facts.get("discoveries_q10") is None:
        return []
    found, floor = facts["discoveries_q10"], facts["null_examples"]
    lines = [
        f"{found:,} of {facts['trained']:,} examples stand out from the {floor:,} never trained on ({facts['null']}) "
        f"at a false discovery rate of {LEVEL:.0%}."
    ]
    return lines + [line for line in (_power(found, floor, facts["trained"]), _generous(facts)) if line]


def _power(found: int, floor: int, trained: int) -> str:
    """How much so many never trained examples can tell."""
    least = least_discoveries(floor, trained)
    if least is None:
        return (
            f"With {floor:,} examples that were never trained on, no example can stand out, whatever is memorized. --null-fraction 0.1 "
            "holds out more."
        )
    if not found:
        return (
            f"That takes at least {least:,} of {trained:,} examples above all {floor:,} never trained on, so there may be some that "
            "this misses. --null-fraction holds out more."
        )
    return "The estimate is coarse with so few of them. --null-fraction holds out more." if floor < COARSE else ""


def _generous(facts: dict[str, Any]) -> str:
    """Whether clean test examples are compared with examples of which many have wrong labels."""
    if facts["null"] != "test examples":
        return ""
    if "wrong_labels" not in facts:
        return "Test examples are a fair floor while few labels are wrong. Where a third or more may be, prefer --null-fraction 0.1."
    share = facts["wrong_labels"] / facts["trained"]
    if share < MANY_WRONG:
        return ""
    return (
        f"{share:.0%} of the labels are wrong, and those of the test examples are clean, so too many stand out. Prefer --null-fraction 0.1."
    )
