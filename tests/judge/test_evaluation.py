import json
import shutil

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

import unseen
from reference_influence import lds_one_by_one
from unseen import UnseenError
from unseen.judge.evaluation import (
    SUSPECT,
    agreement,
    coverage,
    evaluate,
    leave_one_out_correlation,
    linear_datamodeling_score,
    planted_discoveries,
    precision_at_n,
    seed_stability,
    spearman,
)
from unseen.judge.job import truth as write_truth
from unseen.judge.retraining import retrain
from unseen.scoring.inputs import run_examples

DETECTION = ["auroc", "average_precision", "precision_at_n"]
KEYS = ["score", *DETECTION, "spearman", "spearman_correct", "spearman_top", "low", "high", "reliability", "ceiling", "cost"]
KEYS += ["seed_stability", "leave_one_out", "leave_one_out_ceiling", "coverage", "false_discovery_rate", "lds"]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    return unseen.score(
        "digits",
        hidden=(64,),
        epochs=5,
        lr=0.1,
        batch_size=64,
        limit=600,
        random_labels=0.1,
        label_noise="other",
        estimator="turnover",
        out=folder,
    )


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_scipys(random, ties):
    left, right = random.normal(size=(2, 300))
    right = right + left
    if ties:
        left, right = left.round(), right.round()
    assert spearman(left, right, 2).value == pytest.approx(spearmanr(left, right).statistic, abs=1e-12)


def test_a_resample_ranks_as_if_drawn(random):
    """Counts in place of repeated examples: one resample against Spearman of the drawn rows."""
    from unseen.judge.evaluation import _weighted_spearman

    left, right = random.normal(size=(2, 50)).round(1)
    drawn = random.integers(50, size=50)
    places = [np.unique(side, return_inverse=True)[1] for side in (left, right)]
    counted = _weighted_spearman(places, np.bincount(drawn, minlength=50).astype(float))
    assert counted == pytest.approx(spearmanr(left[drawn], right[drawn]).statistic, abs=1e-12)


def test_the_interval_holds_the_value_as_often_as_it_says(random):
    """Normal pairs with correlation r have Spearman 6/pi asin(r/2)."""
    true, held = 6 / np.pi * np.arcsin(0.3), 0
    for _ in range(120):
        left, noise = random.normal(size=(2, 100))
        found = spearman(left, 0.6 * left + 0.8 * noise, 100)
        held += found.low <= true <= found.high
    assert 0.8 <= held / 120 <= 0.97


def test_a_constant_score_has_no_correlation():
    assert np.isnan(spearman(np.zeros(10), np.arange(10.0)).value)


def test_agreement_overall_on_correct_and_on_top(random):
    truth = random.normal(size=1000)
    correct = truth < 1.5
    score = np.where(correct, -truth, truth + 10)  # right about what is wrong, upside down about the rest
    found = agreement(score, truth, correct)
    assert found["spearman_correct"].value == pytest.approx(-1)
    assert found["spearman_top"].value == pytest.approx(1)
    assert -1 < found["spearman"].value < 1
    assert "spearman_correct" not in agreement(score, truth)


def test_precision_at_n():
    wrong = np.array([True, False, True, False, False])
    assert precision_at_n(wrong, np.array([5.0, 4, 3, 2, 1])) == 0.5
    assert precision_at_n(wrong, np.array([5.0, 1, 4, 2, 1])) == 1


def test_linear_datamodeling_score(random):
    influence, member = random.normal(size=(3, 20)), random.random((15, 20)) < 0.5
    noise = random.normal(size=(15, 3))
    losses = -(member @ influence.T) + 3 * noise
    found = linear_datamodeling_score(influence, member, losses)
    assert found.value == pytest.approx(lds_one_by_one(influence, member, losses), abs=1e-12)
    assert found.low <= found.value <= found.high
    assert linear_datamodeling_score(influence, member, losses - 3 * noise).value == pytest.approx(1)
    with pytest.raises(UnseenError, match="Shapes do not fit"):
        linear_datamodeling_score(influence.T, member, losses)


def test_a_query_without_any_influence_is_left_out(random):
    influence, member = random.normal(size=(2, 20)), random.random((15, 20)) < 0.5
    influence[1] = 0
    losses = -(member @ influence.T)
    assert linear_datamodeling_score(influence, member, losses).value == pytest.approx(1)


