r"""How right the scores are: tables in, numbers out. Nothing is trained here.

Detection of known wrong labels; rank correlation with the truth of retraining, beside the truth's own reliability, whose root
no estimator can be expected to pass; the linear datamodeling score of influence; and whether standard errors and the noise floor keep
their promise. Intervals are bootstrap percentiles over examples (over queries for the linear datamodeling score).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.judge.retraining import ceiling
from unseen.runs import Run
from unseen.scoring import detection, noise_floor, rank_correlation

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

SUSPECT = {
    **dict.fromkeys(("memorization", "memorization_mean", "memorization_probability", "loss_seen", "loss_unseen", "loss_full"), 1),
    **dict.fromkeys(("memorization_rank", "head_memorization", "head_loss"), 1),
    **dict.fromkeys(("unseen_loss_mean", "full_loss_mean", "cumulative_loss", "el2n", "forgetting_events", "variability"), 1),
    **dict.fromkeys(("label_score", "aum", "confidence", "correctness"), -1),
}
"""Scores that are judged, and whether high (1) or low (-1) means memorized, hence suspect."""


NORMAL_90 = 1.6448536269514722  # half the width of a 90% interval, in standard errors


@dataclass(frozen=True)
class Estimate:
    """A number, and the ends of the central interval that holds it with probability ``level`` (90%) by the bootstrap."""

    value: float
    low: float
    high: float


def evaluate(run: Run) -> list[dict[str, Any]]:
    """Judge every score of a run, best first, and write the same to ``metrics.json``.

    Returns:
        A row per score of ``SUSPECT`` that the run has, with the keys score; auroc, average_precision and precision_at_n for known wrong
        labels (None where true labels are not known, or all are right); spearman, spearman_correct and spearman_top, with the truth on all
        examples, those with correct labels and the 5% most memorized; low and high, the 90% interval of spearman_correct (of spearman where
        true labels are not known); reliability of the truth on all examples and ceiling, its root, which spearman can reach (None without
        ``truth.parquet``); cost in plain training runs, where the run measured it. All are taken with the sign that makes high suspect,
        over the examples that were trained. A score with gaps has no row; what a constant one has no value for is None.

    And what only some runs tell: seed_stability (several seeds; losses and memorization); leave_one_out, the Pearson
    correlation, and its ceiling (after ``unseen truth --leave-one-out``); coverage, the share of 90% intervals of memorization that
    hold the truth, its own noise added; false_discovery_rate, of planted never-trained examples called at 10% (a noise floor of 100 or
    more held out). Where there are ``influence.parquet`` and a truth of random subsets, a last row, influence, has lds with
    low and high; pairs that the table does not hold count as 0, so keep many (``unseen influence --top``).

    Raises:
        UnseenError: where the run has no scores yet.
    """
    scores = run.scores
    null, scores = scores.filter(~scores["trained"]), scores.filter("trained")
    truth, facts = _truth(run)
    if truth is not None:
        scores = scores.join(truth, on="index", how="left", maintain_order="left")
    cost = run.summary.get("cost") if run.finished else None
    history = run.history.join(scores.select("index"), on="index", how="semi") if run.config.seeds > 1 else None
    whole = [name for name in SUSPECT if name in scores.columns and not np.isnan(scores[name].cast(float).to_numpy()).any()]
    rows = [_row(scores, name, facts, cost) | _more(scores, name, facts, history) for name in whole]
    for row in rows:
        if row["score"] == "memorization" and len(null) >= 100:
            planted = planted_discoveries(scores["memorization"].to_numpy(), null["memorization"].to_numpy())
            row["false_discovery_rate"] = planted["false_discovery_rate"]
    rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]  # nan: of a score that is constant
    by = next((name for name in ("spearman_correct", "spearman", "auroc") if any(row[name] is not None for row in rows)), "score")
    rows.sort(key=lambda row: row[by] if isinstance(row[by], str) else np.inf if row[by] is None else -row[by])
    if "losses" in facts and (run.path / "influence.parquet").exists():
        lds = _lds(run, facts)
        found = {"score": "influence", "lds": lds.value, "low": lds.low, "high": lds.high}
        rows.append(dict.fromkeys(rows[0]) | found)
    run.write_json("metrics.json", rows)
    return rows


def _truth(run: Run) -> "tuple[pl.DataFrame | None, dict[str, Any]]":
    """Index, truth and its standard error, and what the truth says of itself; nothing where there is none."""
    if not (run.path / "truth.parquet").exists():
        return None, {}
    table = run.table("truth")
    labels = {"given_label"} & set(table.columns)  # leave-one-out has none
    if len(table.join(run.scores, on=["index", *labels], how="semi")) < len(table):
        raise UnseenError(f"{run.path / 'truth.parquet'} is of other examples or labels than the scores. `unseen truth` makes it again.")
    errors = {"truth_se": "memorization_se"} if "memorization_se" in table.columns else {}
    facts = run.read_json("truth.json") if (run.path / "truth.json").exists() else {}
    return table.select("index", truth="memorization", **errors), facts


def _row(scores: "pl.DataFrame", name: str, facts: dict[str, Any], cost: float | None) -> dict[str, Any]:
    score = SUSPECT[name] * scores[name].cast(float).to_numpy()
    row: dict[str, Any] = {"score": name} | dict.fromkeys(("auroc", "average_precision", "precision_at_n"))
    row |= dict.fromkeys(("spearman", "spearman_correct", "spearman_top", "low", "high"))
    correct = None
    if "true_label" in scores.columns:
        correct = (scores["true_label"] == scores["given_label"]).to_numpy()
        if 0 < correct.sum() < len(correct):
            row |= detection(~correct, score) | {"precision_at_n": precision_at_n(~correct, score)}
    if "truth" in scores.columns:
        known = scores["truth"].is_not_null().to_numpy()
        agreed = agreement(score[known], scores["truth"].to_numpy()[known], None if correct is None else correct[known])
        row |= {name: estimate.value for name, estimate in agreed.items()}
        interval = agreed.get("spearman_correct", agreed["spearman"])
        row |= {"low": interval.low, "high": interval.high}
    return row | {"reliability": facts.get("reliability"), "ceiling": ceiling(facts.get("reliability")), "cost": cost}


def _more(scores: "pl.DataFrame", name: str, facts: dict[str, Any], history: "pl.DataFrame | None") -> dict[str, Any]:
    """What only some runs tell; None where this one does not."""
    import polars as pl

    row: dict[str, Any] = dict.fromkeys(
        ("seed_stability", "leave_one_out", "leave_one_out_ceiling", "coverage", "false_discovery_rate", "lds")
    )
    if history is not None and (name == "memorization" or name in history.columns):
        row["seed_stability"] = seed_stability(history, name)
    known = scores.filter(pl.col("truth").is_not_null()) if "truth" in scores.columns else scores.head(0)
    if "left_out" in facts and len(known) >= 3:
        exact = known.select("index", memorization="truth", memorization_se="truth_se")
        found = leave_one_out_correlation(known.select("index", score=SUSPECT[name] * pl.col(name)), exact, "score")
        row |= {"leave_one_out": found["pearson"], "leave_one_out_ceiling": found["ceiling"]}
    elif name == "memorization" and "memorization_low" in scores.columns and "truth_se" in known.columns:
        gap, low, high, true, error = known.select(
            name, "memorization_low", "memorization_high", "truth", "truth_se"
        ).to_numpy().T  # fmt: skip
        row["coverage"] = coverage(gap, (high - low) / 2 / NORMAL_90, true, error)
    return row


def _lds(run: Run, facts: dict[str, Any]) -> Estimate:
    """The linear datamodeling score of ``influence.parquet`` from the losses of the truth's members."""
    import polars as pl
    import torch

    from unseen.training import membership

    examples, pairs = run.examples, run.table("influence")
    train = examples.filter(pl.col("split") == "train")["index"].to_numpy()
    queries = pairs["query_index"].unique().sort().to_numpy()
    paths = sorted((run.path / "weights" / facts["losses"]).glob("*.safetensors"))
    losses = torch.cat([run.read_tensors(f"{facts['losses']}/{path.stem}")[0]["losses"] for path in paths]).numpy()
    member = membership(torch.from_numpy(train.copy()), facts["seed"], len(losses), facts["share"]).numpy()
    influence = np.zeros((len(queries), len(train)))
    order = np.argsort(train)
    columns = order[np.searchsorted(train, pairs["train_index"].to_numpy(), sorter=order)]
    influence[np.searchsorted(queries, pairs["query_index"].to_numpy()), columns] = pairs["influence"].to_numpy()
    index = examples["index"].to_numpy()
    rows = np.argsort(index)[np.searchsorted(np.sort(index), queries)]
    return linear_datamodeling_score(influence, member, losses[:, rows].astype(np.float64))


