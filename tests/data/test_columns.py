"""Columns that tell the row or the label: left out, or named."""

import numpy as np
import polars as pl
import pytest
from builders import CASES, skipped

from unseen.data.columns import is_named_id
from unseen.data.loading import load
from unseen.errors import UnseenError

COUNT = 60
random = np.random.default_rng(3)


def frame(**columns):
    """Two features of noise, three classes, and these columns before them."""
    noise = {"a": random.normal(size=COUNT), "b": random.normal(size=COUNT)}
    labels = [("ant", "bee", "cat")[row % 3] for row in range(COUNT)]
    return pl.DataFrame({**columns, **noise, "label": labels})


def features(data, **options):
    """Names of the columns that became features, and what was said."""
    examples = load(data, test_fraction=0, **options)
    out = {part.name for part in examples.reading.columns if part.becomes.startswith("left out")}
    used = [
        part.name for part in examples.reading.columns if part.name not in out and part.becomes not in ("target", "id", "index", "split")
    ]
    return used, out, " ".join(examples.reading.suspicious), examples


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "__index_level_0__", "level_0", ""])
@pytest.mark.parametrize("values", [np.arange(COUNT), random.permutation(COUNT), np.arange(COUNT) * 7.0])
def test_row_numbers_of_pandas_are_dropped(tmp_path, name, values):
    frame(**{name: values}).write_csv(tmp_path / "t.csv")
    used, out, _, examples = features(tmp_path / "t.csv")
    assert used == ["a", "b"] and out == {name} and examples.shape == (2,)
    assert skipped(examples, "columns") == {"a row number that pandas wrote": 1}
    assert features(frame(**{name: values}))[0] == ["a", "b"]


def test_pandas_own_files(tmp_path):
    pandas = pytest.importorskip("pandas")
    data = frame().to_pandas()
    data.sample(frac=1, random_state=1).to_csv(tmp_path / "t.csv")
    data.sample(frac=1, random_state=1).to_parquet(tmp_path / "t.parquet")
    data.reset_index().rename(columns={"index": "level_0"}).to_parquet(tmp_path / "u.parquet")
    for name in ("t.csv", "t.parquet", "u.parquet"):
        assert features(tmp_path / name)[3].shape == (2,), name
    assert features(pandas.read_csv(tmp_path / "t.csv"))[3].shape == (2,)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("counter", np.arange(COUNT) + 17, "grows by equal steps with the row"),
        ("time", np.arange(COUNT) * 0.5, "grows by equal steps with the row"),
        ("down", -np.arange(COUNT) * 3, "grows by equal steps with the row"),
        ("PassengerId", np.cumsum(random.integers(1, 9, COUNT)), "an id by its name, and ascends with the row"),
        ("customer_id", random.permutation(COUNT) + 10_000, "an id by its name, and different in every row"),
        ("uuid", [f"{value:08x}" for value in random.permutation(COUNT)], "a different text in every row, and an id by its name"),
        ("name", [f"n{value:04}" for value in range(COUNT)], "a different text in every row"),
        ("target_name", [("ANT", "BEE", "CAT")[row % 3] for row in range(COUNT)], "a copy of the label"),
        ("code", [(30, 10, 20)[row % 3] for row in range(COUNT)], "a copy of the label"),
        ("y", [("ant", "bee", "cat")[row % 3] for row in range(COUNT)], "a copy of the label"),
    ],
)
def test_columns_that_tell_the_row_or_the_label_are_left_out_by_name(name, values, why):
    used, out, said, examples = features(frame(**{name: values}))
    assert used == ["a", "b"] and out == {name} and examples.shape == (2,)
    assert f"Column '{name}' is" in said and why in said and "it is left out" in said
    assert sum(skipped(examples, "columns").values()) == 1


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("sorted", np.sort(random.normal(size=COUNT)), "ascends with the row"),
        ("breed", [("siamese", "poodle", "husky", "tabby", "beagle", "lynx")[row % 6] for row in range(COUNT)], "alone tells the label"),
        ("noisy", ["v" if row == 0 else ("u", "v", "w")[row % 3] for row in range(COUNT)], "tells the label of 98% of the rows"),
        ("is_ant", [row % 3 == 0 for row in range(COUNT)], "has one value in all rows of a class"),
        ("day", [f"2024-{1 + row // 28:02}-{1 + row % 28:02}" for row in range(COUNT)], "ascends with the row"),
        ("review", [f"a film like {value}" for value in random.permutation(COUNT)], "name it with --text review"),
    ],
)
def test_columns_that_may_tell_it_are_named_and_stay(name, values, why):
    used, out, said, _ = features(frame(**{name: values}))
    assert used == [name, "a", "b"] and not out and why in said and f"--drop {name} leaves it out" in said


