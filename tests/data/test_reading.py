"""Nothing is dropped in silence: what was found is what was read and what is named as not read, for every kind of source."""

import csv
import io
import json
import os
import zipfile

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from builders import CASES, classes, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from unseen.cli import main
from unseen.data import Reading, inspect
from unseen.data.inspecting import equal_rows
from unseen.data.loading import load
from unseen.errors import UnseenError

EXAMPLES = 2000 if os.environ.get("UNSEEN_SOAK") else 25
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNSEEN_SOAK" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged pictures

SPLITS = st.sampled_from(["train", "Training", "test", "Testing", "val", "Valid", "dev", "TRAIN", "extra", ""])
JUNK = st.sampled_from(["notes.txt", ".DS_Store", "._a.png", "Thumbs.db", "raw.heic", "x.xml", "@eaDir/a.jpg", ".git/x", "empty"])
NAMES = st.one_of(
    st.sampled_from(["cat", "dog", "train", "Emu x", "3"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=5).filter(
        lambda name: name not in (".", "..")
    ),
)
MODES = st.sampled_from(["RGB", "L", "RGBA", "P", "LA", "1", "CMYK"])
FORMS = {"RGB": ("PNG", "JPEG", "BMP", "GIF", "WEBP"), "L": ("PNG", "JPEG"), "CMYK": ("JPEG", "TIFF")}


@FEW
@given(data=st.data())
def test_folders(tmp_path_factory, data):
    """Folders with random splits, classes, suffixes, modes and junk: all files are examples, or counted, or the folder is refused."""
    folder, number, written = tmp_path_factory.mktemp("folder"), 0, 0
    for split in data.draw(st.lists(SPLITS, min_size=1, max_size=3, unique_by=str.lower)):
        for name in data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
            for _ in range(data.draw(st.integers(1, 3))):
                mode = data.draw(MODES)
                form = data.draw(st.sampled_from(FORMS.get(mode, ("PNG",))))
                suffix = data.draw(st.sampled_from([".png", ".JPG", ".jfif", "", ".dat"]))
                picture(folder / split / name / f"{number}{suffix}", number, mode=mode, form=form)
                number, written = number + 1, written + 1
    for junk in data.draw(st.lists(JUNK, max_size=4, unique=True)):
        place = folder / data.draw(st.sampled_from(["", "cat", "train", "train/cat"])) / junk
        if place.parent.is_dir() or "/" in junk:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"junk" if junk != "empty" else b"")
    files = [place for place in folder.rglob("*") if place.is_file()]
    try:
        examples = load(folder, test_fraction=0)
    except UnseenError as error:
        assert str(error).strip()
        return
    reading = examples.reading
    assert reading.found == len(files) == len(examples) + reading.left_out
    assert reading.read == len(examples) == len(set(examples.ids)) <= written
    assert all((folder / name).is_file() for name in examples.ids)
    for part in reading.skipped:
        assert (folder / part.example).is_file() and part.example not in examples.ids


SEPARATOR = st.sampled_from([",", ";", "\t", "|"])
ENCODING = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
LABELS = st.sampled_from(["ant", "bee", "Käse", "a,b", 'say "x"', "007", "true", "x;y", "l1\nl2"])


def spelled(value, style):
    """A number as people write it."""
    if style == "decimal comma":
        return f"{value:.3f}".replace(".", ",")
    if style == "thousands":
        return f"{value:,.2f}"
    return f"{value:.1f}%" if style == "percent" else repr(value)