def precision_at_n(wrong: Bools, score: Floats) -> float:
    """Share of wrong labels among the n highest scores, n the number of wrong labels."""
    n = int(wrong.sum())
    return float(wrong[np.argsort(-score, kind="stable")[:n]].mean())


def agreement(score: Floats, truth: Floats, correct: Bools | None = None, top: float = 0.05) -> dict[str, Estimate]:
    """Rank correlation with the truth: spearman over all, spearman_correct over correct labels, spearman_top over the top.

    Args:
        score: (n,), high = memorized.
        truth: (n,), high = memorized.
        correct: whether each label is right, bool (n,); without it there is no spearman_correct.
        top: the share of the examples, those of the largest truth, that spearman_top is over.
    """
    found = {"spearman": spearman(score, truth)}
    if correct is not None:
        found["spearman_correct"] = spearman(score[correct], truth[correct])
    highest = np.argsort(-truth, kind="stable")[: max(3, round(top * len(truth)))]
    return found | {"spearman_top": spearman(score[highest], truth[highest])}


def spearman(left: Floats, right: Floats, repeats: int = 200, level: float = 0.9) -> Estimate:
    """Spearman's rank correlation with its bootstrap interval; nan where a side is constant.

    A resample gives each example a count, so its ranks are cumulated counts: nothing is sorted twice. Cost: linear, per repeat.
    """
    random = np.random.default_rng(key("bootstrap"))
    places = [np.unique(side, return_inverse=True)[1].ravel() for side in (left, right)]
    value = _weighted_spearman(places, np.ones(len(left)))
    draws = (np.bincount(random.integers(len(left), size=len(left)), minlength=len(left)).astype(float) for _ in range(repeats))
    return _percentiles(value, [_weighted_spearman(places, counts) for counts in draws], level)


