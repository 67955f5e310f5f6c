"""Learning over the epochs, from ``history.parquet``: of groups of examples, and of single ones. Read lazily: it is the largest table."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

CELLS = 1_500_000  # epochs x examples of a page
FEWEST, MOST = 4, 24  # epochs of a card's curve
SHARE = 0.2


def group_curves(run: Run, scores: "pl.DataFrame") -> dict[str, Any]:
    """Mean loss and accuracy per epoch of both halves, of all trained examples and of two groups of them.

    The groups are real and random labels where true labels are known, else the least and the most memorized fifth.

    Returns:
        Epochs, names of the groups, and per group, under ``<quantity>_<side>``, a number per epoch.
    """
    import polars as pl

    names, group = _groups(scores)
    wanted = [f"{quantity}_{side}" for quantity in ("loss", "correct") for side in ("seen", "unseen")]
    means = (
        _history(run)
        .join(scores.select("index", group=group).lazy(), on="index")
        .group_by("epoch", "group")
        .agg(pl.len().alias("count"), *(pl.col(name).mean() for name in wanted))
        .collect(engine="streaming")
        .fill_nan(None)
        .sort("epoch", "group")
    )
    whole = means.group_by("epoch").agg(((pl.col(name) * pl.col("count")).sum() / pl.col("count").sum()) for name in wanted).sort("epoch")
    parts = {"all": whole} | {name: means.filter(pl.col("group") == number) for number, name in enumerate(names)}
    groups = [{"name": name} | {column: part[column].to_list() for column in wanted} for name, part in parts.items() if len(part)]
    return {"epochs": whole["epoch"].to_list(), "groups": groups}


def _groups(scores: "pl.DataFrame") -> "tuple[tuple[str, str], pl.Expr]":
    import polars as pl

    if "true_label" in scores.columns and (scores["true_label"] != scores["given_label"]).any():
        return ("real labels", "changed labels"), (pl.col("true_label") != pl.col("given_label")).cast(pl.Int8)
    gap = scores["memorization"]
    low, high = gap.quantile(SHARE), gap.quantile(1 - SHARE)
    by_gap = pl.when(pl.col("memorization") <= low).then(0).when(pl.col("memorization") >= high).then(1).otherwise(2).cast(pl.Int8)
    return ("easiest fifth", "most memorized fifth"), by_gap


def card_curves(run: Run, index: NDArray[np.int64]) -> tuple[list[int], float, NDArray[np.uint8]]:
    """Loss per epoch of both halves of single examples, mean over seeds.

    Returns:
        The epochs kept (evenly spaced, first and last among them), the largest loss, and uint8 (examples, 2, epochs): 255 log(1 + loss) /
        log(1 + largest), 255 at most.
    """
    import polars as pl

    history = _history(run)
    measured = history.select(pl.col("epoch").unique().sort()).collect(engine="streaming")["epoch"].to_numpy()
    count = int(np.clip(CELLS // max(1, len(index)), FEWEST, MOST))
    epochs = measured[np.unique(np.linspace(0, len(measured) - 1, min(count, len(measured))).round().astype(int))]
    places = pl.DataFrame({"index": index, "place": np.arange(len(index), dtype=np.int64)}).lazy()
    means = np.zeros((len(index), 2, len(epochs)))
    for number, epoch in enumerate(epochs.tolist()):
        part = history.filter(pl.col("epoch") == epoch).join(places, on="index").group_by("place")
        found = part.agg(pl.col("loss_seen").mean(), pl.col("loss_unseen").mean()).collect(engine="streaming")
        means[found["place"].to_numpy(), :, number] = found.select("loss_seen", "loss_unseen").to_numpy()
    means = np.nan_to_num(means, nan=0.0)
    largest = float(max(np.quantile(means, 0.999), 1e-3))
    return epochs.tolist(), largest, np.rint(255 * np.minimum(np.log1p(means) / np.log1p(largest), 1)).astype(np.uint8)


def _history(run: Run) -> "pl.LazyFrame":
    import polars as pl

    return pl.scan_parquet(run.path / "history.parquet")
