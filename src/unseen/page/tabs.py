"""The lists of the page, from ``curate``: who is on them, in which order, and how right they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unseen.curate import LISTS, error_rate
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

SHOWN = ("suspects", "rare")  # the page has the easiest first by itself
WRONG = {"suspects": "labels that are right after all", "rare": "labels that are wrong after all"}


@dataclass(frozen=True)
class Listed:
    """index: of the examples, the surest first. rate: estimated share that does not belong there. quality: a sentence on it."""

    index: "pl.Series"
    rate: float
    quality: str


def lists(run: Run) -> dict[str, Listed]:
    """Probably wrong, and rare but right."""
    found = {}
    for name in SHOWN:
        rows = LISTS[name](run)
        rate = error_rate(run, name, rows)
        quality = f"Estimated share of {WRONG[name]}: {rate.rate:.0%} (from {rate.method})." if len(rows) else "Nothing is on this list."
        found[name] = Listed(rows["index"], rate.rate, quality)
    return found
