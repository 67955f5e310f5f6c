import numpy as np
import polars as pl
import pytest

from reference_scores import free_scores
from unseen.scoring.scores import final_scores, label_issues, noise_floor, rank_correlation

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
