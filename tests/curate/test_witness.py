"""The witness of labels beside a run's own networks: asked once, believed in the lists, and named."""

import numpy as np
import pytest
import torch

import unseen
from unseen.cli import main
from unseen.curate import find_witness, judged, ranked_by, trust_in, witnessed
from unseen.features import extract
from unseen.training import fit_head

OPTIONS = {"estimator": "members", "members": 4, "epochs": 3, "limit": 400, "random_labels": 0.1, "label_noise": "other"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unseen.score("digits", out=tmp_path_factory.mktemp("run"), **OPTIONS)


def found(run):
    """Share of the wrong labels among as many most suspect."""
    table = judged(run).sort("doubt", descending=True)
    wrong = (table["true_label"] != table["given_label"]).to_numpy()
    return wrong[: wrong.sum()].mean()


def test_the_lists_believe_it_and_say_so(run, capsys):
    before = found(run)
    assert ranked_by(run).endswith("that they have not seen.")
    main(["suspects", str(run.path), "--top", "3"])
    assert "ridge head on features (patches+gradients)" in capsys.readouterr().out
    assert found(run) > max(before, 0.8)
    assert run.table("feature_probabilities")["index"].equals(run.scores["index"])
    written = (run.path / "feature_probabilities.parquet").stat().st_mtime_ns
    assert find_witness(run) is None and (run.path / "feature_probabilities.parquet").stat().st_mtime_ns == written


def test_it_says_what_a_head_on_all_features_says_without_each():
    examples = unseen.load("digits", limit=200).train
    kind, chances = witnessed(examples)
    features = extract(examples, kind)
    _, head = fit_head(features.head_map()(features.tensor()), examples.labels, 10, standardise=False)
    np.testing.assert_allclose(chances, head.probabilities().numpy(), atol=1e-5)


def test_it_is_asked_of_pictures_and_texts_whose_data_can_be_read(tmp_path):
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    data = (x.numpy(), (x[:, 0] > 0).long().numpy())
    run = unseen.score(data, out=tmp_path / "table", epochs=1, members=2)
    assert "arrays" in str(find_witness(run))
    assert find_witness(run, data=data) is None and not (run.path / "feature_probabilities.parquet").exists()


def test_hardly_wrong_labels_are_ranked_by_another_score():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 600)
    right = np.eye(3)[labels] * 4 + draw.normal(size=(600, 3))
    chances = np.exp(right) / np.exp(right).sum(1, keepdims=True)
    labels[:60] = (labels[:60] + 1) % 3
    trust, doubt = trust_in(chances, labels, repeats=0), draw.random(600)
    order = trust.order_with(doubt)
    hardly = trust.wrong[order] < 0.1
    assert hardly.any() and not hardly[: (~hardly).sum()].any()
    assert np.array_equal(order[~hardly], trust.order[: (~hardly).sum()])
    assert (np.diff(doubt[order[hardly]]) <= 0).all()
