"""How right a list is: from known labels, a self-check, planted errors, the noise floor, or its own probabilities."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unseen.curate.lists import LISTS, judged, trustworthy
from unseen.errors import UnseenError
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

PLANTED = ("random_labels", "label_noise")
EMPTY = "empty list"


@dataclass(frozen=True)
class ErrorRate:
    """Estimated share of a list that is not what the list says, None where nobody knows; and what the estimate comes from, or why not."""

    rate: float | None
    method: str

    def __str__(self) -> str:
        """As it is printed: 4.2% (from known labels)."""
        return f"unknown ({self.method})" if self.rate is None or self.method == EMPTY else f"{self.rate:.1%} (from {self.method})"


def error_rate(run: Run, name: str, rows: "pl.DataFrame") -> ErrorRate:
    """Estimated share of a list's rows (the whole list or its head) that is not what the list says, from the best source at hand.

    Known labels, where the run's own were changed on purpose; a self-check of the same recipe; else the posterior of ``suspects``, and for
    *rare but right* the noise floor: the largest q_value, the expected share of examples that stand out by chance. None, where nobody can
    judge the labels and none is known.
    """
    if name not in LISTS:
        raise UnseenError(f"There is no list {name!r}. The lists are {', '.join(LISTS)}.")
    known = trustworthy(run)
    if name == "suspects" and known.warning:
        return ErrorRate(None, "there is no list")
    if not len(rows):
        return ErrorRate(0.0, EMPTY)
    if (rate := _known(run, name, rows)) is not None:
        return ErrorRate(rate, "known labels")
    if (check := selfcheck_of(run)) is not None:
        rate = _known(check, name, LISTS[name](check).head(len(rows)))
        if rate is not None:
            return ErrorRate(rate, f"planted errors of {check.path}")
    if known.warning:
        return ErrorRate(None, "nobody can judge these labels")
    if name == "rare" and "q_value" in run.scores.columns:
        floor = run.scores.join(rows.select("index"), on="index", how="semi")["q_value"].max()
        return ErrorRate(float(floor), "noise floor")  # type: ignore[arg-type]
    if name == "suspects":
        stated = judged(run).join(rows.select("index"), on="index", how="semi")["stated_wrong"]
        if not stated.null_count():
            return ErrorRate(1 - float(stated.mean()), "errors planted in closed form")  # type: ignore[arg-type]
    doubt = float(rows["wrong_probability"].mean())  # type: ignore[arg-type]
    return ErrorRate(1 - doubt if name == "suspects" else doubt, "its own probabilities")


def selfcheck_of(run: Run) -> Run | None:
    """A run beside this one that planted errors in the same data by the same recipe (``unseen selfcheck``), if there is one."""
    wanted = _recipe(run)
    for path in sorted(run.path.resolve().parent.glob("*/selfcheck.json")):
        other = replace(run, path=path.parent)
        if path.parent != run.path.resolve() and other.finished and _recipe(other) == wanted:
            return other
    return None


def _recipe(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.config.flat().items() if name not in PLANTED}


def _known(run: Run, name: str, rows: "pl.DataFrame") -> float | None:
    """Share of wrong labels (of right ones among suspects) where the run knows them."""
    import polars as pl

    scores = run.scores
    if "true_label" not in scores.columns or not len(rows):
        return None
    wrong = pl.col("true_label") != pl.col("given_label")
    share = float(scores.join(rows.select("index"), on="index", how="semi").select(wrong.mean()).item())
    return 1 - share if name == "suspects" else share
