"""From a run's tables to the data of its page. Nothing is trained or loaded here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.curate import difficulty, judged
from unseen.page.curves import card_curves, group_curves
from unseen.page.looks import said_plane
from unseen.page.packing import smallest
from unseen.page.points import PLOTTED, choose
from unseen.page.tabs import Listed, first_list, lists
from unseen.runs import Run, has_many_networks

if TYPE_CHECKING:
    import polars as pl

LIKELIEST = 3  # classes
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
        values: the number that each list is sorted by, of those examples.
    """

    scores: "pl.DataFrame"
    weights: NDArray[np.float32]
    total: int
    lists: dict[str, NDArray[np.int64]]
    listed: dict[str, Listed]
    values: dict[str, NDArray[np.float32]]


def read_points(run: Run, limit: int) -> Points:
    """Choose the page's examples among those that were trained; see ``choose``."""
    import polars as pl

    scores = _shown(run)
    listed = lists(run)
    rows, weights = choose(scores, [one.index for one in listed.values()], limit)
    chosen = scores[rows].with_columns(weight=pl.Series(weights)).sort("memorization", "index", descending=[True, False])
    places = pl.DataFrame({"index": chosen["index"], "place": np.arange(len(chosen))})
    found, values = {}, {}
    for name, one in listed.items():
        joined = pl.DataFrame({"index": one.index, "value": one.value}).join(places, on="index", how="left", maintain_order="left")
        joined = joined.drop_nulls("place")
        found[name], values[name] = joined["place"].to_numpy(), joined["value"].to_numpy().astype(np.float32)
    return Points(chosen, chosen["weight"].to_numpy(), len(scores), found, listed, values)


def page_data(run: Run, points: Points) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and facts of the page: a number per example for what is plotted, labels, lists, curves."""
    scores = points.scores
    epochs, largest, curves = card_curves(run, scores["index"].to_numpy())
    arrays: dict[str, NDArray[Any]] = {name: scores[name].to_numpy() for name in (*PLOTTED, "correctness")}
    arrays |= {short: smallest(scores[name].to_numpy()) for short, name in LABELS.items() if name in scores.columns}
    for name, places in points.lists.items():
        arrays |= {f"list_{name}": smallest(places), f"value_{name}": points.values[name]}
    arrays["curves_of"] = curves.reshape(-1)
    if points.total > len(scores):
        arrays["sampled"] = (points.weights > 1).astype(np.uint8)
    arrays |= _judgements(run, scores["index"]) | _predictions(run, scores["index"])
    facts = {
        "total": points.total,
        "weight": float(points.weights.max()),
        "ids": scores["id"].to_list(),
        "classes": list(run.classes),
        "sizes": {name: len(one.index) for name, one in points.listed.items()},
        "qualities": {name: one.quality for name, one in points.listed.items()},
        "first": first_list(run, points.listed),
        "curves": {"epochs": epochs, "largest": largest},
        "history": group_curves(run, _shown(run)),
        "members": has_many_networks(run.summary),
        "difficulty": difficulty(run),
    }
    return arrays, facts


def _judgements(run: Run, index: "pl.Series") -> dict[str, NDArray[Any]]:
    """By the same columns as the lists: how hard, the probability to be wrong, and, where planted errors bear one out, that one."""
    import polars as pl

    table = pl.DataFrame({"index": index}).join(judged(run), on="index", how="left", maintain_order="left")
    found = {name: table[name].cast(pl.Float64).to_numpy() for name in ("difficulty", "wrong_probability")}
    if not table["stated_wrong"].null_count():
        found["stated"] = table["stated_wrong"].to_numpy()
    return found


def _predictions(run: Run, index: "pl.Series") -> dict[str, NDArray[Any]]:
    """The likeliest classes of each example without having seen it, their probabilities in 1/255, and their place in a plane."""
    import polars as pl

    table = pl.DataFrame({"index": index}).join(run.table("unseen_probabilities"), on="index", how="left", maintain_order="left")
    chances = np.nan_to_num(table.drop("index").to_numpy())
    top = np.argsort(-chances, axis=1, kind="stable")[:, :LIKELIEST]
    share = np.rint(255 * np.take_along_axis(chances, top, 1).clip(0, 1)).astype(np.uint8)
    across, up = said_plane(chances).T
    return {"likeliest": smallest(top.reshape(-1)), "chances": share.reshape(-1), "said_x": across, "said_y": up}


def _shown(run: Run) -> "pl.DataFrame":
    """The trained examples; of a recorded run those whose halves were measured."""
    import polars as pl

    return run.scores.filter("trained", pl.col("memorization").is_not_null())
