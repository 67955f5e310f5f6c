"""Members: what their tables say, computed again from the weights that the same training has after each epoch.

One batch is all examples, so that what an epoch observes is what the weights of the epoch before say.
"""

import numpy as np
import polars as pl
import pytest
from torch import nn

import unseen
from independent import early, forgotten, inputs, label_issues, layers, mean_over, members_say, memberships

MEMBERS, EPOCHS = 6, 5  # 5: has no whole tenth
OPTIONS = {"estimator": "members", "members": MEMBERS, "fraction": 0.5, "batch_size": 2000, "momentum": 0.9, "precision": "32"}
OPTIONS |= {"random_labels": 0.3, "null_fraction": 0.15}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """The run, and of each moment from the start to the end what all members say of the examples in its scores, and who trained on them."""
    folder, runs = tmp_path_factory.mktemp("members"), []
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    for epochs in range(EPOCHS + 1):
        rate = {"epochs": max(1, epochs), "lr": 1.0 if epochs else 1e-30}
        runs.append(unseen.score("digits", model, out=folder / f"run-{epochs}", **OPTIONS, **rate))
    run = runs[-1]
    index, x, labels = inputs(run)
    places = np.searchsorted(index, run.scores["index"].to_numpy())
    x, labels = x[places], labels[places]
    logs = [members_say(layers(part.path / "weights" / "seed-0.safetensors"), x) for part in runs]
    losses = -logs[-1][:, np.arange(len(labels)), labels]
    member = memberships(losses, run.scores["loss_seen"].to_numpy(), run.scores["loss_unseen"].to_numpy(), MEMBERS // 2)
    return run, labels, logs, member


def own(log, labels):
    """Of the given label: (members, n)."""
    return log[:, np.arange(len(labels)), labels]


def test_losses_and_probabilities_are_means_over_members(audit):
    run, labels, logs, member = audit
    scores, last = run.scores, own(logs[-1], labels)
    for side, chosen in {"seen": member, "unseen": ~member, "full": np.ones_like(member)}.items():
        np.testing.assert_allclose(scores[f"loss_{side}"], mean_over(-last, chosen), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(scores[f"probability_{side}"], mean_over(np.exp(last), chosen), atol=1e-4)
    gap = mean_over(np.exp(last), member) - mean_over(np.exp(last), ~member)
    np.testing.assert_allclose(scores["memorization_probability"], gap, atol=1e-4)


def test_out_of_sample_probabilities_are_of_one_kind(audit):
    """Means over the later epochs: of the trained before each step, of those held out after it."""
    run, labels, logs, member = audit
    trained = run.scores["trained"].to_numpy()
    later = range(early(EPOCHS), EPOCHS)
    before = np.mean([mean_over(np.exp(logs[epoch]), ~member) for epoch in later], axis=0)
    after = np.mean([mean_over(np.exp(logs[epoch + 1]), ~member) for epoch in later], axis=0)
    expected = np.where(trained[:, None], before, after)
    assert 20 < (~trained).sum() < len(trained)
    table = run.table("unseen_probabilities")
    np.testing.assert_allclose(table.drop("index").to_numpy()[trained], expected[trained], atol=1e-4)
    np.testing.assert_allclose(table.drop("index").to_numpy()[~trained], expected[~trained], atol=1e-4)
    np.testing.assert_allclose(run.scores["label_score"], expected[np.arange(len(labels)), labels], atol=1e-4)


def test_label_issues_are_those_of_confident_learning(audit):
    run = audit[0]
    probabilities, labels = run.table("unseen_probabilities").drop("index").to_numpy(), run.scores["given_label"].to_numpy()
    expected = label_issues(probabilities, labels, run.scores["trained"].to_numpy())
    assert (run.scores["is_label_issue"].to_numpy() == expected).all() and expected.any()


def test_confidence_and_variability_are_of_means_of_probabilities(audit):
    run, labels, logs, member = audit
    trained = run.scores["trained"].to_numpy()
    chances = np.stack([mean_over(np.exp(own(log, labels)), member) for log in logs[:EPOCHS]])[:, trained]
    np.testing.assert_allclose(run.scores.filter("trained")["confidence"], chances.mean(0), atol=1e-4)
    np.testing.assert_allclose(run.scores.filter("trained")["variability"], chances.std(0), atol=1e-4)


def test_means_of_losses_over_the_later_epochs(audit):
    run, labels, logs, member = audit
    later = logs[early(EPOCHS) : EPOCHS]
    expected = np.mean([mean_over(-own(log, labels), ~member) for log in later], axis=0)
    scores = run.scores.with_columns(expected=pl.Series(expected)).filter("trained")
    np.testing.assert_allclose(scores["unseen_loss_mean"], scores["expected"], rtol=1e-3)
    total = np.sum([mean_over(-own(log, labels), member) for log in logs[:EPOCHS]], axis=0)
    scores = run.scores.with_columns(expected=pl.Series(total)).filter("trained")
    np.testing.assert_allclose(scores["cumulative_loss"], scores["expected"], rtol=1e-3)


def test_forgetting_is_counted_in_each_member(audit):
    run, labels, logs, member = audit
    trained = run.scores["trained"].to_numpy()
    correct = np.stack([log.argmax(2) == labels for log in logs[:EPOCHS]])  # (epochs, members, n)
    events = np.stack([forgotten(correct[:, k]) for k in range(MEMBERS)])
    expected = mean_over(events, member)[trained]
    found = run.scores.filter("trained")["forgetting_events"].to_numpy()
    assert (np.abs(found - expected) < 1e-5).mean() > 0.995 and len(np.unique(expected.round(3))) > 5  # ties of two classes
