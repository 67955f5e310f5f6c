"""The lists of the page: who is on them, in which order."""

from typing import TYPE_CHECKING

from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

LONGEST = 5000


def lists(run: Run, scores: "pl.DataFrame") -> "dict[str, pl.Series]":
    """Index of the examples that are probably wrong and of those that are rare but right, worst first, disjoint.

    Args: scores: of the trained examples.
    """
    import polars as pl

    doubted = pl.col("predicted_unseen") != pl.col("given_label")
    suspects = scores.filter(doubted & pl.col("is_label_issue")).sort("label_score", "index")
    high = pl.col("memorization") > scores["memorization"].quantile(0.95)
    rare = scores.filter(high & pl.col("is_label_issue").not_()).sort("memorization", descending=True)
    return {"suspects": suspects["index"].head(LONGEST), "rare": rare["index"].head(LONGEST)}
