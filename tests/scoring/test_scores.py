import numpy as np
import polars as pl
import pytest

import unseen
from reference_scores import free_scores
from unseen.scoring.floor import floor_lines, least_discoveries, noise_floor
from unseen.scoring.scores import final_scores, label_issues, rank_correlation, self_confidence

SIDES = ("seen", "unseen", "full")


def history(losses, corrects):
    """One example per row of the lists, one epoch per entry; the same numbers on all sides but a higher unseen loss."""
    rows = []
    for index, (loss, correct) in enumerate(zip(losses, corrects, strict=True)):
        for epoch, (value, right) in enumerate(zip(loss, correct, strict=True), 1):
            row = {"seed": 0, "epoch": epoch, "index": index}
            for side in SIDES:
                row |= {f"loss_{side}": value + (side == "unseen"), f"correct_{side}": float(right)}
                row |= {f"margin_{side}": -value, f"error_norm_{side}": value / 10}
            rows.append(row)
    return pl.DataFrame(rows)


def test_free_scores_by_hand():
    table = free_scores(history([[3.0, 1.0, 2.0], [0.5, 0.5, 0.5]], [[0, 1, 0], [1, 1, 1]])).to_dicts()
    hard, easy = table
    assert hard["cumulative_loss"] == 6.0 and hard["aum"] == -2.0 and hard["el2n"] == pytest.approx(0.3)
    assert hard["forgetting_events"] == 1 and easy["forgetting_events"] == 0
    chances = np.exp([-3.0, -1.0, -2.0])
    assert hard["confidence"] == pytest.approx(chances.mean()) and hard["variability"] == pytest.approx(chances.std())
    assert hard["correctness"] == pytest.approx(1 / 3) and hard["memorization_mean"] == pytest.approx(1.0)
    assert hard["unseen_loss_mean"] == pytest.approx(2.5)  # the first epoch left out


def test_free_scores_do_not_depend_on_the_order_of_rows():
    table = history([[3.0, 1.0, 2.0, 5.0]] * 3, [[0, 1, 0, 1]] * 3)
    assert free_scores(table.sample(fraction=1, shuffle=True, seed=0)).equals(free_scores(table))


def final(gaps, predicted, chances):
    n = len(gaps)
    table = pl.DataFrame({"index": range(n), "loss_seen": [0.1] * n, "loss_unseen": [0.1 + gap for gap in gaps], "loss_full": [0.1] * n})
    table = table.with_columns(**{f"predicted_{side}": pl.Series(predicted, dtype=pl.Float32) for side in SIDES})
    return table.with_columns(p_0=pl.Series(chances), p_1=1 - pl.Series(chances))


def test_seeds_are_averaged_with_a_standard_error():
    table = final_scores([final([1.0, 2.0], [0, 1], [0.9, 0.4]), final([3.0, 2.0], [0, 1], [0.7, 0.8])])
    assert table["memorization"].to_list() == pytest.approx([2.0, 2.0])
    assert table["memorization_se"].to_list() == pytest.approx([np.std([1, 3], ddof=1) / 2**0.5, 0.0])
    assert table["predicted_unseen"].to_list() == [0, 0]  # 0.8 and 0.6 on average
    assert "memorization_se" not in final_scores([final([1.0], [0], [0.9])]).columns


FLOOR = {"discoveries_q10": 0, "trained": 1000, "null_examples": 99, "null": "held out", "null_gap_std": 1.0}


@pytest.mark.parametrize("null", [9, 10, 99, 400])
def test_the_least_discoveries_are_the_first_that_are_called(null):
    least, gaps = least_discoveries(null, 1000), np.zeros(1000)
    floor = np.arange(null, dtype=float)
    for count in (least or 1000, (least or 1000) - 1):
        gaps[:] = -1
        gaps[:count] = null
        assert (noise_floor(gaps, floor)[1] < 0.1).sum() == (count if least and count >= least else 0)


def test_the_screen_says_what_a_floor_cannot_tell():
    def said(**facts):
        return " ".join(floor_lines(FLOOR | facts))

    assert floor_lines(FLOOR | {"discoveries_q10": None}) == []
    assert "no example can stand out, whatever is memorized" in said(null_examples=9)
    assert "takes at least 101 of 1,000 examples above all 99 never trained on" in said()
    assert "coarse" in said(discoveries_q10=200) and "coarse" not in said(discoveries_q10=200, null_examples=2000)
    tests = {"null": "test examples", "discoveries_q10": 300, "null_examples": 2000}
    assert "40% of the labels are wrong" in said(wrong_labels=400, **tests)
    assert "--null-fraction" not in said(wrong_labels=100, **tests) and "prefer --null-fraction" in said(**tests)
    assert "prefer" not in said(wrong_labels=400, **tests | {"null": "held out"})