@FEW
@given(
    separator=SEPARATOR,
    encoding=ENCODING,
    labels=st.lists(LABELS, min_size=8, max_size=20),
    style=st.sampled_from(["plain", "decimal comma", "thousands", "percent"]),
    blanks=st.lists(st.integers(0, 40), max_size=3),
    comment=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
    quotes=st.sampled_from(["", '"', "'"]),
    seed=st.integers(0, 99),
)
def test_csv_dialects(tmp_path_factory, separator, encoding, labels, style, blanks, comment, ending, quotes, seed):
    """Any dialect gives the rows that Python's csv and pandas give when they are told it. quotes: of all fields, or "" where needed."""
    numbers = np.random.default_rng(seed).normal(0, 5000, (len(labels), 2)).round(3).tolist()
    buffer = io.StringIO(newline="")
    sign, quoting = quotes or '"', csv.QUOTE_ALL if quotes else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, delimiter=separator, lineterminator=ending, quoting=quoting, quotechar=sign)
    writer.writerow(("x", "y", "label"))
    for row, (pair, label) in enumerate(zip(numbers, labels, strict=True)):
        writer.writerow((spelled(pair[0], style), repr(pair[1]) if style != "decimal comma" else spelled(pair[1], style), label))
        if row in blanks:
            buffer.write(ending)
    text = ("# a comment" + ending if comment else "") + buffer.getvalue()
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.encode(encoding))
    lines = buffer.getvalue()
    told = [row for row in csv.reader(io.StringIO(lines, newline=""), delimiter=separator, quotechar=sign) if row][1:]
    assert len(told) == len(labels)
    try:
        examples = load(path, test_fraction=0)
    except UnseenError as error:
        few = len(set(labels)) < 2 or len(set(labels)) == len(labels)
        assert few and ("two or more" in str(error) or "hardly any can be learned" in str(error)), error
        return
    assert [examples.classes[label] for label in examples.labels] == [row[2].replace("\r\n", "\n") for row in told]
    scale, digits = (0.01, 1) if style == "percent" else (1.0, 2 if style == "thousands" else 3)
    expected = [[round(pair[0], digits) * scale, pair[1]] for pair in numbers]
    assert np.allclose(examples.inputs.numpy(), expected, rtol=1e-5, atol=1e-6 if style != "percent" else 1e-3)
    assert examples.reading.found == len(examples) + examples.reading.left_out
    pandas = pytest.importorskip("pandas")
    decimal, thousands = ("," if style == "decimal comma" else "."), ("," if style == "thousands" else None)
    again = pandas.read_csv(
        path,
        sep=separator,
        encoding=encoding,
        decimal=decimal,
        thousands=thousands,
        skiprows=int(comment),
        dtype={"label": str},
        quotechar=sign,
        keep_default_na=False,
    )
    assert len(again) == len(examples)
    if style != "percent":
        assert np.allclose(again[["x", "y"]].to_numpy(float), examples.inputs.numpy(), rtol=1e-5)


def sources(folder, inputs, labels, test):
    """The same examples as parquet files, an npz, a hub data set, torch data sets and arrays."""
    frame = pl.DataFrame({"x": inputs[:, 0], "y": inputs[:, 1], "label": labels})
    rest = pl.DataFrame({"x": inputs[:test, 0], "y": inputs[:test, 1], "label": labels[:test]})
    (folder / "pq").mkdir()
    frame.write_parquet(folder / "pq" / "train-00000-of-00001.parquet")
    rest.write_parquet(folder / "pq" / "validation-00000-of-00001.parquet")
    rest.write_parquet(folder / "pq" / "test-00000-of-00001.parquet")
    np.savez(folder / "t.npz", x_train=inputs, y_train=labels, x_test=inputs[:test], y_test=labels[:test], extra=np.zeros(3))
    hub = datasets.DatasetDict(
        train=datasets.Dataset.from_polars(frame),
        dev=datasets.Dataset.from_polars(rest),
        test=datasets.Dataset.from_polars(rest.with_columns(label=pl.lit(-1).cast(pl.Int64))),
        unsupervised=datasets.Dataset.from_polars(rest),
    )
    torchs = tuple(TensorDataset(torch.from_numpy(inputs[:size]), torch.from_numpy(labels[:size])) for size in (len(labels), test))
    yield folder / "pq", len(labels) + 2 * test
    yield folder / "t.npz", len(labels) + test
    yield hub, len(labels) + test
    yield torchs, len(labels) + test
    yield (inputs, labels, inputs[:test], labels[:test]), len(labels) + test


@settings(FEW, max_examples=EXAMPLES if EXAMPLES > 100 else 5)
@given(count=st.integers(6, 30), test=st.integers(1, 6), limit=st.one_of(st.none(), st.integers(4, 8)), seed=st.integers(0, 99))
def test_tables_arrays_and_data_sets(tmp_path_factory, count, test, limit, seed):
    inputs, labels = np.random.default_rng(seed).normal(size=(count, 2)), np.arange(count) % 2
    for data, measured in sources(tmp_path_factory.mktemp("sources"), inputs, labels, test):
        examples = load(data, limit=limit)
        reading = examples.reading
        assert len(examples) == min(count, limit or count) + measured - count
        assert reading.found == len(examples) + reading.left_out and reading.read == len(examples)
        assert sum(reading.classes.values()) == len(examples.train) and sum(reading.tests.values()) == len(examples.test)


