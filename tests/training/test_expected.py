"""The expected rank of memorization: what one half of the members says of the other half's difference."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer

import unseen
from unseen.training import FEWEST_EXAMPLES, FEWEST_MEMBERS, expected_rank, membership
from unseen.training.expected import halves, statements

MEMBERS, EXAMPLES = 64, 600
ORDERS = np.arange(MEMBERS) // 16


@pytest.fixture(scope="module")
def planted():
    """Losses with a known difference between members without an example and with it, and much noise on each."""
    import torch

    random = np.random.default_rng(0)
    member = membership(torch.arange(EXAMPLES), 0, MEMBERS, 0.7).numpy()
    truth = random.lognormal(-2, 1, EXAMPLES)
    level = 0.1 + truth * (1 - 0.8 * member)
    later, last = (level * random.lognormal(0, spread, level.shape) for spread in (0.5, 1.0))
    return truth, later, last, member


def gap(losses, member):
    return np.array([losses[~own, i].mean() - losses[own, i].mean() for i, own in enumerate(member.T)])


def test_it_is_nearer_to_the_truth_than_the_difference(planted):
    truth, later, last, member = planted
    found = expected_rank(later, last, member, ORDERS)
    assert spearmanr(found, truth).statistic > spearmanr(gap(last, member), truth).statistic + 0.1
    assert found.min() > 0 and found.max() < 1 and len(np.unique(found)) == EXAMPLES


def test_it_follows_the_difference_where_nothing_else_helps(planted):
    """Half of the examples are hard for all members alike: their losses say nothing of memorization, the difference does."""
    truth, later, last, member = planted
    hard = np.random.default_rng(1).permutation(EXAMPLES) < EXAMPLES // 2
    noise = np.random.default_rng(2).lognormal(1, 0.05, last.shape)
    later, last = np.where(hard, noise, later), np.where(hard, noise, last)
    true = np.where(hard, 0, truth)
    found = expected_rank(later, last, member, ORDERS)
    assert spearmanr(found, true).statistic > spearmanr(later.mean(0), true).statistic + 0.5


def test_the_order_of_the_examples_does_not_matter(planted):
    _, later, last, member = planted
    order = np.random.default_rng(3).permutation(EXAMPLES)
    whole, turned = expected_rank(later, last, member, ORDERS), expected_rank(later[:, order], last[:, order], member[:, order], ORDERS)
    np.testing.assert_allclose(turned, whole[order], atol=2 / EXAMPLES)


def test_statements_are_those_of_a_loop(planted):
    _, later, last, member = planted
    found = statements(later, last, member)
    for i in (0, 17, 599):
        own, logs = member[:, i], lambda value: np.log(value + 1e-4)
        means = [logs(part) for losses in (later, last) for part in (losses[own, i].mean(), losses[~own, i].mean(), losses[:, i].mean())]
        np.testing.assert_allclose(found[i], [*means, logs(later[:, i].std()), logs(last[~own, i]).mean()])


def test_halves_share_no_order_of_batches():
    for half in halves(ORDERS):
        assert half.sum() == MEMBERS / 2 and not set(ORDERS[half]) & set(ORDERS[~half])
    one = halves(np.zeros(MEMBERS, np.int64))
    assert all(half.sum() == MEMBERS / 2 for half in one) and not np.array_equal(one[0], one[1])


def test_few_members_or_examples_have_none(planted):
    _, later, last, member = planted
    few, some = FEWEST_MEMBERS - 1, FEWEST_EXAMPLES - 1
    assert expected_rank(later[:few], last[:few], member[:few], ORDERS[:few]) is None
    assert expected_rank(later[:, :some], last[:, :some], member[:, :some], ORDERS) is None


def test_on_a_table_it_follows_retraining_best(tmp_path):
    """The truth of scikit-learn's breast cancer table: 400 networks trained again (docs/results/truth)."""
    truth = pl.read_parquet(Path(__file__).parents[2] / "docs" / "results" / "truth" / "table.parquet").sort("index")
    inputs, _ = load_breast_cancer(return_X_y=True)
    data = (inputs[truth["index"].to_numpy()].astype(np.float32), truth["given_label"].to_numpy())
    run = unseen.score(
        data, "mlp", hidden=(64,), epochs=30, lr=0.05, momentum=0.9, batch_size=64, estimator="members", test_fraction=1e-9,
        out=tmp_path / "run",
    )  # fmt: skip
    scores, right = run.scores.sort("index"), (truth["given_label"] == truth["true_label"]).to_numpy()
    names = ("memorization_rank", "memorization", "memorization_mean", "unseen_loss_mean", "full_loss_mean")
    found = {name: spearmanr(scores[name].to_numpy()[right], truth["memorization"].to_numpy()[right]).statistic for name in names}
    assert found["memorization_rank"] > 0.89 and found["memorization_rank"] > max(found[name] for name in names[1:]) + 0.02
    assert run.scores.columns[4] == "memorization_rank" and "memorization_rank follows retraining best" in run.summary["how"]
