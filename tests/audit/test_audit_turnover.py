"""Turn-over dropout: equations 3 to 6, free scores, the noise floor and label issues, computed again from weights and tables."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

import unseen
from independent import early, forgotten, half_masks, halves, inputs, label_issues, layers, q_values
from unseen.cli import main

UNITS = 32


@pytest.fixture(scope="module", params=[5, 15])
def run(request, tmp_path_factory):
    """Neither 5 nor 15 epochs have a whole tenth."""
    options = {"hidden": (UNITS,), "batch_size": 64, "lr": 0.1, "random_labels": 0.3, "null_fraction": 0.1, "precision": "32"}
    path = tmp_path_factory.mktemp("run") / "run"
    return unseen.score("digits", estimator="turnover", epochs=request.param, out=path, **options)


def sides(run):
    index, x, labels = inputs(run)
    logs = halves(layers(run.path / "weights" / "seed-0.safetensors"), x, half_masks(UNITS, index))
    return index, labels, logs


def rows(run, index):
    """The scores, and the places of their rows among all examples."""
    scores = run.scores
    return scores, np.searchsorted(index, scores["index"].to_numpy())


def test_equation_6_and_what_stands_beside_it(run):
    index, labels, logs = sides(run)
    scores, places = rows(run, index)
    own = [log[np.arange(len(labels)), labels][places] for log in logs]
    for side, log in zip(("seen", "unseen", "full"), own, strict=True):
        np.testing.assert_allclose(scores[f"loss_{side}"], -log, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(scores[f"probability_{side}"], np.exp(log), atol=1e-5)
    np.testing.assert_allclose(scores["memorization"], own[0] - own[1], atol=1e-4)
    np.testing.assert_allclose(scores["memorization_probability"], np.exp(own[0]) - np.exp(own[1]), atol=1e-5)
    np.testing.assert_allclose(scores["label_score"], np.exp(own[1]), atol=1e-5)
    assert (scores["predicted_seen"].to_numpy() == logs[0].argmax(1)[places]).mean() > 0.998  # ties


def test_free_scores_are_those_of_the_history(run):
    history, scores = run.history.sort("epoch", "index"), run.scores.sort("index")
    history = history.filter(pl.col("index").is_in(scores["index"].implode()))
    epochs = history["epoch"].n_unique()
    value = {name: history[name].to_numpy().astype(np.float64).reshape(epochs, -1) for name in history.columns}
    first, probability = early(epochs), np.exp(-value["loss_seen"])
    expected = {
        "cumulative_loss": value["loss_seen"].sum(0),
        "aum": value["margin_seen"].mean(0),
        "el2n": value["error_norm_seen"][:first].mean(0),
        "confidence": probability.mean(0),
        "variability": probability.std(0),
        "correctness": value["correct_seen"].mean(0),
        "memorization_mean": (value["loss_unseen"] - value["loss_seen"])[first:].mean(0),
        "unseen_loss_mean": value["loss_unseen"][first:].mean(0),
        "full_loss_mean": value["loss_full"][first:].mean(0),
        "forgetting_events": forgotten(value["correct_seen"] == 1),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(scores[name], numbers, rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_was_never_learned_is_the_hardest(run):
    history = run.history.group_by("index").agg(pl.col("correct_seen").max())
    scores = run.scores.join(history, on="index")
    never = (scores["correct_seen"] == 0).to_numpy()
    events = scores["forgetting_events"].to_numpy()
    assert never.any() and events[never].min() > events[~never].max()


def test_label_issues_are_those_of_confident_learning(run):
    scores, table = run.scores, run.table("unseen_probabilities")
    assert table["index"].to_list() == scores["index"].to_list()
    probabilities, labels = table.drop("index").to_numpy(), scores["given_label"].to_numpy()
    expected = label_issues(probabilities, labels, scores["trained"].to_numpy())
    assert (scores["is_label_issue"].to_numpy() == expected).all() and expected.any()
    assert (scores["predicted_label"].to_numpy() == probabilities.argmax(1)).all()


def test_the_trained_examples_are_the_hypotheses(run):
    scores = run.scores
    trained, gaps = scores["trained"].to_numpy(), scores["memorization"].to_numpy()
    expected = q_values(gaps[trained], gaps[~trained])
    np.testing.assert_allclose(scores["q_value"].to_numpy()[trained], expected, rtol=1e-12)
    assert run.summary["discoveries_q10"] == (expected < 0.1).sum()
    z = (gaps - gaps[~trained].mean()) / gaps[~trained].std()
    np.testing.assert_allclose(scores["z_score"], z, rtol=1e-3, atol=1e-4)


def test_equation_5_in_float32(run):
    assert main(["influence", str(run.path), "--queries", "test[:15]", "--top", "2000"]) == 0
    table = run.table("influence")
    index, x, labels = inputs(run)
    weights = layers(run.path / "weights" / "seed-0.safetensors")
    masks = half_masks(UNITS, index)
    queries = table["query_index"].unique().sort().to_numpy()
    trained = np.sort(run.scores.filter("trained")["index"].to_numpy())
    expected = np.empty((len(queries), len(trained)))
    for row, place in enumerate(np.searchsorted(index, queries)):
        mask = masks[np.searchsorted(index, trained)]
        seen, unseen_, _ = halves(weights, np.repeat(x[place][None], len(trained), 0), mask)
        expected[row] = seen[:, labels[place]] - unseen_[:, labels[place]]
    found = expected[np.searchsorted(queries, table["query_index"]), np.searchsorted(trained, table["train_index"])]
    np.testing.assert_allclose(table["influence"], found, atol=2e-4)
    large = np.abs(found) > 1e-4
    assert (np.sign(table["influence"].to_numpy()) == np.sign(found))[large].all()


@pytest.fixture(scope="module")
def saturated(tmp_path_factory):
    """One batch is all examples, and some are fitted beyond what float32 can tell from certain."""
    path = tmp_path_factory.mktemp("saturated") / "run"
    options = {"hidden": (UNITS,), "limit": 120, "batch_size": 200, "optimizer": "adam", "lr": 2.0, "precision": "32", "epochs": 40}
    return unseen.score("digits", estimator="turnover", save_every=40, random_labels=0.2, out=path, **options)


def test_equations_3_and_4(saturated):
    run = saturated
    index, x, labels = inputs(run, limit=120)
    trained = run.examples.sort("index")["split"].to_numpy() == "train"
    parts = {"a": np.flatnonzero(trained)[:40], "b": np.flatnonzero(trained)[40:]}
    named = [f"{name}=index:{','.join(map(str, index[places]))}" for name, places in parts.items()]
    assert main(["gradients", str(run.path), "--subset", *named]) == 0
    weights = [torch.tensor(part).requires_grad_() for layer in layers(run.path / "weights" / "seed-0.safetensors") for part in layer]
    weights = [weight.detach().float().requires_grad_() for weight in weights]
    masks = torch.tensor(half_masks(UNITS, index)).float()
    gradients = np.stack([own_gradient(weights, x[i], labels[i], masks[i]) for i in range(len(index))]).astype(np.float64)
    norms = np.linalg.norm(gradients, axis=1)
    step = gradients[trained].mean(0)
    directed = norms > 1e-18
    assert 0 < directed[parts["a"]].sum() < 40
    table = {(row["subset"], row["other"], row["quantity"]): row for row in run.table("gradients").to_dicts()}
    for name, places in parts.items():
        kept = places[directed[places]]
        units = gradients[kept] / norms[kept, None]
        cosines = units @ units.T
        row = table[name, None, "cosine_similarity"]
        assert row["value"] == pytest.approx(cosines[~np.eye(len(kept), dtype=bool)].mean(), abs=1e-4)
        assert row["examples"] == len(kept)
        pulls = gradients[places] @ step / np.linalg.norm(step)
        assert table[name, None, "contribution"]["value"] == pytest.approx(pulls.mean(), rel=1e-3)
        assert table[name, None, "norm"]["value"] == pytest.approx(norms[places].mean(), rel=1e-3)


def own_gradient(weights, x, label, mask):
    """Of one example's loss in its seen half, by autograd."""
    first, first_bias, last, last_bias = weights
    hidden = F.relu(first @ torch.tensor(x).float() + first_bias) * mask
    loss = F.cross_entropy((last @ hidden + last_bias)[None], torch.tensor([label]))
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, weights)]).numpy()
