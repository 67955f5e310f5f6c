"""The lists of the page: who is on them, in which order, by which number, and how right they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unseen.curate import LISTS, error_rate, odd_lists, trustworthy
from unseen.privacy import risky
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

SHOWN = {"suspects": "wrong_probability", "rare": "score"}  # the page has the most memorized and the easiest first by itself
WRONG = {"suspects": "labels that are right after all", "rare": "labels that are wrong after all"}
ODD = {
    "duplicates": "Of each group the first is left out: dropping all of this list leaves one of each.",
    "leaks": "These training examples stand in the test split too, or nearly so. The test accuracy counts them.",
    "outliers": "These are far from everything else: pictures of no class, garbage, or what is there once.",
}


@dataclass(frozen=True)
class Listed:
    """What a tab shows.

    Attributes:
        index: of the training examples, the first of the list first.
        value: what the list is sorted by, one number for each.
        rate: estimated share that does not belong there; None: unknown.
        quality: sentences on it.
    """

    index: "pl.Series"
    value: "pl.Series"
    rate: float | None
    quality: str


def lists(run: Run) -> dict[str, Listed]:
    """Probably wrong, rare but right; and duplicates, leaks, outliers and risky records where the run has their tables."""
    return _judged(run) | _odd(run) | _risky(run)


def _judged(run: Run) -> dict[str, Listed]:
    found, known = {}, trustworthy(run)
    for name, column in SHOWN.items():
        rows = LISTS[name](run)
        rate = error_rate(run, name, rows)
        share = "unknown" if rate.rate is None else f"{rate.rate:.0%}"
        quality = f"Estimated share of {WRONG[name]}: {share} (from {rate.method})." if len(rows) else "Nothing is on this list."
        quality = " ".join([*(known.lines if name == "suspects" or known.warning else []), quality])
        found[name] = Listed(rows["index"], rows[column], rate.rate, quality)
    return found


def _odd(run: Run) -> dict[str, Listed]:
    found = {}
    for name, rows in odd_lists(run).items():
        index, value = ("other_index", "cosine") if name == "leaks" else ("index", "strangeness" if name == "outliers" else "cosine")
        rows = rows.unique(index, keep="first", maintain_order=True)
        found[name] = Listed(rows[index], rows[value], None, ODD[name] if len(rows) else "Looked for, and none was found.")
    return found


def _risky(run: Run) -> dict[str, Listed]:
    if not (run.path / "privacy.parquet").exists():
        return {}
    rows, counts = risky(run), run.read_json("privacy.json")["risks"]
    unclear = f" {counts['unclear']:,} records are unclear: more members would tell." if counts.get("unclear") else ""
    quality = (
        f"An attacker finds these {len(rows):,} of {sum(counts.values()):,} records in the training set far more often than by chance."
    )
    return {"risky": Listed(rows["index"], rows["score"], None, quality + unclear)}


def first_list(run: Run, found: dict[str, Listed]) -> str:
    """The list that the page opens with: probably wrong labels where there are any, else, and for one network with halves, memorization."""
    return "suspects" if len(found["suspects"].index) and run.config.estimator != "turnover" else "memorized"