def test_splits_of_the_hub_that_are_not_read_are_named():
    frame = pl.DataFrame({"x": np.arange(20) % 7 * 1.0, "label": np.arange(20) % 2})
    part = datasets.Dataset.from_polars(frame)
    hidden = datasets.Dataset.from_polars(frame.with_columns(label=pl.lit(-1).cast(pl.Int64)))
    reading = load(datasets.DatasetDict(train=part, validation=part, test=hidden, unsupervised=hidden)).reading
    assert {(skipped.reason, skipped.count, skipped.example) for skipped in reading.skipped} == {
        ("without labels", 20, "split 'test'"),
        ("no name of a split", 20, "split 'unsupervised'"),
    }
    assert reading.sources == {"train": 20, "validation": 20} and reading.splits == {"train": 20, "test": 20}


def test_all_splits_of_arrays_and_torch_data_sets_are_read(tmp_path):
    inputs, labels = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    parts = {
        f"{split}_{kind}": array[:size]
        for split, size in (("train", 20), ("val", 6), ("test", 4))
        for kind, array in (("images", inputs), ("labels", labels))
    }
    np.savez(tmp_path / "medical.npz", **parts)
    examples = load(tmp_path / "medical.npz")
    assert len(examples.train) == 20 and len(examples.test) == 10 and not examples.reading.skipped
    sets = tuple(TensorDataset(torch.from_numpy(inputs[:size]), torch.from_numpy(labels[:size])) for size in (20, 4, 6))
    examples = load(sets)
    assert len(examples.train) == 20 and examples.test.ids == [f"test/{number}" for number in range(10)]


def test_files_beside_tables_are_named(tmp_path):
    frame = pl.DataFrame({"x": np.arange(20) % 7 * 1.0, "label": np.arange(20) % 2})
    for name in ("train.csv", "test.csv", "extra.csv"):
        frame.write_csv(tmp_path / name)
    (tmp_path / "README.md").write_text("x")
    examples = load(tmp_path)
    assert len(examples.train) == len(examples.test) == 20 and examples.reading.sources == {"train.csv": 20, "test.csv": 20}
    (part,) = examples.reading.skipped
    assert part.count == 2 and part.reason == "not one of the tables that are read"
    (tmp_path / "q" / "data").mkdir(parents=True)
    for name in ("data/train-0.parquet", "data/train-1.parquet", "data/validation.parquet", "other.txt"):
        frame.write_parquet(tmp_path / "q" / name)
    examples = load(tmp_path / "q")
    assert len(examples.train) == 40 and len(examples.test) == 20 and examples.reading.skipped[0].example == "other.txt"


# -- what `unseen data` says


def test_inspect_says_what_load_reads_and_reads_no_more(tmp_path):
    classes(tmp_path / "train", each=6)
    classes(tmp_path / "val", each=3)
    (tmp_path / "train" / "dog" / "06.png").write_bytes((tmp_path / "train" / "dog" / "05.png").read_bytes())
    (tmp_path / "train" / "cat" / "bad.png").write_bytes(b"bad")
    (tmp_path / "notes.txt").write_text("x")
    reading, loaded = inspect(tmp_path), load(tmp_path, skip_damaged=True).reading
    for name in ("kind", "found", "sources", "splits", "classes", "tests", "shape", "skipped", "damaged", "sizes", "modes"):
        assert getattr(reading, name) == getattr(loaded, name), name
    assert reading.duplicate_files == 7 and loaded.duplicate_files is None  # val has the pictures of train again, and dog one twice
    assert reading.damaged == (str(tmp_path / "train" / "cat" / "bad.png"),)
    assert reading.memory_bytes == 19 * 3 * 6 * 8 and reading.seconds > 0


