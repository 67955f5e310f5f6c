"""Retraining: equations 1 and 2, the truth of random subsets, its ceiling and the linear datamodeling score, computed again."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

import unseen
from independent import inputs, layers, mean_over, memberships, spearman
from unseen.cli import main

OPTIONS = {"hidden": (16,), "limit": 120, "batch_size": 200, "lr": 0.5, "epochs": 8, "precision": "32", "random_labels": 0.2}
MEMBERS = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unseen.score("digits", estimator="turnover", out=tmp_path_factory.mktemp("truth") / "run", **OPTIONS)


def test_equation_2_by_training_without_each(run, tmp_path):
    """One batch is all examples, so nothing depends on their order; the initial weights are those of runs that do not move."""
    assert main(["truth", str(run.path), "--leave-one-out", "3,17,40"]) == 0
    table = run.table("truth")
    index, x, labels = inputs(run, limit=120)
    train = run.examples.sort("index")["split"].to_numpy() == "train"
    x, labels = torch.tensor(x[train]).float(), torch.tensor(labels[train])
    gaps = []
    for seed in range(3):
        still = OPTIONS | {"epochs": 1, "lr": 1e-30, "seed": seed}
        start = layers(
            unseen.score("digits", estimator="plain", out=tmp_path / f"{seed}", **still).path
            / "weights/seed-0.safetensors".replace("0.", f"{seed}.")
        )
        whole = trained(start, x, labels, np.ones(len(labels)))
        without = [trained(start, x, labels, np.arange(len(labels)) != i) for i in (3, 17, 40)]
        gaps.append([float(alone[i] - whole[i]) for alone, i in zip(without, (3, 17, 40), strict=True)])
    assert table["index"].to_list() == index[train][[3, 17, 40]].tolist()
    np.testing.assert_allclose(table["memorization"], np.mean(gaps, axis=0), atol=1e-3)
    np.testing.assert_allclose(table["memorization_se"], np.std(gaps, axis=0, ddof=1) / 3**0.5, atol=1e-3)


def trained(start, x, labels, inside):
    """Losses (n,) after gradient descent on the examples inside."""
    weights = [torch.tensor(part).float().requires_grad_() for layer in start for part in layer]
    share = torch.tensor(inside).float() / float(np.sum(inside))
    for _ in range(OPTIONS["epochs"]):
        loss = (losses(weights, x, labels) * share).sum()
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= OPTIONS["lr"] * gradient
    return losses(weights, x, labels).detach()


def losses(weights, x, labels):
    first, first_bias, last, last_bias = weights
    return F.cross_entropy(F.relu(x @ first.T + first_bias) @ last.T + last_bias, labels, reduction="none")


@pytest.fixture(scope="module")
def subsets(run):
    """The run after a truth of random subsets: its losses (members, all examples) in the order of ``examples``, and who had what."""
    assert main(["truth", str(run.path), "--members", str(MEMBERS), "--fraction", "0.5"]) == 0
    assert main(["influence", str(run.path), "--queries", "test", "--top", "200"]) == 0
    assert main(["evaluate", str(run.path)]) == 0
    files = sorted((run.path / "weights" / run.read_json("truth.json")["losses"]).glob("*.safetensors"))
    values = np.concatenate([load_file(file)["losses"] for file in files]).astype(np.float64)
    table, examples = run.table("truth"), run.examples
    places = [examples["index"].to_list().index(i) for i in table["index"]]
    member = memberships(values[:, places], table["loss_seen"].to_numpy(), table["loss_unseen"].to_numpy(), MEMBERS // 2)
    return run, values, places, member


def test_truth_of_random_subsets(subsets):
    run, values, places, member = subsets
    table = run.table("truth")
    own = values[:, places]
    np.testing.assert_allclose(table["memorization"], mean_over(own, ~member) - mean_over(own, member), atol=1e-5)
    chances = np.exp(-own)
    np.testing.assert_allclose(table["memorization_probability"], mean_over(chances, member) - mean_over(chances, ~member), atol=1e-6)
    variance = [
        np.array([own[chosen[:, i], i].var(ddof=1) / chosen[:, i].sum() for i in range(own.shape[1])]) for chosen in (member, ~member)
    ]
    np.testing.assert_allclose(table["memorization_se"], np.sqrt(sum(variance)), rtol=1e-4)


def test_the_ceiling_is_the_root_of_the_reliability(subsets):
    run = subsets[0]
    known = run.read_json("truth.json")["reliability"]
    rows = {row["score"]: row for row in run.read_json("metrics.json")}
    assert rows["memorization"]["reliability"] == known
    assert rows["memorization"]["ceiling"] == pytest.approx(max(0, known) ** 0.5)
    truth = run.scores.join(run.table("truth").select("index", truth="memorization"), on="index")
    assert rows["memorization"]["spearman"] == pytest.approx(
        spearman(truth["memorization"].to_numpy(), truth["truth"].to_numpy()), abs=1e-6
    )


def test_linear_datamodeling_score(subsets):
    """Does the sum of the influences of a subset predict the loss of the network trained on it? (Park et al. 2023)"""
    run, values, places, member = subsets
    table, examples = run.table("influence"), run.examples["index"].to_list()
    train = [examples[place] for place in places]
    correlations = []
    for query, rows in table.group_by("query_index"):
        influence = dict(zip(rows["train_index"], rows["influence"], strict=True))
        predicted = [sum(influence[i] for i, inside in zip(train, member[k], strict=True) if inside) for k in range(MEMBERS)]
        correlations.append(spearman(np.array(predicted), -values[:, examples.index(query[0])]))
    row = next(row for row in run.read_json("metrics.json") if row["score"] == "influence")
    assert row["lds"] == pytest.approx(np.mean(correlations), abs=1e-3)
