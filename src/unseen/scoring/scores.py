"""From measurements to one row per example: memorization, out-of-sample predictions, the free scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.config import Config
from unseen.data import null_mask
from unseen.masks import Side
from unseen.scoring.floor import Floats, NoiseFloor

if TYPE_CHECKING:
    import polars as pl

SLACK = 1e-6  # below a threshold that still reaches it: cleanlab's, so that both say the same


def final_scores(finals: "list[pl.DataFrame]") -> "pl.DataFrame":
    """Join the last measurements of each seed: means over seeds, and, of halves, memorization's standard error and 90% interval.

    Args:
        finals: per seed, the columns index, loss_*, predicted_*, p_<class> (unseen half), same rows in each; from members also
            probability_*, whose mean is not exp of the mean loss, memorization_se and half_width, and of many memorization_rank. Turn-over
            dropout has a standard error where there are several seeds.
    """
    import polars as pl

    sides = [side for side in Side if f"loss_{side}" in finals[0].columns]
    losses = {side: np.stack([final[f"loss_{side}"].to_numpy() for final in finals]) for side in sides}  # (seeds, n)
    columns: dict[str, Any] = {f"loss_{side}": loss.mean(0) for side, loss in losses.items()}
    chances = {side: np.mean([_probability(final, side) for final in finals], axis=0) for side in sides}
    if Side.SEEN in sides:
        columns |= _memorization(finals, losses[Side.UNSEEN] - losses[Side.SEEN])
    columns |= {f"probability_{side}": chance for side, chance in chances.items()}
    if Side.SEEN in sides:
        columns["memorization_probability"] = chances[Side.SEEN] - chances[Side.UNSEEN]
    columns |= {
        f"predicted_{side}": _majority([final[f"predicted_{side}"].to_numpy() for final in finals]) for side in sides if side != Side.UNSEEN
    }
    if "memorization_rank" in finals[0].columns:
        columns["memorization_rank"] = np.mean([final["memorization_rank"].to_numpy() for final in finals], axis=0)
    if Side.UNSEEN in sides:
        columns["predicted_unseen"] = mean_probabilities(finals).argmax(1)
    table = pl.DataFrame({"index": finals[0]["index"]} | {name: pl.Series(name, values) for name, values in columns.items()})
    return table.with_columns(pl.col("^memorization_rank$").fill_nan(None))


def _probability(final: "pl.DataFrame", side: Side) -> Floats:
    """Of the given label, (n,): as it was measured, or of one network from its loss."""
    name = f"probability_{side}"
    found: Floats = final[name].to_numpy() if name in final.columns else np.exp(-final[f"loss_{side}"].to_numpy())
    return found


def _memorization(finals: "list[pl.DataFrame]", gaps: Floats) -> dict[str, Floats]:
    """Its mean over seeds and, where it is known, its standard error and interval. Args: gaps (seeds, n)."""
    mean, (error, half_width) = gaps.mean(0), _spread(finals, gaps)
    if error is None or half_width is None:
        return {"memorization": mean}
    return {"memorization": mean, "memorization_se": error, "memorization_low": mean - half_width, "memorization_high": mean + half_width}


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


def self_confidence(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Per class, how many examples have its label and the sum of their probabilities of it: (2, classes). Sums of parts add up."""
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    return np.stack([np.bincount(labels, minlength=classes), np.bincount(labels, own, classes)])


def label_issues(probabilities: Floats, labels: NDArray[np.int64], confidence: Floats | None = None) -> NDArray[np.bool_]:
    """Which labels confident learning doubts (Northcutt et al. 2021, section 3.1), as cleanlab's ``find_label_issues`` does it.

    A class is a candidate for an example if its out-of-sample probability reaches the class's mean self-confidence, less ``SLACK``. The
    guess is the candidate where there is one, and the most probable class where there are several. The label is an issue if there is a
    guess that is not the given label, and the most probable class is not the given label either.

    Args:
        probabilities: (n, classes), of networks that did not train on the example.
        labels: int64 (n,).
        confidence: ``self_confidence`` of the trained examples, where these are a part of them or others stand among them.

    Returns:
        bool (n,).
    """
    counts, sums = self_confidence(probabilities, labels) if confidence is None else confidence
    thresholds = np.where(
        counts > 0, np.maximum(sums / np.maximum(counts, 1), 2 * SLACK), np.inf
    )  # nobody is sure of a class without examples
    candidates = probabilities >= thresholds - SLACK
    leading = probabilities.argmax(1)
    guess = np.where(candidates.sum(1) > 1, leading, candidates.argmax(1))
    issue: NDArray[np.bool_] = candidates.any(1) & (guess != labels) & (leading != labels)
    return issue


def joined_scores(examples: "pl.DataFrame", free: "pl.DataFrame", finals: "list[pl.DataFrame]", config: Config) -> "pl.DataFrame":
    """A row per example, in the order of ``examples``: what it is, its last measurements, its free scores, and whether it was trained."""
    import polars as pl

    table = examples
    for part in (final_scores(finals), free):
        table = table.join(part, on="index", how="left", maintain_order="left")
    return table.with_columns(trained=pl.Series(is_trained(table, config)))


