"""Labels of any kind become classes, or are refused as what they are."""

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from torch.utils.data import TensorDataset

from unseen.data.labels import class_order
from unseen.data.loading import load
from unseen.errors import UnseenError

random = np.random.default_rng(2)
COUNT = 30
X = random.normal(size=(COUNT, 3))


def read(labels, **options):
    examples = load((X, labels), test_fraction=0, **options)
    return examples.classes, examples.labels.tolist(), " ".join(examples.reading.notes)


@pytest.mark.parametrize("kind", [np.float64, np.float32, list, torch.tensor])
def test_floats_that_are_whole_numbers_are_classes(kind):
    labels = [float(row % 3) for row in range(COUNT)]
    classes, codes, said = read(kind(labels) if kind in (list, torch.tensor) else np.array(labels, kind))
    assert classes == ("0", "1", "2") and codes == [row % 3 for row in range(COUNT)] and "floats that are whole numbers" in said


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
def test_one_hot_labels(kind):
    classes, codes, said = read(np.eye(4, dtype=kind)[np.arange(COUNT) % 4])
    assert classes == ("0", "1", "2", "3") and codes == [row % 4 for row in range(COUNT)] and "one-hot, 4 wide" in said


def test_soft_labels_and_their_ties():
    soft = random.dirichlet([0.4] * 3, COUNT)
    classes, codes, said = read(soft)
    assert codes == soft.argmax(1).tolist() and classes == ("0", "1", "2") and "shares of 3 classes" in said and "first counts" not in said
    soft[4] = soft[9] = [0.5, 0.5, 0]
    _, codes, said = read(soft)
    assert codes[4] == codes[9] == 0 and "In 2 of them several are largest" in said


def test_one_hot_and_soft_labels_of_other_sources(tmp_path):
    one_hot = np.eye(3)[np.arange(COUNT) % 3]
    wanted = [row % 3 for row in range(COUNT)]
    np.savez(tmp_path / "t.npz", x=X, y=one_hot)
    frame = pl.DataFrame({"a": X[:, 0], "label": one_hot.tolist()})
    frame.write_parquet(tmp_path / "t.parquet")
    hub = datasets.Dataset.from_dict({"a": X[:, 0].tolist(), "label": one_hot.tolist()})
    torchs = TensorDataset(torch.from_numpy(X), torch.from_numpy(one_hot))
    for data in (tmp_path / "t.npz", tmp_path / "t.parquet", hub, torchs, (torch.from_numpy(X), torch.from_numpy(one_hot).bfloat16())):
        assert load(data, test_fraction=0).labels.tolist() == wanted


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]] * 10),
        [[0, 2], [1]] * 15,
        [["a", "b"], ["a"]] * 15,
        [("a", "b"), ("a", "c")] * 15,
    ],
)
def test_several_labels_each_are_refused(labels):
    with pytest.raises(UnseenError, match=r"label of row/0 .*multi-label.*one class each"):
        read(labels)


def test_scores_are_refused():
    with pytest.raises(UnseenError, match="Take the argmax of scores"):
        read(random.normal(size=(COUNT, 3)))
    with pytest.raises(UnseenError, match=r"Labels have shape \(30, 2, 2\)"):
        read(np.zeros((COUNT, 2, 2)))


@pytest.mark.parametrize("labels", [random.normal(size=COUNT), random.normal(size=COUNT).tolist(), np.arange(COUNT) + 0.5])
def test_a_regression_target_is_recognised(labels):
    with pytest.raises(
        UnseenError, match=r"label of row/0 is .*The target has 30 different numbers. A quantity \(regression\) has no classes"
    ):
        read(labels)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("values", [random.normal(50, 9, 200).round(3), random.integers(10_000, 99_999, 200)])
def test_a_regression_target_of_a_table_is_refused_by_name(tmp_path, suffix, values):
    frame = pl.DataFrame({"x": random.normal(size=200), "price": values})
    getattr(frame, f"write_{suffix}")(path := tmp_path / f"t.{suffix}")
    with pytest.raises(UnseenError, match=r"[Tt]arget 'price'.*\(regression\)"):
        load(path, target="price")


@pytest.mark.parametrize(
    "labels", [[f"n{row}" for row in range(COUNT)], list(range(COUNT)), [f"n{row // 2 * 2 if row < 8 else row}" for row in range(COUNT)]]
)
def test_a_class_per_row_is_refused(labels):
    with pytest.raises(UnseenError, match="so hardly any can be learned from others"):
        read(labels)


def test_many_classes_of_several_examples_are_classes(tmp_path):
    frame = pl.DataFrame({"x": random.normal(size=300), "label": [f"c{row % 100}" for row in range(300)]})
    assert len(load(frame, test_fraction=0).classes) == 100


def test_stars_with_halves_are_classes(tmp_path):
    frame = pl.DataFrame({"x": random.normal(size=60), "label": [f"{row % 5 / 2 + 1}" for row in range(60)]})
    assert load(frame, test_fraction=0).classes == ("1.0", "1.5", "2.0", "2.5", "3.0")


def test_numbers_are_in_their_order_and_texts_in_theirs():
    names = ["10", "9", "010", "-1"]
    assert sorted(names, key=class_order(names)) == ["-1", "9", "010", "10"]
    assert sorted(["b", "10", "9"], key=class_order(["b", "10", "9"])) == ["10", "9", "b"]


def test_declared_classes_take_whole_floats(tmp_path):
    frame = pl.DataFrame({"x": random.normal(size=20), "label": [float(row % 2) for row in range(20)]})
    frame.write_parquet(tmp_path / "t.parquet", metadata={"huggingface": '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'})
    assert load(tmp_path / "t.parquet", test_fraction=0).classes == ("cat", "dog")


def test_train_and_test_labels_of_different_kinds_are_refused():
    with pytest.raises(UnseenError, match="integers or texts"):
        load((X, ["a", "b"] * 15, X, np.arange(COUNT) % 2))