@pytest.mark.parametrize(
    "values",
    [
        random.integers(0, 5, COUNT),
        random.normal(size=COUNT),
        [f"{value}" for value in random.integers(0, 5, COUNT)],
        random.integers(0, 2, COUNT).astype(bool),
        [4] * COUNT,
    ],
)
def test_ordinary_columns_are_not_suspected(values):
    used, out, said, _ = features(frame(x=values))
    assert used == ["x", "a", "b"] and not out and not said


def test_a_truth_value_that_tells_two_classes_stays_and_is_named():
    data = pl.DataFrame({"x": random.normal(size=COUNT), "ok": [row % 2 == 0 for row in range(COUNT)], "label": ["a", "b"] * (COUNT // 2)})
    used, out, said, _ = features(data)
    assert used == ["x", "ok"] and not out and "Column 'ok' alone tells the label" in said


def test_the_last_feature_stays_and_is_named():
    used, out, said, _ = features(pl.DataFrame({"n": np.arange(COUNT), "label": [0, 1] * (COUNT // 2)}))
    assert used == ["n"] and not out and "Column 'n' is a number that grows" in said


def test_few_rows_are_not_judged():
    assert features(pl.DataFrame({"x": [1, 2, 3, 4], "z": [0.5, 3, 1, 1], "label": ["a", "b", "a", "b"]}))[0] == ["x", "z"]


def test_empty_columns_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text("x,note,label,\n" + "1,,a,\n2,,b,\n" * 10)
    used, out, _, examples = features(tmp_path / "t.csv")
    assert used == ["x"] and out == {"note", ""} and skipped(examples, "columns") == {"empty in every row": 2}


def test_a_copy_of_two_classes_is_known_by_its_name_or_its_text():
    labels, noise = ["cat", "dog"] * 30, random.normal(size=COUNT)
    for name, values in (("class", [0, 1] * 30), ("y", [True, False] * 30), ("animal", ["Cat ", "Dog "] * 30)):
        used, out, said, _ = features(pl.DataFrame({"x": noise, name: values, "label": labels}))
        assert used == ["x"] and out == {name} and "is a copy of the label" in said


def test_names_of_rows_as_r_writes_them(tmp_path):
    rows = "".join(f'"Mazda {row}",{row * 0.37 % 1},{"ab"[row % 2]}\n' for row in range(30))
    (tmp_path / "t.csv").write_text('"",x,label\n' + rows)
    used, out, _, _ = features(tmp_path / "t.csv")
    assert used == ["x"] and out == {""}


@pytest.mark.parametrize("name", ["id", "ID", "Id", "PassengerId", "user_id", "customer-no", "rowNumber", "idx", "UUID"])
def test_names_of_ids(name):
    assert is_named_id(name)


@pytest.mark.parametrize("name", ["paid", "grid", "width", "valid", "keyboard", "number of rooms", "x1", "notes"])
def test_names_that_are_no_ids(name):
    assert not is_named_id(name)


# -- a column that says which split a row is in


@pytest.mark.parametrize(("name", "options"), [("split", {}), ("Set", {}), ("part", {"split_column": "part"})])
def test_a_column_of_splits(tmp_path, name, options):
    values = [("Train", "TEST", "train", "dev", "training")[row % 5] for row in range(COUNT)]
    frame(**{name: values}).write_csv(tmp_path / "t.csv")
    used, out, _, examples = features(tmp_path / "t.csv", **options)
    assert used == ["a", "b"] and not out
    assert examples.train.index.tolist() == [row for row in range(COUNT) if row % 5 in (0, 2, 4)]
    assert examples.test.ids == [f"row/{row}" for row in range(COUNT) if row % 5 in (1, 3)]
    assert examples.reading.sources == {"Train": 12, "TEST": 12, "train": 12, "dev": 12, "training": 12}


def test_a_split_column_that_names_no_split():
    with pytest.raises(UnseenError, match=r"Column 'part' says 'B' in row 1, which names no split.*--split-column"):
        load(frame(part=["train", "B"] * 30), split_column="part")
    with pytest.raises(UnseenError, match="says of no row that it is trained on"):
        load(frame(part=["val", "test"] * 30), split_column="part")
    used, *_ = features(frame(split=[("left", "right")[row // 7 % 2] for row in range(COUNT)]))
    assert used == ["split", "a", "b"]  # a feature: it names no splits


# -- the cases of real users


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
@pytest.mark.parametrize(("case", "column"), [("csv_leak_unnamed0", "Unnamed: 0"), ("csv_two_labels", "target_name")])
def test_cases(case, column):
    used, out, _, examples = features(CASES / case / "data.csv")
    assert out == {column} and used == ["x0", "x1", "x2", "x3"] and examples.shape == (4,)
