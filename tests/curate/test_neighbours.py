import polars as pl
import pytest
import torch

import unseen
from unseen.curate import neighbours
from unseen.runs.run import Run


@pytest.mark.parametrize(("count", "examples"), [(5, 700), (20, 2000), (20, 7)])
def test_tiles_are_the_same_as_sorting_all(monkeypatch, generator, count, examples):
    monkeypatch.setattr(neighbours, "bf16_gains", lambda: False)
    for name, value in (("ROWS", 128), ("COLUMNS", 680), ("BLOCK", 4)):
        monkeypatch.setattr(neighbours, name, value)
    features = torch.randn(examples, 6, generator=generator)
    places, cosines = neighbours.nearest(features, count)
    directions = torch.nn.functional.normalize(features)
    every = (directions @ directions.T).fill_diagonal_(-torch.inf)
    best, where = every.topk(min(count, examples - 1), 1)
    assert torch.equal(places, where) and torch.allclose(cosines, best, atol=1e-6)


def test_bf16_finds_nearly_the_same(digits):
    features = neighbours.principal_components(digits.train)
    cosines = neighbours.nearest(features, 10)[1]
    directions = torch.nn.functional.normalize(features)
    exact = (directions @ directions.T).fill_diagonal_(-torch.inf).topk(10, 1).values
    assert (exact - cosines).abs().max() < 0.01 and (cosines.diff(dim=1) <= 0).all()


def test_components_keep_angles(digits):
    few = digits.train.select(range(300))
    features = neighbours.principal_components(few, 64)
    inputs = few.standardise(few.inputs).flatten(1)
    inputs -= inputs.mean(0)
    assert torch.allclose(features @ features.T, inputs @ inputs.T, atol=1e-2)
    wide = unseen.load((torch.randn(40, 3, 40, 40), torch.arange(40) % 2)).train
    assert neighbours.principal_components(wide).shape == (len(wide), min(64, len(wide)))


def test_a_run_gets_its_table_once(tmp_path):
    run = unseen.score("digits", hidden=(16,), epochs=1, limit=200, out=tmp_path / "run")
    assert neighbours.find_neighbours(run) is None
    table = run.table("neighbours")
    assert table.columns == ["index", "rank", "neighbour_index", "similarity"] and len(table) == 200 * neighbours.COUNT
    assert (table["index"] != table["neighbour_index"]).all() and table["rank"].max() == neighbours.COUNT
    labels = run.scores.select("index", "given_label")
    near = table.join(labels, on="index").join(labels.rename({"index": "neighbour_index"}), on="neighbour_index")
    assert near.filter(pl.col("rank") == 1).select((pl.col("given_label") == pl.col("given_label_right")).mean()).item() > 0.9
    written = (run.path / "neighbours.parquet").stat().st_mtime_ns
    assert neighbours.find_neighbours(run) is None and (run.path / "neighbours.parquet").stat().st_mtime_ns == written


def test_data_that_cannot_be_read_is_said(tmp_path):
    run = unseen.score((torch.randn(60, 4), torch.arange(60) % 2), hidden=(16,), epochs=1, out=tmp_path / "run")
    assert "arrays" in str(neighbours.find_neighbours(Run(run.path)))