def _weighted_spearman(places: list[NDArray[np.int64]], counts: Floats) -> float:
    """Spearman's correlation where each example counts that often. places: rank order of each value, equal for ties."""
    ranks = []
    for place in places:
        sums = np.bincount(place, counts)
        ranks.append((np.cumsum(sums) - sums / 2)[place])  # mid-ranks, up to a constant
    left, right = (rank - np.average(rank, weights=counts) for rank in ranks)
    norm = np.sqrt((counts * left**2).sum() * (counts * right**2).sum())
    return float((counts * left * right).sum() / norm) if norm > 0 else float("nan")


def _percentiles(value: float, draws: list[float], level: float) -> Estimate:
    kept = np.array(draws)[np.isfinite(draws)]
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2]) if len(kept) else (float("nan"), float("nan"))
    return Estimate(value, float(low), float(high))


def linear_datamodeling_score(influence: Floats, member: Bools, losses: Floats, repeats: int = 200, level: float = 0.9) -> Estimate:
    r"""LDS (Park et al. 2023, definition 2.3): does the influence of a subset's examples predict what a network trained on it does?

    .. math:: \text{mean over } q \text{ of } \text{Spearman}_S\Big(\sum_{i \in S} I(i, q),\; -L_S(q)\Big)

    over the truth's members, each trained on its own subset S.

    Args:
        influence: (queries, train), positive = training on it helps.
        member: who trained on what, bool (members, train).
        losses: of each member on each query, nats, (members, queries).
        repeats: resamples for the interval.
        level: probability of the interval.

    Returns:
        The mean over queries; its interval is over queries, for these members.

    Raises:
        UnseenError: where the shapes do not fit.
    """
    if influence.shape != (losses.shape[1], member.shape[1]) or len(member) != len(losses):
        raise UnseenError(
            f"Shapes do not fit: influence {influence.shape} (queries, train), member {member.shape} (members, train), "
            f"losses {losses.shape} (members, queries)."
        )
    from scipy.stats import rankdata

    sides = [rankdata(side, axis=0) for side in (member.astype(influence.dtype) @ influence.T, -losses)]  # (members, queries)
    left, right = (side - side.mean(0) for side in sides)
    norms = np.sqrt((left**2).sum(0) * (right**2).sum(0))
    each = (left * right).sum(0)[norms > 0] / norms[norms > 0]
    random = np.random.default_rng(key("bootstrap"))
    draws = [float(each[random.integers(len(each), size=len(each))].mean()) for _ in range(repeats)] if len(each) else []
    return _percentiles(float(each.mean()) if len(each) else float("nan"), draws, level)


