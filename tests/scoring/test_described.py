"""Features of data in shards: as in memory, on one process and on two, and read from files where memory has no room."""

import numpy as np
import polars as pl
import pytest
import torch

import unseen
from unseen.hashing import uniform
from unseen.scoring.estimators.head import landmark_count

COUNTS = (150, 90, 120)
FIRST = (0, 150, 240)
SIDE = 12


def pictures(number):
    """Two kinds of pictures with noise; a function of their positions."""
    index = torch.arange(FIRST[number], FIRST[number] + COUNTS[number])
    labels = (uniform(index, "label") * 3).long()
    motifs = uniform(torch.arange(3 * 3 * SIDE * SIDE), "motif").view(3, 3, SIDE, SIDE)
    noise = uniform(index[:, None] * 3 * SIDE * SIDE + torch.arange(3 * SIDE * SIDE), "noise").view(-1, 3, SIDE, SIDE)
    return (255 * (0.4 * motifs[labels] + 0.6 * noise)).to(torch.uint8).numpy(), labels.numpy()


def in_shards():
    return unseen.Shards(3, pictures, name="motifs")


def in_memory():
    parts = [pictures(number) for number in range(3)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSEEN_CACHE", str(tmp_path / "cache"))


def columns(run):
    return run.scores.sort("index").select("loss_seen", "loss_unseen", "label_score", "memorization").to_numpy()


def test_shards_have_the_scores_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("unseen.scoring.estimators.head.Landmarks.learned", lambda some, count: None)  # a sample of other rows
    whole = unseen.score(in_memory(), estimator="head", features="gradients", out=tmp_path / "whole")
    shards = unseen.score(in_shards(), estimator="head", features="gradients", out=tmp_path / "shards")
    assert shards.config.data.features == "gradients" and len(shards.scores) == 360
    np.testing.assert_allclose(columns(shards), columns(whole), atol=1e-6)


@pytest.mark.parametrize("data", [in_shards, in_memory], ids=["shards", "memory"])
def test_two_processes_have_the_scores_of_one(tmp_path, data):
    options = {"estimator": "head", "features": "patches+gradients", "random_labels": 0.1}
    alone = unseen.score(data(), out=tmp_path / "alone", **options)
    both = unseen.score(data(), out=tmp_path / "both", devices=2, **options)
    np.testing.assert_allclose(columns(both), columns(alone), atol=1e-6)
    assert both.summary["auroc"] == pytest.approx(alone.summary["auroc"], abs=1e-9) and alone.summary["auroc"] > 0.8


def test_auto_takes_the_head_where_features_of_shards_are_asked_for(tmp_path):
    run = unseen.score(in_shards(), features="auto", out=tmp_path / "run")
    assert run.config.estimator == "head" and "gradients" in run.config.data.features
    with pytest.raises(unseen.UnseenError, match="column:vectors"):
        unseen.score(in_shards(), features="column:vectors", out=tmp_path / "other")


def test_features_beyond_memory_are_read_from_their_files(tmp_path, monkeypatch):
    whole = unseen.score(in_memory(), estimator="head", out=tmp_path / "whole")
    monkeypatch.setattr("unseen.scoring.described.LARGEST_IN_MEMORY", 0)
    lazy = unseen.score(in_memory(), estimator="head", out=tmp_path / "lazy")
    np.testing.assert_allclose(columns(lazy), columns(whole), atol=1e-6)


def test_vectors_in_a_column_of_the_table(tmp_path):
    labels = np.arange(80) % 2
    vectors = np.random.default_rng(0).normal(size=(80, 4)) + 3 * labels[:, None]
    pl.DataFrame({"v": [str(row.tolist()) for row in vectors], "x": np.zeros(80), "label": labels}).write_csv(tmp_path / "t.csv")
    run = unseen.score(str(tmp_path / "t.csv"), features="column:v", drop=("v",), out=tmp_path / "run")
    assert run.config.estimator == "head" and run.summary["accuracy_unseen"] > 0.9


def test_work_is_bounded_by_fewer_landmarks():
    assert [landmark_count(rows, 16) for rows in (100, 10**5, 10**6, 10**8)] == [2000, 2000, 632, 256]
    assert landmark_count(10**6, 1280) == 0  # more than landmarks, and taken as they are
    assert landmark_count(10**6, 5000) == 632
