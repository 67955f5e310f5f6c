"""From measurements to one row per example: memorization, out-of-sample predictions, the free scores, the noise floor."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.floating[Any]]
SIDES = ("seen", "unseen", "full")


def free_scores(history: "pl.DataFrame", side: str = "seen") -> "pl.DataFrame":
    """Scores that cost nothing extra, from the epochs' statistics of one side; mean over seeds.

    Args: history: columns epoch, index, seed and ``<quantity>_<side>``. side: whose; "seen" is the half that trains,
    the counterpart of the network whose training such scores are defined on.

    Returns one row per index: cumulative_loss (sum over epochs), aum (mean margin), el2n (mean over the first tenth of
    the epochs, at least one), forgetting_events (epochs at which right turned wrong), confidence, variability and
    correctness; and memorization_mean, unseen_loss_mean and full_loss_mean over the epochs less their first tenth, which says more of the
    initial weights than of the examples. Epochs are those measured.
    """
    import polars as pl

    early = max(1, round(history["epoch"].n_unique() / 10))
    first_epochs = history["epoch"].unique().sort()[:early]
    probability = (-pl.col(f"loss_{side}")).exp()
    correct = pl.col(f"correct_{side}")
    later = pl.col("epoch").is_in(first_epochs.implode()).not_() if history["epoch"].n_unique() > 1 else pl.lit(True)
    per_seed = (
        history.sort("epoch")
        .group_by("seed", "index")
        .agg(
            cumulative_loss=pl.col(f"loss_{side}").sum(),
            aum=pl.col(f"margin_{side}").mean(),
            el2n=pl.col(f"error_norm_{side}").filter(pl.col("epoch").is_in(first_epochs.implode())).mean(),
            forgetting_events=(correct.diff() < 0).sum(),
            confidence=probability.mean(),
            variability=probability.std(ddof=0),
            correctness=correct.mean(),
            memorization_mean=(pl.col("loss_unseen") - pl.col("loss_seen")).filter(later).mean(),
            unseen_loss_mean=pl.col("loss_unseen").filter(later).mean(),
            full_loss_mean=pl.col("loss_full").filter(later).mean(),
        )
    )
    return per_seed.drop("seed").group_by("index").mean().sort("index")


def final_scores(finals: "list[pl.DataFrame]") -> "pl.DataFrame":
    """Join the last measurements of each seed: means over seeds, and memorization's standard error and 90% interval.

    Args: finals: per seed, the columns index, loss_*, predicted_*, p_<class> (unseen half), same rows in each; from members
    also memorization_se and half_width. Turn-over dropout has a standard error where there are several seeds.
    """
    import polars as pl

    losses = np.stack([final.select(f"loss_{side}" for side in SIDES).to_numpy() for final in finals])  # (seeds, n, 3)
    gaps = losses[:, :, 1] - losses[:, :, 0]
    table = pl.DataFrame({"index": finals[0]["index"]} | {f"loss_{side}": losses[:, :, s].mean(0) for s, side in enumerate(SIDES)})
    table = table.with_columns(memorization=pl.Series(gaps.mean(0)))
    error, half_width = _spread(finals, gaps)
    if error is not None:
        ends = {"memorization_low": gaps.mean(0) - half_width, "memorization_high": gaps.mean(0) + half_width}
        table = table.with_columns(pl.Series(name, values) for name, values in ({"memorization_se": error} | ends).items())
    chances = np.exp(-losses).mean(0)
    columns = {f"probability_{side}": chances[:, s] for s, side in enumerate(SIDES)}
    columns["memorization_probability"] = chances[:, 0] - chances[:, 1]
    columns |= {f"predicted_{side}": _majority([final[f"predicted_{side}"].to_numpy() for final in finals]) for side in ("seen", "full")}
    columns["predicted_unseen"] = mean_probabilities(finals).argmax(1)
    return table.with_columns(pl.Series(name, values) for name, values in columns.items())


def _spread(finals: "list[pl.DataFrame]", gaps: Floats) -> "tuple[Floats | None, Floats | None]":
    """Standard error of the mean gap, and half the width of its 90% interval (Student's t), from members or from seeds."""
    from scipy.stats import t

    count = len(finals)
    if "half_width" in finals[0].columns:
        squares = {name: np.stack([final[name].to_numpy() for final in finals]) ** 2 for name in ("memorization_se", "half_width")}
        return np.sqrt(squares["memorization_se"].sum(0)) / count, np.sqrt(squares["half_width"].sum(0)) / count
    if count == 1:
        return None, None
    error = gaps.std(0, ddof=1) / np.sqrt(count)
    return error, t.ppf(0.95, count - 1) * error


def mean_probabilities(finals: "list[pl.DataFrame]") -> Floats:
    """Class probabilities of the unseen half, mean over seeds: (examples, classes)."""
    from polars import selectors

    mean: Floats = np.mean([final.select(selectors.starts_with("p_")).to_numpy() for final in finals], axis=0)
    return mean


def without_halves(table: "pl.DataFrame") -> "pl.DataFrame":
    """A table of an ordinary network, which has no halves: without the columns that speak of them."""
    of_halves = ("memorization", "unseen_loss_mean", "z_score", "q_value", "label_score", "is_label_issue", "predicted_label")
    return table.select(name for name in table.columns if not name.endswith(("_seen", "_unseen")) and not name.startswith(of_halves))


def plain_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """``summary.json`` of an ordinary network: accuracies and counts."""
    kept = ("estimator", "examples", "trained", "accuracy_full", "accuracy_full_true", "wrong_labels", "test_accuracy_full")
    return {name: value for name, value in facts.items() if name in kept}


def noise_floor(gaps: Floats, null_gaps: Floats) -> tuple[Floats, Floats]:
    """How far each gap stands out from those of examples that were never trained.

    Args: gaps: memorization of the trained examples (n,). null_gaps: of examples with a mask that never trained (m,).

    Returns z-scores against the null's mean and standard deviation, and q-values: empirical p-values
    (1 + #{null >= gap}) / (1 + m), adjusted by Benjamini & Hochberg (1995). A trained and an untrained example differ
    in nothing but training only if the null has the same mix of hard and mislabelled examples (``null_fraction``
    gives that; test examples have clean labels).
    """
    from scipy.stats import false_discovery_control

    z = (gaps - null_gaps.mean()) / max(float(null_gaps.std()), 1e-12)
    above = len(null_gaps) - np.searchsorted(np.sort(null_gaps), gaps, side="left")
    return z, false_discovery_control((1 + above) / (1 + len(null_gaps)))


def label_issues(probabilities: Floats, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which labels confident learning doubts (Northcutt et al. 2021, section 3.1).

    A class is a candidate for an example if its out-of-sample probability reaches the class's mean self-confidence.
    The label is an issue if there are candidates and the most probable of them is not the given label.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.where(counts > 0, np.bincount(labels, own, classes) / np.maximum(counts, 1), np.inf)
    candidates = np.where(probabilities >= thresholds, probabilities, -1.0)
    issue: NDArray[np.bool_] = (candidates.max(1) > -1) & (candidates.argmax(1) != labels)
    return issue


def rank_correlation(rows: Floats) -> float:
    """Mean Spearman correlation over the pairs of rows, each the scores of one seed: (seeds, n)."""
    from scipy.stats import rankdata

    if len(rows) < 2:
        return float("nan")
    correlations = np.corrcoef(np.stack([rankdata(row) for row in rows]))
    return float(correlations[np.triu_indices(len(rows), 1)].mean())


def _majority(predictions: list[Floats]) -> NDArray[np.int64]:
    stacked = np.stack(predictions).astype(np.int64)  # (seeds, n)
    votes = np.stack([(stacked == c).sum(0) for c in range(stacked.max() + 1)])
    most: NDArray[np.int64] = votes.argmax(0)
    return most


def summarize(table: "pl.DataFrame") -> dict[str, Any]:
    """What to tell of a score table: accuracies of the halves, AUROC and average precision of wrong labels where known."""
    import polars as pl

    trained = table.filter("trained")
    facts: dict[str, Any] = {"examples": len(table), "trained": len(trained)}
    for side in SIDES:
        facts[f"accuracy_{side}"] = float((trained[f"predicted_{side}"] == trained["given_label"]).mean())  # type: ignore[arg-type]
    if "true_label" not in table.columns:
        return facts
    wrong = trained.select((pl.col("true_label") != pl.col("given_label")).alias("wrong"))["wrong"].to_numpy()
    for side in SIDES:
        facts[f"accuracy_{side}_true"] = float((trained[f"predicted_{side}"] == trained["true_label"]).mean())  # type: ignore[arg-type]
    facts["wrong_labels"] = int(wrong.sum())
    if 0 < wrong.sum() < len(wrong):
        facts |= detection(wrong, trained["memorization"].to_numpy())
    return facts


def detection(wrong: NDArray[np.bool_], score: Floats) -> dict[str, float]:
    """AUROC and average precision of a score (high = suspect) for the wrong labels."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {"auroc": float(roc_auc_score(wrong, score)), "average_precision": float(average_precision_score(wrong, score))}