def test_inspect_of_tables_counts_equal_rows(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,label\n" + "1,2,a\n1,2,b\n3,4,a\n5,6,b\n" * 5)
    reading = inspect(tmp_path / "t.csv")
    assert reading.duplicate_rows == 17 and reading.memory_bytes == 20 * 2 * 4
    assert equal_rows(torch.tensor([[1.0, 2], [1, 2], [2, 1]])) == 1 and equal_rows(torch.zeros(0, 3)) == 0
    (tmp_path / "u.csv").write_text("t,label\n" + "good,a\nbad,b\n" * 5)
    assert inspect(tmp_path / "u.csv", text="t").duplicate_rows == 8


def test_pictures_of_which_only_headers_are_read_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("unseen.data.inspecting.PATIENCE", 0.0)
    classes(tmp_path, each=30)
    (tmp_path / "cat" / "01.png").write_bytes((tmp_path / "cat" / "01.png").read_bytes()[:60])
    assert any("Only the headers of the pictures were read" in note for note in inspect(tmp_path).notes)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command(tmp_path, capsys, as_json):
    rows = "".join(f"{number},{number * 0.37 % 1},{'ab'[number % 2]}{' ' if number > 56 else ''}\n" for number in range(60))
    (tmp_path / "t.csv").write_text("Unnamed: 0,x,label\n" + rows)
    assert main(["data", str(tmp_path / "t.csv"), *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    if as_json:
        found = json.loads(said)
        assert found["found"] == 60 and found["read"] == 60 and found["shape"] == [1] and found["score"]["seconds"] > 0
        assert found["columns"][0] == {"name": "Unnamed: 0", "type": "Int64", "becomes": "left out: a row number that pandas wrote"}
        assert sum(found["classes"].values()) + sum(found["tests"].values()) == 60
    else:
        for part in (
            "CSV table: 60 rows found, 60 examples",
            "1 column not read",
            "'a '",
            "few",
            "`unseen score` with its defaults (--estimator members) takes about",
        ):
            assert part in " ".join(said.split()), part


def test_the_command_takes_the_flags_of_columns(tmp_path, capsys):
    text = "key;part;x;y;kind\n" + "".join(
        f"k{number};{('train', 'test')[number % 3 == 0]};{number % 7},5;{number};{'uv'[number % 2]}\n" for number in range(30)
    )
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    flags = ["--target", "kind", "--id-column", "key", "--split-column", "part", "--drop", "y", "--separator", ";", "--encoding", "utf-16"]
    assert main(["data", str(tmp_path / "t.csv"), *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 20, "test": 10} and found["shape"] == [1] and found["sources"] == {"test": 10, "train": 20}


def test_lines_are_three_at_most_and_the_empty_record_is_empty():
    assert len(Reading().lines()) == 1 and Reading().left_out == 0
    for data in (CASES / "img_mac_sidecar" / "data", CASES / "csv_two_labels" / "data.csv"):
        if data.exists():
            assert 1 < len(load(data).reading.lines()) <= 3


def test_an_archive_is_not_a_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(UnseenError, match=r"ends in '\.zip'"):
        load(tmp_path / "t.zip")


# -- pictures that a table names


def table_of_pictures(folder, count=12, prefix="images/"):
    rows = []
    for number in range(count):
        picture(folder / prefix / f"{number:02}.png", number)
        rows.append({"image": f"{prefix}{number:02}.png", "label": "ab"[number % 2]})
    return pl.DataFrame(rows)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["image", "file_name", "Path", "scan"])
def test_a_table_of_paths(tmp_path, suffix, column):
    frame = table_of_pictures(tmp_path).rename({"image": column}).with_columns(age=pl.Series(range(12)))
    getattr(frame, f"write_{suffix}")(path := tmp_path / f"labels.{suffix}")
    examples = load(path, test_fraction=0, image_column=column if column == "scan" else None)
    assert examples.shape == (3, 6, 8) and examples.classes == ("a", "b") and examples.labels.tolist() == [0, 1] * 6
    expected = picture(tmp_path / "again.png", 7)
    assert np.array_equal(examples.inputs[7].permute(1, 2, 0), expected)
    assert any(part.reason == "beside the pictures, which are the only inputs" for part in examples.reading.skipped)


def test_a_folder_whose_pictures_a_table_names(tmp_path):
    table_of_pictures(tmp_path).write_csv(tmp_path / "labels.csv")
    picture(tmp_path / "images" / "unnamed.png", 99)
    examples = load(tmp_path, test_fraction=0)
    assert len(examples) == 12 and examples.ids[3] == "images/03.png"
    assert {(part.reason, part.count) for part in examples.reading.skipped} == {("named by no table", 1)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_hubs_metadata_files(tmp_path, suffix):
    for split, count in (("train", 12), ("test", 4)):
        frame = table_of_pictures(tmp_path / split, count, prefix="").rename({"image": "file_name", "label": "species"})
        getattr(frame, "write_csv" if suffix == "csv" else "write_ndjson")(tmp_path / split / f"metadata.{suffix}")
    examples = load(tmp_path)
    assert len(examples.train) == 12 and len(examples.test) == 4 and examples.ids[0] == "train/00.png" and examples.classes == ("a", "b")


def test_tables_of_splits_and_paths_of_windows(tmp_path):
    frame = table_of_pictures(tmp_path)
    frame.head(8).write_csv(tmp_path / "train.csv")
    frame.tail(4).with_columns(image=pl.col("image").str.replace("/", "\\", literal=True)).write_csv(tmp_path / "test.csv")
    examples = load(tmp_path)
    assert len(examples.train) == 8 and len(examples.test) == 4 and examples.shape == (3, 6, 8)
    windows = frame.with_columns(image=pl.col("image").str.replace("/", "\\", literal=True))
    windows.write_csv(tmp_path / "w.csv")
    assert torch.equal(load(tmp_path / "w.csv", test_fraction=0).inputs[:8], examples.train.inputs)


def test_kaggles_folders_of_pictures_beside_a_table(tmp_path):
    frame = table_of_pictures(tmp_path, prefix="train/")
    picture(tmp_path / "test" / "1.png", 5)
    frame.write_csv(tmp_path / "train.csv")
    (tmp_path / "sample_submission.csv").write_text("image,label\n1.png,a\n")
    examples = load(tmp_path, test_fraction=0)
    assert len(examples) == 12 and examples.shape == (3, 6, 8)
    assert {(part.reason, part.count) for part in examples.reading.skipped} == {("not one of the tables that are read", 2)}


def test_folders_of_classes_go_before_a_table_beside_them(tmp_path):
    classes(tmp_path)
    (tmp_path / "train.csv").write_text("image,label\ncat/00.png,x\ndog/00.png,y\n")
    examples = load(tmp_path, test_fraction=0)
    assert examples.classes == ("cat", "dog") and examples.reading.left_out == 1


def test_paths_that_are_not_there(tmp_path):
    frame = table_of_pictures(tmp_path)
    frame.with_columns(image="x" + pl.col("image")).write_csv(tmp_path / "labels.csv")
    with pytest.raises(UnseenError, match=r"12 of the 12 pictures that column 'image' names are not there.*--image-column"):
        load(tmp_path / "labels.csv")
    (tmp_path / "images" / "03.png").unlink()
    frame.write_csv(tmp_path / "labels.csv")
    with pytest.raises(UnseenError, match=r"Cannot read the image .*03\.png"):
        load(tmp_path / "labels.csv", test_fraction=0)
    assert len(load(tmp_path / "labels.csv", test_fraction=0, skip_damaged=True)) == 11


def test_the_picture_before_the_mask():
    count = 8
    pictures = [{"bytes": _png(number), "path": None} for number in range(count)]
    masks = [{"bytes": _png(number + 50), "path": None} for number in range(count)]
    for name in ("image", "picture", "scan"):
        features = datasets.Features({"mask": datasets.Image(), name: datasets.Image(), "label": datasets.ClassLabel(names=["u", "v"])})
        dataset = datasets.Dataset.from_dict(
            {"mask": masks, name: pictures, "label": [number % 2 for number in range(count)]}, features=features
        )
        examples = load(dataset, test_fraction=0)
        assert torch.equal(examples.inputs, load(dataset.remove_columns("mask"), test_fraction=0).inputs)
        assert any(f"those of the column '{name}', of mask, {name}" in note for note in examples.reading.notes)
    assert not torch.equal(load(dataset, image_column="mask", test_fraction=0).inputs, examples.inputs)


def _png(number):
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


# -- frames


def test_frames_of_pandas_and_polars():
    pandas = pytest.importorskip("pandas")
    frame = pl.DataFrame({"x": [1.5, 2, 3, 4] * 5, "c": ["u", "v"] * 10, "kind": ["a", "b", "b", "a"] * 5})
    expected = load(frame, target="kind", test_fraction=0)
    assert expected.shape == (3,) and expected.reading.kind == "data frame" and expected.reading.found == 20
    for other in (frame.to_pandas(), frame.lazy(), pandas.DataFrame(frame.to_dict(as_series=False)).astype({"c": "category"})):
        examples = load(other, target="kind", test_fraction=0)
        assert torch.equal(examples.inputs, expected.inputs) and torch.equal(examples.labels, expected.labels)
    with pytest.raises(UnseenError, match="no column for target: none is called label, labels or target"):
        load(frame)
    twice = pandas.DataFrame([[1, 2, "a"]], columns=["x", "x", "label"])
    with pytest.raises(UnseenError, match="several columns of one name"):
        load(twice)