def leave_one_out_correlation(scores: "pl.DataFrame", exact: "pl.DataFrame", score: str = "memorization") -> dict[str, float]:
    """How a score follows exact leave-one-out: pearson, spearman, and ceiling, over the examples of both tables.

    Args:
        scores: index and the score.
        exact: index, memorization and, where it has several seeds, memorization_se, as ``leave_one_out`` gives it.
        score: name of the score's column.

    Returns:
        The correlations under pearson and spearman, and under ceiling the largest Pearson correlation that the noise of ``exact`` allows:
        the root of the share of its variance that is not noise (nan without memorization_se).

    Raises:
        UnseenError: where fewer than three examples are in both.
    """
    errors = [name for name in ("memorization_se",) if name in exact.columns]
    table = exact.select("index", *errors, exact="memorization").join(scores.select("index", score=score), on="index")
    if len(table) < 3:
        raise UnseenError(f"{len(table)} examples have both a score and their leave-one-out; at least 3 are needed.")
    left, right = table["score"].to_numpy(), table["exact"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant score has no correlation
        pearson = float(np.corrcoef(left, right)[0, 1])
    found = {"pearson": pearson, "spearman": spearman(left, right, 1).value, "ceiling": float("nan")}
    if errors and table["memorization_se"].null_count() == 0:
        noise = float((table["memorization_se"].to_numpy() ** 2).mean())
        found["ceiling"] = float(np.sqrt(max(0.0, 1 - noise / right.var(ddof=1))))
    return found


def seed_stability(history: "pl.DataFrame", score: str = "memorization") -> float:
    """Mean Spearman correlation, over pairs of seeds, of ``memorization`` or a column of the history, last epoch; nan for one seed."""
    import polars as pl

    value = pl.col("loss_unseen") - pl.col("loss_seen") if score == "memorization" else pl.col(score)
    last = history.filter(pl.col("epoch") == pl.col("epoch").max()).select("seed", "index", value=value).sort("seed", "index")
    seeds = last.partition_by("seed", maintain_order=True)
    return rank_correlation(np.stack([seed["value"].to_numpy() for seed in seeds]))


def coverage(
    estimate: Floats,
    standard_error: Floats,
    truth: Floats,
    truth_se: Floats | float = 0.0,
    level: float = 0.9,
    degrees: float | None = None,
) -> float:
    """Share of examples whose interval of probability ``level`` about the estimate holds the truth: right where it is ``level``.

    The interval is estimate ± t sqrt(standard_error² + truth_se²): the truth has noise of its own. Examples without a standard error are
    left out.

    Args:
        estimate: (n,).
        standard_error: of the estimate, (n,).
        truth: (n,).
        truth_se: standard error of the truth, (n,) or one for all.
        level: probability of the interval.
        degrees: of freedom of the standard error, (members - 1) or so; None: a normal interval.
    """
    from scipy.stats import norm, t

    factor = norm.ppf((1 + level) / 2) if degrees is None else t.ppf((1 + level) / 2, degrees)
    error = np.sqrt(standard_error**2 + np.square(truth_se))
    known = np.isfinite(error) & np.isfinite(estimate) & np.isfinite(truth)
    return float((np.abs(estimate - truth)[known] <= factor * error[known]).mean())


def planted_discoveries(gaps: Floats, null_gaps: Floats, level: float = 0.1, repeats: int = 20) -> dict[str, float]:
    """Is the false discovery rate of ``noise_floor`` right? Plant examples never trained among the trained, and count.

    In each repeat half of the null, drawn at random, is the noise floor and the other half is mixed with the trained examples.

    Args:
        gaps: memorization of trained examples, (n,).
        null_gaps: memorization of examples that were never trained, (m,).
        level: of the false discovery rate.
        repeats: how many random halves.

    Returns:
        Means over the repeats. Under false_discovery_rate the share of planted ones among all called (0 where none are called), which must
        not exceed ``level``; under called_null and called_trained the share of each that is called.
    """
    random = np.random.default_rng(key("planted"))
    found = []
    for _ in range(repeats):
        order = random.permutation(len(null_gaps))
        floor, planted = null_gaps[order[: len(order) // 2]], null_gaps[order[len(order) // 2 :]]
        called = noise_floor(np.concatenate([planted, gaps]), floor)[1] < level
        false = called[: len(planted)]
        found.append((false.sum() / max(1, called.sum()), false.mean(), called[len(planted) :].mean()))
    means = np.mean(found, axis=0)
    return {name: float(mean) for name, mean in zip(("false_discovery_rate", "called_null", "called_trained"), means, strict=True)}