def test_leave_one_out_correlation_reaches_its_ceiling(random):
    exact, noise = random.normal(size=(2, 4000))
    table = pl.DataFrame({"index": range(4000), "memorization": exact + 0.5 * noise, "memorization_se": [0.5] * 4000})
    scores = pl.DataFrame({"index": range(3999, -1, -1), "memorization": exact[::-1]})  # the best possible
    found = leave_one_out_correlation(scores, table)
    assert found["ceiling"] == pytest.approx(1 / 1.25**0.5, abs=0.02)
    assert found["pearson"] == pytest.approx(found["ceiling"], abs=0.03)
    assert np.isnan(leave_one_out_correlation(scores, table.drop("memorization_se"))["ceiling"])
    with pytest.raises(UnseenError, match="at least 3"):
        leave_one_out_correlation(scores.head(2), table)


def test_seed_stability():
    rows = [
        {"seed": seed, "epoch": epoch, "index": i, "loss_seen": 0.0, "loss_unseen": float(-i if epoch == 1 and seed else i)}
        for seed in (0, 1)
        for epoch in (1, 2)
        for i in range(3)
    ]
    history = pl.DataFrame(rows)
    assert seed_stability(history) == pytest.approx(1)
    assert seed_stability(history.filter(pl.col("epoch") == 1), "loss_unseen") == pytest.approx(-1)
    assert np.isnan(seed_stability(history.filter(pl.col("seed") == 0)))


def test_coverage_of_right_and_of_wrong_errors(random):
    truth, noise, own = random.normal(size=(3, 20000))
    estimate = truth + 0.3 * noise
    error = np.full(20000, 0.3)
    assert coverage(estimate, error, truth) == pytest.approx(0.9, abs=0.01)
    assert coverage(estimate, error / 2, truth) == pytest.approx(2 * norm.cdf(norm.ppf(0.95) / 2) - 1, abs=0.01)
    assert coverage(estimate, error, truth + 0.4 * own, 0.4) == pytest.approx(0.9, abs=0.01)
    assert coverage(estimate, error, truth + 0.4 * own) < 0.8
    assert coverage(np.append(estimate, 0), np.append(error, np.nan), np.append(truth, 9.0)) == coverage(estimate, error, truth)


def test_coverage_with_few_members_takes_students_t(random):
    draws = random.normal(size=(5, 20000))
    estimate, error = draws.mean(0), draws.std(0, ddof=1) / 5**0.5
    assert coverage(estimate, error, np.zeros(20000), degrees=4) == pytest.approx(0.9, abs=0.01)
    assert coverage(estimate, error, np.zeros(20000)) < 0.86


def test_planted_discoveries(random):
    null, gaps = random.normal(size=2000), np.concatenate([random.normal(size=3000), random.normal(6, 1, size=1000)])
    found = planted_discoveries(gaps, null)
    assert found["false_discovery_rate"] <= 0.1
    assert found["called_trained"] == pytest.approx(0.25, abs=0.05) and found["called_null"] < 0.06
    fooled = planted_discoveries(gaps, np.concatenate([null[:1900], null[1900:] + 20]))
    assert fooled["called_trained"] < 0.05  # a null with outliers: nothing stands out


def test_evaluate_without_truth(run):
    rows = evaluate(run)
    assert [list(row) for row in rows] == [KEYS] * len(rows)
    assert {row["score"] for row in rows} == set(SUSPECT) & set(run.scores.columns) and len(rows) > 12
    assert all(row["spearman"] is None and row["reliability"] is None for row in rows)
    assert [row["auroc"] for row in rows] == sorted((row["auroc"] for row in rows), reverse=True)
    scores = run.scores
    wrong = (scores["true_label"] != scores["given_label"]).to_numpy()
    found = {row["score"]: row["auroc"] for row in rows}
    assert found["aum"] == pytest.approx(roc_auc_score(wrong, -scores["aum"].to_numpy()))
    assert found["memorization"] == pytest.approx(run.summary["auroc"])
    assert min(found[name] for name in ("unseen_loss_mean", "cumulative_loss", "aum", "confidence", "label_score", "el2n")) > 0.7  # signs
    assert json.loads((run.path / "metrics.json").read_text()) == rows