def is_trained(examples: "pl.DataFrame", config: Config) -> NDArray[np.bool_]:
    """Which rows were trained on, (n,): those of the train split that are not held out for the noise floor."""
    import torch

    held_out = null_mask(torch.from_numpy(examples["index"].to_numpy().copy()), config.noise.null_fraction, config.seed).numpy()
    trained: NDArray[np.bool_] = (examples["split"] == "train").to_numpy() & ~held_out
    return trained


def with_judgement(
    table: "pl.DataFrame", probabilities: Floats, floor: NoiseFloor | None, q_values: Floats, confidence: Floats
) -> "pl.DataFrame":
    """Add what depends on the whole: z_score and q_value, where there is a floor, and label_score, predicted_label, is_label_issue.

    The trained examples are the hypotheses: others have no q_value.

    Args:
        table: a row per example, with memorization, given_label, predicted_unseen and trained.
        probabilities: (n, classes), of each example by the unseen side.
        floor: of examples that were never trained; None: no z_score and no q_value.
        q_values: of ``NoiseFloor.q_values``.
        confidence: ``self_confidence`` of the trained examples of the whole.
    """
    import polars as pl

    gaps, labels = table["memorization"].to_numpy(), table["given_label"].to_numpy()
    if floor is not None:
        q_value = pl.when("trained").then(pl.Series(q_values[floor.above(gaps)]))
        table = table.with_columns(z_score=pl.Series(floor.z_scores(gaps)), q_value=q_value)
    return table.with_columns(
        label_score=pl.Series(np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]),
        predicted_label=pl.col("predicted_unseen"),
        is_label_issue=pl.Series(label_issues(probabilities, labels, confidence)),
    )


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


def in_order(table: "pl.DataFrame", leading: Sequence[str] = ()) -> "pl.DataFrame":
    """The columns of the scores in their order. leading: the scores that stand first, where the table has them."""
    import polars as pl

    front = ["index", "id", "trained", "given_label", *(name for name in leading if name in table.columns)]
    return table.select(*front, pl.exclude(front))


def tally(table: "pl.DataFrame") -> dict[str, int]:
    """Counts of a score table, of which those of parts add up: see ``accuracies``. A column split tells the test examples apart."""
    import polars as pl

    is_test = pl.col("split") == "test" if "split" in table.columns else pl.lit(False)
    trained, test = table.filter("trained"), table.filter(is_test)
    sides = [side for side in Side if f"predicted_{side}" in table.columns]
    counts = {"examples": len(table) - len(test), "trained": len(trained), "test": len(test)}
    for label in ("given_label", "true_label") if "true_label" in table.columns else ("given_label",):
        counts |= {f"{label}_{side}": _equal(trained, f"predicted_{side}", label) for side in sides}
    if "true_label" in table.columns:
        counts["right_labels"] = _equal(trained, "given_label", "true_label")
    if len(test):
        halves = {"half": Side.SEEN} if Side.SEEN in sides else {}
        counts |= {
            f"test_{name}": _equal(test, f"predicted_{side}", "given_label") for name, side in ({"full": Side.FULL} | halves).items()
        }
    return counts


def _equal(table: "pl.DataFrame", one: str, other: str) -> int:
    return int((table[one] == table[other]).sum())


def accuracies(counts: dict[str, int]) -> dict[str, Any]:
    """Accuracies of the halves and the full network on the trained and the test examples, from ``tally``'s counts."""
    trained = counts["trained"]
    facts: dict[str, Any] = {"examples": counts["examples"], "trained": trained}
    for label, ending in (("given_label", ""), ("true_label", "_true")):
        facts |= {f"accuracy_{side}{ending}": counts[f"{label}_{side}"] / trained for side in Side if f"{label}_{side}" in counts}
    if "right_labels" in counts:
        facts["wrong_labels"] = trained - counts["right_labels"]
    if counts["test"]:
        facts |= {f"test_accuracy_{side}": counts[f"test_{side}"] / counts["test"] for side in ("full", "half") if f"test_{side}" in counts}
    return facts


def summarize(table: "pl.DataFrame") -> dict[str, Any]:
    """What to tell of a score table: accuracies of the halves, AUROC and average precision of wrong labels where known."""
    facts = accuracies(tally(table))
    if 0 < facts.get("wrong_labels", 0) < facts["trained"] and "memorization" in table.columns:
        trained = table.filter("trained")
        facts |= detection((trained["true_label"] != trained["given_label"]).to_numpy(), trained["memorization"].to_numpy())
    return facts


def detection(wrong: NDArray[np.bool_], score: Floats) -> dict[str, float]:
    """AUROC and average precision of a score (high = suspect) for the wrong labels."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {"auroc": float(roc_auc_score(wrong, score)), "average_precision": float(average_precision_score(wrong, score))}