def test_the_noise_floor_finds_what_was_planted():
    random = np.random.default_rng(0)
    null, gaps = random.normal(0.5, 2, 4000), random.normal(0.5, 2, 5000)
    gaps[:500] += 12
    z, q = noise_floor(gaps, null)
    assert abs(z[500:].mean()) < 0.1 and abs(z[500:].std() - 1) < 0.1
    found = q < 0.1
    assert found[:500].mean() > 0.9 and found[500:].sum() <= 0.2 * found.sum()
    assert (noise_floor(random.normal(0.5, 2, 5000), null)[1] < 0.1).mean() < 0.01


def test_label_issues_need_a_confident_other_class():
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95], [0.5, 0.5]])
    assert label_issues(chances, np.array([0, 0, 1, 1, 0, 1])).tolist() == [False, False, False, False, True, False]


def test_rank_correlation():
    rows = np.array([[1.0, 2, 3, 4], [10.0, 20, 30, 40]])
    assert rank_correlation(rows) == pytest.approx(1.0)
    assert rank_correlation(np.array([[1.0, 2, 3, 4], [4.0, 3, 2, 1]])) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(rows[:1]))


def drawn(kind, seed, rows=400, classes=4):
    """Probabilities and labels of many shapes: sharp and flat, imbalanced, of tiny and absent classes, with ties."""
    random = np.random.default_rng(seed)
    weights = {"imbalanced": [196, 3, 1, 0], "absent": [1, 1, 0, 0], "one": [1, 0, 0, 0]}.get(kind, [1] * classes)
    labels = random.choice(classes, rows, p=np.array(weights) / sum(weights))
    logits = random.normal(size=(rows, classes)) * (3 if kind == "sharp" else 0.3) + 2 * np.eye(classes)[labels]
    swapped = random.random(rows) < 0.2
    labels[swapped] = random.choice(np.unique(labels), swapped.sum())
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if kind == "ties":
        probabilities = np.round(probabilities * 4) + 1e-3
        probabilities /= probabilities.sum(1, keepdims=True)
    if kind == "near zero":
        probabilities[:, 3] *= 1e-8
    return probabilities.astype(np.float32 if kind == "float32" else np.float64), labels


@pytest.mark.parametrize("kind", ["sharp", "flat", "imbalanced", "absent", "one", "ties", "near zero", "float32"])
@pytest.mark.parametrize("seed", range(5))
def test_label_issues_are_those_of_cleanlab(kind, seed):
    filters = pytest.importorskip("cleanlab.filter")
    probabilities, labels = drawn(kind, seed)
    theirs = filters.find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    ours = label_issues(probabilities, labels)
    assert (ours == theirs).all() and not ours[probabilities.argmax(1) == labels].any()
    if kind in ("sharp", "flat"):
        assert 5 < ours.sum() < 300


def test_thresholds_are_of_trained_examples_alone():
    """A class that only untrained rows have must not be a candidate for anybody."""
    probabilities, labels = drawn("absent", 0)
    others = np.full((50, 4), 0.01)
    others[:, 2] = 0.97
    both, given = np.concatenate([probabilities, others]), np.concatenate([labels, np.full(50, 3)])  # rows of class 3 that nobody names
    confidence = self_confidence(probabilities, labels)
    assert (label_issues(both, given, confidence)[:400] == label_issues(probabilities, labels)).all()
    assert label_issues(both, given)[:400].sum() != label_issues(probabilities, labels).sum()


@pytest.mark.parametrize("estimator", ["turnover", "members"])
def test_the_column_of_a_run_is_that_of_cleanlab(tmp_path, estimator):
    filters = pytest.importorskip("cleanlab.filter")
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4)) + np.array([0] * 196 + [2, 2, 2, -2])[:, None]
    table = pl.DataFrame({f"x{i}": rows[:, i] for i in range(4)} | {"label": ["ant"] * 196 + ["bee"] * 3 + ["cat"]})
    table.write_csv(tmp_path / "data.csv")
    options = {"hidden": (64,), "epochs": 20, "null_fraction": 0.1}
    run = unseen.score(str(tmp_path / "data.csv"), out=tmp_path / "run", estimator=estimator, **options)
    scores = run.scores
    trained = scores["trained"].to_numpy()
    labels, probabilities = scores["given_label"].to_numpy()[trained], run.probabilities()[trained]
    theirs = filters.find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    assert (scores["is_label_issue"].to_numpy()[trained] == theirs).all() and scores["is_label_issue"].sum() < 20
    assert scores.filter("is_label_issue", pl.col("predicted_label") == pl.col("given_label")).is_empty()
