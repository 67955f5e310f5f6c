"""Scores that somebody hands in."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import unseen
from unseen.cli import main
from unseen.errors import UnseenError
from unseen.judge import calibration_error, evaluate_scores, read_scores, read_truth

ROOT = Path(__file__).parents[2]
COUNT = 200


@pytest.fixture
def task(tmp_path):
    """A truth of 200 examples, of which each tenth label is wrong."""
    random = np.random.default_rng(0)
    given = random.integers(0, 5, COUNT)
    wrong = np.arange(COUNT) % 10 == 0
    memorization = random.exponential(1, COUNT) + 3 * wrong
    table = {"index": np.arange(COUNT) * 3, "given_label": given, "true_label": np.where(wrong, (given + 1) % 5, given)}
    table |= {"memorization": memorization.astype(np.float32), "memorization_se": np.full(COUNT, 0.1, np.float32)}
    pl.DataFrame(table).write_parquet(tmp_path / "truth.parquet")
    (tmp_path / "truth.json").write_text(json.dumps({"reliability": 0.81, "reliability_correct": 0.64}))
    return tmp_path / "truth.parquet"


def handed(task, **columns):
    path = task.with_name("scores.parquet")
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_both_questions_are_judged_and_columns_of_ours_by_their_meaning(task, capsys):
    truth, facts = read_truth(str(task))
    index, score = truth["index"].to_numpy(), truth["memorization"].to_numpy() + np.random.default_rng(1).normal(0, 0.5, COUNT)
    order = np.random.default_rng(2).permutation(COUNT)
    path = handed(
        task, index=index[order], mine=score[order], label_score=-score[order], given_label=truth["given_label"].to_numpy()[order]
    )
    found = read_scores(path, truth)
    assert list(found) == ["mine", "label_score"] and np.array_equal(found["mine"], found["label_score"])
    wrong = (truth["given_label"] != truth["true_label"]).to_numpy()
    judged = evaluate_scores(found["mine"], truth, facts)
    assert judged["spearman_correct"] == pytest.approx(spearmanr(score[~wrong], truth["memorization"].to_numpy()[~wrong]).statistic)
    assert judged["low"] < judged["spearman_correct"] < judged["high"] and judged["auroc"] == pytest.approx(roc_auc_score(wrong, score))
    assert judged["ceiling"] == pytest.approx(0.8) and judged["share_of_ceiling"] == pytest.approx(judged["spearman_correct"] / 0.8)
    assert judged["calibration_error"] is None and judged["coverage"] is None
    assert main(["evaluate", str(task), "--scores", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in rows] == ["mine", "label_score"] and rows[0] == {"score": "mine"} | judged
    assert main(["evaluate", str(task), "--scores", str(path)]) == 0
    assert "label_score" in capsys.readouterr().out


def test_calibration_and_coverage(task):
    truth, facts = read_truth(str(task))
    random = np.random.default_rng(0)
    chance = random.random(20_000)
    assert calibration_error(chance, random.random(20_000) < chance) < 0.02
    assert calibration_error(chance, random.random(20_000) < chance**3) == pytest.approx(0.25, abs=0.02)
    memorization = truth["memorization"].to_numpy()
    ends = memorization + random.normal(0, 0.3, COUNT)
    judged = evaluate_scores(ends, truth, facts, interval=(ends - 0.5, ends + 0.5), probability=True)
    assert judged["coverage"] == pytest.approx(0.9, abs=0.06) and judged["calibration_error"] > 0


def test_what_cannot_be_judged_has_its_own_line(task, capsys, tmp_path):
    truth, _ = read_truth(str(task))
    index, score = truth["index"].to_numpy(), np.arange(COUNT, dtype=float)
    spoiled = np.where(np.arange(COUNT) == 7, np.nan, score)
    (tmp_path / "none.parquet").write_bytes(b"none")
    for message, columns in {
        "has no column index but row, mine": {"row": index, "mine": score},
        "index of .* is Float64": {"index": index.astype(float), "mine": score},
        "lacks 1 of the task's 200 examples, the first index 0, and has 1 that are none of it": {"index": index + 3, "mine": score},
        "3 rows whose index is there twice": {"index": np.r_[index, index[:3]], "mine": np.r_[score, score[:3]]},
        "no column of numbers": {"index": index, "name": [str(value) for value in score]},
        "mine of .* is NaN, infinite or missing for 1 of 200 examples, first for index 21": {"index": index, "mine": spoiled},
    }.items():
        path = handed(task, **columns)
        with pytest.raises(UnseenError, match=message):
            read_scores(path, truth)
        assert main(["evaluate", str(task), "--scores", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UnseenError, match="cannot be read as parquet"):
        read_scores(tmp_path / "none.parquet", truth)
    with pytest.raises(UnseenError, match="There is no task 'nothing'"):
        read_truth("nothing")
    with pytest.raises(UnseenError, match="is no truth: it has no column given_label"):
        read_truth(str(handed(task, index=index)))


def test_a_run_is_a_task(tmp_path):
    run = unseen.score(
        "digits", estimator="plain", limit=100, epochs=15, batch_size=16, lr=0.1, hidden=(16,), out=tmp_path / "run", random_labels=10
    )
    with pytest.raises(UnseenError, match=r"truth\.parquet"):
        read_truth(str(run.path))
    unseen.truth(run, members=8)
    truth, facts = read_truth(str(run.path))
    path = tmp_path / "scores.parquet"
    run.scores.select("index", "cumulative_loss").write_parquet(path)
    assert evaluate_scores(read_scores(path, truth)["cumulative_loss"], truth, facts)["auroc"] > 0.6


def test_the_benchmark_goes_on_and_makes_its_page(tmp_path):
    """The tiny version that CI runs."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "fidelity.py"),
        "--task",
        "digits",
        "--only",
        "8 members",
        "CSL",
        "--work",
        str(tmp_path / "work"),
    ]
    command += ["--out", str(tmp_path), "--page", str(tmp_path / "page.md"), "--truth", str(ROOT / "docs" / "results" / "truth")]
    first = subprocess.run([*command, "--stop-after", "0"], check=True, capture_output=True, text=True)
    assert "the time is over" in first.stdout and not (tmp_path / "fidelity-digits.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    rows = json.loads((tmp_path / "fidelity-digits.json").read_text())["rows"]
    members = next(row for row in rows if row["method"] == "8 members" and row.get("score") == "unseen_loss_mean")
    assert members["spearman_correct"] > 0.4 and members["auroc"] > 0.9 and 0 < members["share_of_ceiling"] < 1 and members["cost"] > 0
    page = (tmp_path / "page.md").read_text()
    assert "What did this network memorize? (digits)" in page and "CSL" in page and "## Add a method" in page
