"""What every column of every table means: the one source for Parquet metadata and the docs."""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """Meaning of a column. direction: what a high value says."""

    formula: str
    unit: str = ""
    range: str = ""
    direction: str = ""


NATS = ("nats", ">= 0")
PROBABILITY = ("probability", "0..1")

COLUMNS: dict[str, Column] = {
    "index": Column("position in the unshuffled data set, train first, then test", "", "0..2^62", "joins all tables"),
    "id": Column("stable name of the example: path, row, or the user's column"),
    "copies": Column("how often the same document occurs", "", ">= 1"),
    "tokens": Column("tokens of the document", "", ">= 1"),
    "token_memorization": Column("memorization of each token, in order", "nats", "", "memorized"),
    "text": Column("the text, where the examples are texts"),
    "split": Column("train (trained on), held (of the train split, never trained on) or test"),
    "trained": Column("false for test examples and for the held-out null examples"),
    "given_label": Column("the label trained on", "class number"),
    "true_label": Column("the label before corruption, where known", "class number"),
    "epoch": Column("number of passes over the data, from 1"),
    "seed": Column("seed of masks, initial weights and order"),
    "loss_seen": Column("cross entropy of the half that the example trains", *NATS),
    "loss_unseen": Column("cross entropy of the half that never saw the example", *NATS),
    "loss_full": Column(
        "cross entropy of the network without masks; where examples share masks (--groups 8 or fewer) of the mean of both halves' logits",
        *NATS,
    ),
    "memorization": Column("loss_unseen - loss_seen (Liu et al. 2021, eq. 2 and 6)", "nats", "", "memorized"),
    "memorization_se": Column("standard error of memorization over seeds or members", "nats", ">= 0", "uncertain"),
    "memorization_rank": Column(
        "share of the trained examples that are expected to be memorized less, given what all members say (training/expected.py)",
        "", "0..1", "memorized",
    ),
    "memorization_mean": Column("memorization, mean over the later epochs (the first tenth left out)", "nats", "", "memorized"),
    "unseen_loss_mean": Column("loss_unseen, mean over the later epochs", *NATS, "hard without having seen it"),
    "memorization_probability": Column(
        "probability of the given label, seen minus unseen, each a mean over members or seeds (Feldman & Zhang 2020)", "probability",
        "-1..1", "memorized",
    ),
    "z_score": Column("(memorization - mean) / standard deviation of examples never trained", "", "", "above the noise"),
    "q_value": Column(
        "false discovery rate if this example and all above it are called memorized (Benjamini & Hochberg 1995, "
        "against the examples never trained)", "probability", "0..1", "indistinguishable from noise",
    ),
    "cumulative_loss": Column("sum over epochs of the loss (CSL, Ravikumar et al. 2025)", *NATS, "learned late"),
    "aum": Column("mean over epochs of the margin (Pleiss et al. 2020)", "logits", "", "learned early"),
    "el2n": Column("norm of softmax minus one-hot, mean over the first tenth of epochs (Paul et al. 2021)", "", "0..sqrt 2", "difficult"),
    "forgetting_events": Column(
        "number of measured epochs at which right turned wrong; of an example that was never right those epochs + 1, more than any "
        "other has (Toneva et al. 2019: infinite); of members counted in each that trains on it, and averaged",
        "events", ">= 0", "difficult",
    ),
    "confidence": Column("mean over epochs of the given label's probability (Swayamdipta et al. 2020)", *PROBABILITY, "easy"),
    "variability": Column("standard deviation over epochs of the given label's probability (same)", "probability", "0..0.5", "ambiguous"),
    "correctness": Column("share of epochs at which the prediction was the given label (same)", *PROBABILITY, "easy"),
    "half_width": Column("half the width of the 90% interval of memorization", "nats", ">= 0", "uncertain"),
    "memorization_low": Column("lower end of the 90% interval of memorization", "nats", "", "memorized"),
    "memorization_high": Column("upper end of the 90% interval of memorization", "nats", "", "memorized"),
    "memorization_mean_se": Column("standard error of memorization_mean over members", "nats", ">= 0", "uncertain"),
    "memorization_probability_se": Column("standard error of memorization_probability", "probability", ">= 0", "uncertain"),
    "full_loss_mean": Column("loss_full, mean over the later epochs", *NATS, "hard, or learned late"),
    "head_memorization": Column(
        "loss of a ridge head on the network's own last features without the example minus with it, exactly; mean over the later epochs "
        "(training/hidden.py)", "nats", "", "memorized",
    ),
    "head_loss": Column("loss of that head without the example, mean over the later epochs", *NATS, "hard, or learned late"),
    "query_index": Column("index of the query; queries of one's own are numbered from 0", "", "0..2^62"),
    "query_id": Column("stable name of the query"),
    "rank": Column("place among the query's extremes, from 1, most extreme first", "", ">= 1"),
    "train_index": Column("index of the training example"),
    "train_id": Column("stable name of the training example"),
    "influence": Column(
        "turnover: loss of the query in the half that never saw the example minus in the half that it trained (Liu et al. 2021, "
        "eq. 5), nats; members: the same of networks without and with it (Feldman & Zhang 2020), nats; "
        "gradient: sum over saved epochs of rate * gradient products in the K-FAC metric, query normalised",
        "", "", "training on it helps the query",
    ),
    "subset": Column("name of a subset of the examples"),
    "other": Column("the second subset, of a quantity between two"),
    "side": Column("half or network: seen, unseen, full; in influence.parquet top (helps most) or bottom (hurts most)"),
    "loss": Column("mean cross entropy of the subset", *NATS),
    "accuracy": Column("share of the subset whose prediction is the given label", *PROBABILITY),
    "examples": Column(
        "how many examples it was measured on; of cosines those whose gradient has a direction: a loss of 0 in float32 may have none",
        "", ">= 0",
    ),
    "quantity": Column("cosine_similarity (Liu et al. 2021, eq. 3), cosine_between, contribution (eq. 4), norm, coherence, variance"),
    "value": Column("of the quantity"),
    "first_learned_epoch": Column("first epoch at which the prediction is the given label", "epochs", ">= 1", "learned late"),
    "learned_epoch": Column("epoch from which on the prediction is always the given label", "epochs", ">= 1", "learned late"),
    "last_forgotten_epoch": Column("last epoch at which right turned wrong", "epochs", ">= 1"),
    "neighbour_index": Column("index of one of its nearest training examples"),
    "similarity": Column("cosine of the angle between the two, as neighbours.py sees them", "", "-1..1", "alike"),
    "other_index": Column("index of its nearest partner: of an earlier duplicate, or of the training example in a leak"),
    "other_id": Column("id of the partner"),
    "other_class": Column("name of the partner's label"),
    "cosine": Column("of the angle between the features of the two, centred and scaled to deviation 1", "", "-1..1", "alike"),
    "exact": Column("whether the inputs of the two are equal"),
    "labels_differ": Column("whether the labels of the two, or within the group of duplicates, differ"),
    "group": Column("number of its group of duplicates, the same for all that pairs connect"),
    "strangeness": Column(
        "distance of its features from the 20 nearest, or from the mean of all, in interquartile ranges above the third quartile", "", "",
        "an outlier",
    ),
    "given_class": Column("name of the label trained on"),
    "suggested_label": Column("class that the unseen half and the nearest examples name together", "class number"),
    "suggested_class": Column("name of the suggested label"),
    "wrong_probability": Column("probability that the given label is wrong (curate/lists.py)", *PROBABILITY, "label wrong"),
    "support": Column("share of the nearest training examples with the same given label", "share", "0..1", "label right"),
    "score": Column("what the list is ranked by"),
    "label_score": Column("out-of-sample probability of the given label (cleanlab's self-confidence)", *PROBABILITY, "label right"),
    "is_label_issue": Column("another class passes its mean self-confidence, and leads (Northcutt et al. 2021)"),
    "predicted_label": Column("most probable class by the unseen half", "class number"),
    "lira_online": Column("log-likelihood ratio of Gaussians with and without the record (Carlini et al. 2022)", "nats", "", "member"),
    "lira_offline": Column("log-odds above those without the record, in their standard deviations (same)", "", "", "member"),
    "bavaria": Column("log-likelihood ratio of Student's t by a conjugate prior (BaVarIA, 2603.11799)", "nats", "", "member"),
    "rmia_online": Column("share of other records that its likelihood ratio dominates (Zarifzadeh et al. 2024)", "share", "0..1", "member"),
    "rmia_offline": Column("the same without members that trained on it", "share", "0..1", "member"),
    "calibrated_loss": Column("loss of members without the record minus the target's (Watson et al. 2022)", "nats", "", "member"),
    "plain_loss": Column("minus the loss of the target (Yeom et al. 2018)", "nats", "<= 0", "member"),
    "loss_trace_spread": Column("interquartile range over epochs of the loss (2411.05743)", *NATS, "at risk"),
    "members_memorization": Column("mean loss of the members without the record minus that of those with it", "nats", "", "memorized"),
    "risk": Column("high, raised, unclear or low: where the interval of tpr_at_1_percent lies (privacy/records.py)"),
} | {
    name: column
    for side in ("seen", "unseen", "full")
    for name, column in {
        f"predicted_{side}": Column(f"most probable class, {side}", "class number"),
        f"probability_{side}": Column(f"probability of the given label, {side}; of several networks the mean of theirs", *PROBABILITY),
        f"margin_{side}": Column(f"logit of the given label minus the best other, {side}", "logits", "", "confident"),
        f"correct_{side}": Column(f"the prediction is the given label, {side}"),
        f"error_norm_{side}": Column(f"norm of softmax minus one-hot, {side}", "", "0..sqrt 2", "difficult"),
    }.items()
} | {
    f"tpr_at_{name}{end}": Column(f"{what}how often an attacker finds the record at false alarms of {rate}", *PROBABILITY, "at risk")
    for name, rate in (("1_percent", "1%"), ("tenth_percent", "0.1%"))
    for end, what in (("", ""), ("_low", "lower end of the 90% interval: "), ("_high", "upper end of the 90% interval: "))
}  # fmt: skip


