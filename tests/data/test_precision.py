"""Numbers that float32 would round away are standardised in float64."""

import csv

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from builders import BEYOND_INT64, CASES
from torch.utils.data import TensorDataset

from unseen.config import Config
from unseen.data.loading import load
from unseen.data.moments import Moments
from unseen.data.precision import as_double, narrowed
from unseen.data.scanning import scan
from unseen.data.shards import Shards

COUNT = 60
random = np.random.default_rng(1)
NUMBERS = {
    "pressure": 1e6 + np.where(np.arange(COUNT) % 2, 0.02, 0.0) + random.normal(0, 1e-3, COUNT),
    "seconds": 1_700_000_000.0 + random.integers(0, 60, COUNT),
    "milliseconds": 1_700_000_000_000.0 + random.integers(0, 1000, COUNT),
    "bit 40": 2.0**40 + np.arange(COUNT) % 2,
    "negative": -5e7 + np.arange(COUNT) % 3,
}


def expected(values):
    """Standardised in float64: the slow, obvious way."""
    values = np.asarray(values, dtype=np.float64)
    return ((values - values.mean()) / values.std()).astype(np.float32)


def inputs(data, **options):
    examples = load(data, test_fraction=0, **options)
    return examples.batch(torch.arange(len(examples)))[0], examples


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("source", ["csv", "parquet", "frame", "arrays", "torch", "lazy", "hub", "npz"])
def test_differences_survive(tmp_path, kind, source):
    values, other, labels = NUMBERS[kind], random.normal(size=COUNT), np.arange(COUNT) % 2
    frame = pl.DataFrame({"p": values, "z": other, "label": labels})
    matrix = np.stack([values, other], 1)
    options = {}
    if source == "csv":
        frame.write_csv(data := tmp_path / "t.csv")
    elif source == "parquet":
        frame.write_parquet(data := tmp_path / "t.parquet")
    elif source == "npz":
        np.savez(data := tmp_path / "t.npz", x=matrix, y=labels)
    elif source == "hub":
        data = datasets.Dataset.from_dict(frame.to_dict(as_series=False))
    elif source in ("torch", "lazy"):
        data = TensorDataset(torch.from_numpy(matrix), torch.from_numpy(labels))
        options = {"memory_gib": 0.0} if source == "lazy" else {}
    else:
        data = frame if source == "frame" else (matrix, labels)
    x, examples = inputs(data, **options)
    assert x.dtype == torch.float32 and examples.mean.dtype == torch.float64
    assert np.allclose(x[:, 0], expected(values), atol=1e-5) and np.allclose(x[:, 1], expected(other), atol=1e-5)


@pytest.mark.parametrize(
    "integers", [2**40 + np.arange(COUNT) % 2, 2**60 + np.arange(COUNT) % 7, np.uint64(2**63) + (np.arange(COUNT) % 5).astype(np.uint64)]
)
@pytest.mark.parametrize("source", ["csv", "frame", "arrays"])
def test_whole_numbers_beyond_float64_are_shifted_first(tmp_path, integers, source):
    labels = np.arange(COUNT) % 2
    frame = pl.DataFrame({"p": integers, "z": np.arange(COUNT) % 3, "label": labels})
    if source == "csv":
        if integers.dtype == np.uint64 and not BEYOND_INT64:
            pytest.skip("this Polars reads no whole numbers beyond 2^63 from a CSV; load refuses them with the column's name")
        frame.write_csv(tmp_path / "t.csv")
    data = {
        "csv": tmp_path / "t.csv",
        "frame": frame,
        "arrays": (np.stack([integers, (np.arange(COUNT) % 3).astype(integers.dtype)], 1), labels),
    }
    x, examples = inputs(data[source])
    small = (integers - integers.min()).astype(np.float64)
    assert np.allclose(x[:, 0], expected(small), atol=1e-5)
    assert any("is subtracted first" in note or "are beyond 2^53" in note for note in examples.reading.notes) == (
        int(integers.min()) > 2**53
    )


@pytest.mark.parametrize(
    "values", [random.normal(size=COUNT), 100 + random.normal(size=COUNT), np.full(COUNT, 1e9), np.arange(COUNT) * 1e9]
)
def test_ordinary_numbers_are_float32_as_before(values):
    x, examples = inputs((np.stack([values, values], 1), np.arange(COUNT) % 2))
    assert examples.inputs.dtype == examples.mean.dtype == torch.float32
    assert torch.equal(examples.inputs, torch.from_numpy(np.stack([values, values], 1)).float())
    assert torch.isfinite(x).all()


def test_a_batch_is_a_function_of_its_examples_alone():
    _, examples = inputs((np.stack([NUMBERS["pressure"], random.normal(size=COUNT)], 1), np.arange(COUNT) % 2))
    whole = examples.batch(torch.arange(COUNT))[0]
    assert torch.equal(examples.select([7, 3]).batch(torch.tensor([0, 1]))[0], whole[[7, 3]])
    assert torch.equal(examples.batch(torch.tensor([5]))[0], whole[5:6])


def test_images_of_large_floats():
    images = 1e6 + random.random((COUNT, 5, 5))
    x, examples = inputs((images, np.arange(COUNT) % 2))
    assert examples.mean.dtype == torch.float64 and abs(x.std().item() - 1) < 1e-3


def test_shards_standardise_in_float64_where_the_whole_needs_it():
    def make(values):
        return Shards(
            2, lambda number: (np.stack([values, NUMBERS["pressure"] - 1e6], 1)[number * 30 : number * 30 + 30], np.arange(30) % 2)
        )

    config = Config.of(test_fraction=0.0)
    wide, narrow = (scan(make(values), config).sharded() for values in (NUMBERS["pressure"], random.normal(size=COUNT)))
    x = torch.cat([wide[number].batch(torch.arange(30))[0] for number in range(2)])
    assert np.allclose(x[:, 0], expected(NUMBERS["pressure"]), atol=1e-5)
    assert narrow[0].inputs.dtype == narrow[0].mean.dtype == torch.float32 and wide[0].inputs.dtype == torch.float64


def test_moments_know_a_constant_exactly():
    for value in (0.1, 1e12, -3.0):
        mean, std = Moments.of(torch.full((1000, 1), value, dtype=torch.float64)).mean_and_std()
        assert std.item() == 1 and mean.item() == pytest.approx(value, rel=1e-7)
    mean, std = Moments.of(torch.tensor([[1e12], [1e12 + 1]], dtype=torch.float64)).mean_and_std()
    assert std.item() == 0.5 and mean.item() == 1e12 + 0.5


def test_narrowing_loses_nothing():
    for values in NUMBERS.values():
        wide = torch.from_numpy(values)[:, None]
        assert narrowed(wide).dtype == torch.float64
        assert narrowed(wide - wide.mean()).dtype == torch.float32
    assert as_double(np.array([2**62, 2**62 + 5]))[0].tolist() == [0, 5] and as_double(np.array([3, 4]))[1] == 0


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
def test_the_sensor_near_a_million_is_the_control_again():
    with (CASES / "csv_offset_float" / "data.csv").open() as file:
        values = np.array([float(row["p"]) for row in csv.DictReader(file)])
    x, examples = inputs(CASES / "csv_offset_float" / "data.csv")
    assert np.allclose(x[:, 0], expected(values), atol=1e-5)
    control, _ = inputs(CASES / "csv_offset_control" / "data.csv")
    apart = [float((part[examples.labels == 0].mean() - part[examples.labels == 1].mean()).abs()) for part in (x, control)]
    assert min(apart) > 1.5  # the classes lie more than a standard deviation apart in both