def test_evaluate_with_truth(run):
    scores = run.scores
    run.write_table("truth", scores.select("index", memorization=pl.col("cumulative_loss") + 0.01 * pl.col("loss_unseen")))
    run.write_json("truth.json", {"reliability": 0.97})
    rows = evaluate(run)
    assert rows[0]["score"] == "cumulative_loss" and rows[0]["spearman"] > 0.9 and rows[0]["reliability"] == 0.97
    for row in rows:
        assert row["low"] - 1e-3 <= row["spearman_correct"] <= row["high"] + 1e-3
    assert rows == sorted(rows, key=lambda row: -row["spearman_correct"])


def test_a_constant_score_stands_last_without_a_correlation(run, tmp_path):
    copy = unseen.open_run(shutil.copytree(run.path, tmp_path / "run"))
    scores = copy.scores
    copy.write_table("truth", scores.select("index", memorization="cumulative_loss"))
    copy.write_json("truth.json", {"reliability": 0.97})
    copy.write_table("scores", scores.with_columns(pl.col("forgetting_events") * 0))
    row = evaluate(copy)[-1]
    assert row["score"] == "forgetting_events" and row["auroc"] == 0.5
    assert row["spearman_correct"] is None and row["spearman_top"] is None and row["low"] is None
    assert "NaN" not in (copy.path / "metrics.json").read_text()


def test_evaluate_tells_what_intervals_floor_and_influence_are_worth(tmp_path, random):
    options = {"hidden": (64,), "epochs": 5, "lr": 0.1, "batch_size": 64, "limit": 600, "precision": "32", "null_fraction": 0.25}
    run = unseen.score("digits", estimator="members", members=16, random_labels=0.1, out=tmp_path / "run", **options)
    write_truth(run, members=16)
    rows = {row["score"]: row for row in evaluate(run)}
    assert 0.5 < rows["memorization"]["coverage"] <= 1 and 0 <= rows["memorization"]["false_discovery_rate"] < 0.3
    assert rows["memorization"]["seed_stability"] is None and rows["aum"]["coverage"] is None and "influence" not in rows

    config, examples = run_examples(run)
    losses, member = retrain(examples, config, 16, run=run)
    train, queries = examples.train.index.numpy(), examples.index[[3, len(examples) - 1]].numpy()  # of both splits
    influence = random.normal(size=(2, len(train)))
    grid = np.meshgrid(queries, train, indexing="ij")
    columns = {"query_index": grid[0].ravel(), "train_index": grid[1].ravel(), "influence": influence.ravel()}
    columns |= {f"{name}_id": [f"row/{index}" for index in columns[f"{name}_index"]] for name in ("query", "train")}
    columns |= {"side": ["top"] * influence.size, "rank": [1] * influence.size}
    run.write_table("influence", pl.DataFrame(columns).sample(fraction=1, shuffle=True, seed=0))
    row = evaluate(run)[-1]
    expected = linear_datamodeling_score(influence, member.numpy(), losses[:, [3, len(examples) - 1]].double().numpy())
    assert row["score"] == "influence" and row["lds"] == pytest.approx(expected.value) and row["auroc"] is None


def test_evaluate_after_leave_one_out_and_with_seeds(tmp_path):
    run = unseen.score("digits", hidden=(32,), epochs=2, limit=100, seeds=2, estimator="turnover", out=tmp_path / "run")
    some = run.scores.head(20).select("index", "memorization", memorization_se=pl.lit(0.0))
    run.write_table("truth", some)
    run.write_json("truth.json", {"left_out": 20, "seeds": 3, "reliability": None})
    row = next(row for row in evaluate(run) if row["score"] == "memorization")
    assert row["leave_one_out"] == pytest.approx(1) and row["leave_one_out_ceiling"] == pytest.approx(1)
    assert row["seed_stability"] == pytest.approx(run.summary["seed_correlation"], abs=1e-6) and row["cost"] > 1


def test_evaluate_without_true_labels(tmp_path, digits):
    run = unseen.score("digits", hidden=(32,), epochs=1, limit=100, out=tmp_path / "run")
    assert all(row["auroc"] is None and row["precision_at_n"] is None for row in evaluate(run))
    run.write_table("truth", run.scores.select("index", "memorization").head(60))
    row = next(row for row in evaluate(run) if row["score"] == "memorization")
    assert row["spearman"] == pytest.approx(1) and row["spearman_correct"] is None and row["low"] == pytest.approx(1)