def bounds(name: str) -> tuple[float, float]:
    """The least and the most that a column may hold, as its ``range`` says; minus and plus infinity where it says nothing.

    >>> bounds("label_score"), bounds("half_width"), bounds("p_3"), bounds("aum")
    ((0.0, 1.0), (0.0, inf), (0.0, 1.0), (-inf, inf))
    """
    text = COLUMNS[name].range if name in COLUMNS else "0..1" if re.fullmatch(r"p_\d+", name) else ""
    if least := re.fullmatch(r">= (\S+)", text):
        return float(least[1]), math.inf
    if both := re.fullmatch(r"(\S+)\.\.(.+)", text):
        return float(both[1]), {"sqrt 2": 2**0.5, "2^62": 2.0**62}.get(both[2]) or float(both[2])
    return -math.inf, math.inf


def describe(columns: list[str]) -> dict[str, str]:
    """One line per column, for Parquet metadata. Columns of class probabilities are called ``p_<class>``."""
    lines = {}
    for name in columns:
        column = COLUMNS.get(name) or Column(f"out-of-sample probability of class {name.removeprefix('p_')}", *PROBABILITY)
        fields = {"unit": column.unit, "range": column.range, "high": column.direction}
        lines[name] = "; ".join([column.formula, *(f"{key}: {value}" for key, value in fields.items() if value)])
    return lines
