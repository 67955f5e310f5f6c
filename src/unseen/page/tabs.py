"""The lists of the page, from ``curate``: who is on them, in which order, and how right they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unseen.curate import LISTS, error_rate, trustworthy
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

SHOWN = ("suspects", "rare")  # the page has the easiest first by itself
WRONG = {"suspects": "labels that are right after all", "rare": "labels that are wrong after all"}


@dataclass(frozen=True)
class Listed:
    """What a tab shows.

    Attributes:
        index: of the examples, the surest first.
        rate: estimated share that does not belong there; None: unknown.
        quality: sentences on it.
    """

    index: "pl.Series"
    rate: float | None
    quality: str


def lists(run: Run) -> dict[str, Listed]:
    """Probably wrong, and rare but right."""
    found, known = {}, trustworthy(run)
    for name in SHOWN:
        rows = LISTS[name](run)
        rate = error_rate(run, name, rows)
        share = "unknown" if rate.rate is None else f"{rate.rate:.0%}"
        quality = f"Estimated share of {WRONG[name]}: {share} (from {rate.method})." if len(rows) else "Nothing is on this list."
        quality = " ".join([*(known.lines if name == "suspects" or known.warning else []), quality])
        found[name] = Listed(rows["index"], rate.rate, quality)
    return found
