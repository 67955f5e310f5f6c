"""Slow twins of the scores."""

import numpy as np
import polars as pl


def free_scores(history: "pl.DataFrame", side: str = "seen") -> "pl.DataFrame":
    """Scores that cost nothing extra, from the epochs' statistics of one side; mean over seeds.

    Args: history: columns epoch, index, seed and ``<quantity>_<side>``. side: whose; "seen" is the half that trains,
    the counterpart of the network whose training such scores are defined on.

    Returns one row per index: cumulative_loss (sum over epochs), aum (mean margin), el2n (mean over the first tenth of
    the epochs, at least one), forgetting_events (epochs at which right turned wrong; epochs + 1 of an example
    never right; of one network), confidence, variability and
    correctness; and memorization_mean, unseen_loss_mean and full_loss_mean over the epochs less their first tenth, which says more of the
    initial weights than of the examples. Epochs are those measured.
    """

    epochs = history["epoch"].n_unique()
    early = max(1, round(epochs / 10))
    first_epochs = history["epoch"].unique().sort()[:early]
    several = f"probability_{side}" in history.columns  # of members; the mean of probabilities is not exp of the mean loss
    probability = pl.col(f"probability_{side}") if several else (-pl.col(f"loss_{side}")).exp()
    correct = pl.col(f"correct_{side}")
    later = pl.col("epoch").is_in(first_epochs.implode()).not_() if history["epoch"].n_unique() > 1 else pl.lit(True)
    per_seed = (
        history.sort("epoch")
        .group_by("seed", "index")
        .agg(
            cumulative_loss=pl.col(f"loss_{side}").sum(),
            aum=pl.col(f"margin_{side}").mean(),
            el2n=pl.col(f"error_norm_{side}").filter(pl.col("epoch").is_in(first_epochs.implode())).mean(),
            forgetting_events=pl.when(correct.max() > 0).then((correct.diff() < 0).sum()).otherwise(epochs + 1).cast(pl.Float64),
            confidence=probability.mean(),
            variability=probability.std(ddof=0),
            correctness=correct.mean(),
            memorization_mean=(pl.col("loss_unseen") - pl.col("loss_seen")).filter(later).mean(),
            unseen_loss_mean=pl.col("loss_unseen").filter(later).mean(),
            full_loss_mean=pl.col("loss_full").filter(later).mean(),
        )
    )
    return per_seed.drop("seed").group_by("index").mean().sort("index")


def right_probability_dense(evidence, labels, sharpness, rounds=50):
    """``curate.right_probability`` of one sharpness with the whole matrix of confusions, and the mean log-likelihood."""
    n, classes = evidence.shape
    raised = np.maximum(evidence, 1e-12) ** sharpness
    raised = raised / raised.sum(1, keepdims=True)
    matrix = np.full((classes, classes), 0.1 / (classes - 1))
    np.fill_diagonal(matrix, 0.9)
    for _ in range(rounds):
        counts = np.full((classes, classes), 1 / classes)
        for row, label in zip(raised, labels, strict=True):
            joint = row * matrix[:, label]
            counts[:, label] += joint / joint.sum()
        matrix, before = counts / counts.sum(1, keepdims=True), matrix
        if np.abs(matrix - before)[:, np.unique(labels)].max() < 1e-4:
            break
    joint = raised * matrix[:, labels].T
    return joint[np.arange(n), labels] / joint.sum(1), float(np.log(joint.sum(1)).mean())
