"""The list of the riskiest records of a run, in the form of the other lists."""

from typing import TYPE_CHECKING

from unseen.curate import with_paths
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

ORDER = "tpr_at_1_percent_low"
FRONT = ("index", "id", "path", "given_label", "given_class", "risk", "score")
BESIDE = ("memorization", "true_label")
"""Columns of the scores that say what is special about a record, where the run has them."""


def risky(run: Run, least: str = "raised") -> "pl.DataFrame":
    """The records that an attacker would find in the training set, the surest first: by the low end of their estimated rate.

    Args:
        run: after ``privacy_risk``.
        least: the lowest class of risk to list: raised, or high.

    Returns:
        Columns index, id, path (where the data is a folder of files), given_label, given_class, risk, score (the low end of the rate at 1%
        false alarms), the rate and its interval, the scores of lira_online and rmia_online, memorization and true_label where the run
        has them.

    Raises:
        UnseenError: where the audit was not made yet.
    """
    import polars as pl

    from unseen.privacy.records import RISKS

    _ = run.config  # refuses a folder that is no run's
    table = run.table("privacy")
    wanted = RISKS[RISKS.index(least) :]
    rows = table.filter(pl.col("risk").is_in(wanted)).sort([ORDER, "index"], descending=[True, False])
    rows = _beside(run, rows).with_columns(score=pl.col(ORDER))
    names = [*FRONT, "tpr_at_1_percent", ORDER, "tpr_at_1_percent_high", "lira_online", "rmia_online", *BESIDE]
    return rows.select(name for name in names if name in rows.columns)


def _beside(run: Run, rows: "pl.DataFrame") -> "pl.DataFrame":
    """With names of classes, paths, and what the scores know, where there are any."""
    import polars as pl

    if run.finished:
        scores, classes = run.scores, dict(enumerate(run.classes))
        rows = rows.join(scores.select("index", *(n for n in BESIDE if n in scores.columns)), on="index", how="left", maintain_order="left")
        rows = rows.with_columns(given_class=pl.col("given_label").replace_strict(classes, default=None, return_dtype=pl.String))
    return with_paths(run, rows)
