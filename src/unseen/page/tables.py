"""From a run's tables to the data of its page. Nothing is trained or loaded here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.page.curves import card_curves, group_curves
from unseen.page.packing import smallest
from unseen.page.points import PLOTTED, choose
from unseen.page.tabs import Listed, lists
from unseen.runs import Run, has_many_networks

if TYPE_CHECKING:
    import polars as pl

LABELS = {"given": "given_label", "true": "true_label", "said_seen": "predicted_seen", "said_unseen": "predicted_unseen"}


@dataclass(frozen=True)
class Points:
    """The examples that a page holds, most memorized first.

    Args:
        scores: their rows of the scores.
        weights: float32, how many examples each stands for.
        total: trained examples of the run.
        listed: the lists, whole.
        lists: positions in ``scores`` of each list's examples, in its order.
    """

    scores: "pl.DataFrame"
    weights: NDArray[np.float32]
    total: int
    lists: dict[str, NDArray[np.int64]]
    listed: dict[str, Listed]


def read_points(run: Run, limit: int) -> Points:
    """Choose the page's examples among those that were trained; see ``choose``."""
    import polars as pl

    scores = _shown(run)
    listed = lists(run)
    rows, weights = choose(scores, [one.index for one in listed.values()], limit)
    chosen = scores[rows].with_columns(weight=pl.Series(weights)).sort("memorization", "index", descending=[True, False])
    places = pl.DataFrame({"index": chosen["index"], "place": np.arange(len(chosen))})
    found = {}
    for name, one in listed.items():
        joined = pl.DataFrame({"index": one.index}).join(places, on="index", how="left", maintain_order="left")
        found[name] = joined["place"].drop_nulls().to_numpy()
    return Points(chosen, chosen["weight"].to_numpy(), len(scores), found, listed)


def page_data(run: Run, points: Points) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and facts of the page: a number per example for what is plotted, labels, lists, curves."""
    scores = points.scores
    epochs, largest, curves = card_curves(run, scores["index"].to_numpy())
    arrays: dict[str, NDArray[Any]] = {name: scores[name].to_numpy() for name in (*PLOTTED, "correctness")}
    arrays |= {short: smallest(scores[name].to_numpy()) for short, name in LABELS.items() if name in scores.columns}
    arrays |= {f"list_{name}": smallest(places) for name, places in points.lists.items()}
    arrays["curves_of"] = curves.reshape(-1)
    if points.total > len(scores):
        arrays["sampled"] = (points.weights > 1).astype(np.uint8)
    facts = {
        "total": points.total,
        "weight": float(points.weights.max()),
        "ids": scores["id"].to_list(),
        "classes": list(run.classes),
        "sizes": {name: len(one.index) for name, one in points.listed.items()},
        "qualities": {name: one.quality for name, one in points.listed.items()},
        "curves": {"epochs": epochs, "largest": largest},
        "history": group_curves(run, _shown(run)),
        "members": has_many_networks(run.summary),
    }
    return arrays, facts


def _shown(run: Run) -> "pl.DataFrame":
    """The trained examples; of a recorded run those whose halves were measured."""
    import polars as pl

    return run.scores.filter("trained", pl.col("memorization").is_not_null())
