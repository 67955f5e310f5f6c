"""Inputs like those of the public reports, that nobody had thought of: each is read right, or refused or named."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from builders import classes, counts, picture, skipped
from PIL import Image

from unseen.curate import apply
from unseen.data import load, opened, sample
from unseen.errors import UnseenError

COUNT = 60
random = np.random.default_rng(5)
VALUES = [f"{value:.2f}" for value in random.normal(size=COUNT) * 100]


def csv(path, values, name="v", labels="abc", before="", after=""):
    """A table of this column, numbers, and labels."""
    lines = [f'"{value}",{row % 11}.25,{labels[row % len(labels)]}' for row, value in enumerate(values)]
    path.write_text(before + f"{name},w,label\n" + "\n".join(lines) + "\n" + after)
    return path


def notes(examples):
    return " ".join((*examples.reading.suspicious, *examples.reading.notes))


# -- folders


@pytest.mark.parametrize("tops", [("fold1", "fold2", "fold3"), ("2022", "2023"), ("site A", "site B")])
def test_folds_that_hold_the_same_classes_are_named(tmp_path, tops):
    for top in tops:
        classes(tmp_path / top)
    examples = load(tmp_path, test_fraction=0)
    assert examples.classes == tuple(sorted(tops)) and len(examples) == 10 * len(tops)
    (said,) = examples.reading.suspicious
    assert said.startswith(f"Each class folder, such as {sorted(tops)[0]}, holds the same 2 folders, such as cat.")
    assert said in examples.reading.lines()[1]


def test_folders_below_classes_that_differ_are_no_classes(tmp_path):
    """Patients, or an inner folder that only one class has."""
    for top, names in (("benign", ("p1", "p2")), ("malignant", ("p3", "p4"))):
        classes(tmp_path / top, names=names)
    assert not load(tmp_path).reading.suspicious
    classes(tmp_path / "other" / "x", each=2)
    classes(tmp_path / "other" / "y", each=2)
    assert not load(tmp_path).reading.suspicious


def test_the_same_below_a_split(tmp_path):
    for top in ("A", "B"):
        classes(tmp_path / "train" / top)
    assert "such as train/A, holds the same 2 folders" in load(tmp_path).reading.suspicious[0]


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_named_and_the_first_is_read(tmp_path, form):
    classes(tmp_path)
    frames = [Image.new("RGB", (8, 6), (grey, grey, grey)) for grey in (40, 200, 120)]
    frames[0].save(tmp_path / "cat" / f"moving.{form.lower()}", form, save_all=True, append_images=frames[1:], lossless=True)
    examples = load(tmp_path, test_fraction=0)
    assert "1 of 11 pictures looked at have several frames: the first is read." in examples.reading.notes
    place = examples.ids.index(f"cat/moving.{form.lower()}")
    assert int(examples.inputs[place].min()) == int(examples.inputs[place].max()) == 40


# -- columns


@pytest.mark.parametrize("mark", ["'", "’", "\u202f"])
def test_numbers_that_differ_in_every_row_are_no_ids(tmp_path, mark):
    """1'017 in Switzerland, 1 017 in France."""
    numbers = [row * 1017 % 90_000 + 1000 for row in range(COUNT)]
    examples = load(csv(tmp_path / "t.csv", [f"{number:,}".replace(",", mark) for number in numbers]), test_fraction=0)
    assert examples.inputs[:, 0].tolist() == numbers


def test_names_with_digits_and_blanks_are_ids(tmp_path):
    """Telephone numbers, which are no sentences."""
    examples = load(csv(tmp_path / "t.csv", [f"+41 79 {row * 7919 % 10**7:07}" for row in range(COUNT)]), test_fraction=0)
    assert skipped(examples, "columns") == {"a different text in every row": 1} and examples.shape == (1,)
    sentences = load(csv(tmp_path / "s.csv", [f"a film, number {row}" for row in range(COUNT)]), test_fraction=0)
    assert "--text v" in notes(sentences)


@pytest.mark.parametrize(
    "values",
    [
        [f"{value} {'cm' if row % 2 else 'mm'}" for row, value in enumerate(VALUES)],
        [f"{row + 1}/{row % 7 + 2}" for row in range(COUNT)],
        [f"{value}..{value}" for value in VALUES],
    ],
)
def test_quantities_that_nobody_can_read_are_named(tmp_path, values):
    examples = load(csv(tmp_path / "t.csv", values), test_fraction=0)
    assert f"Column 'v': its {len(set(values))} values, such as " in notes(examples) and "look like numbers" in notes(examples)


def test_codes_are_no_quantities(tmp_path):
    for values in ([f"A{row % 30}" for row in range(COUNT)], [f"{row % 12}B" for row in range(COUNT)]):
        assert "look like numbers" not in notes(load(csv(tmp_path / "t.csv", values), test_fraction=0))


# -- tables


@pytest.mark.parametrize("title", ["Report of 2024\n", "Title of the sheet\n\n", "one\ntwo\nthree\n"])
def test_a_title_above_the_header_is_left_out(tmp_path, title):
    table = csv(tmp_path / "t.csv", VALUES, before=title)
    examples = load(table, test_fraction=0)
    assert examples.inputs[:, 0].tolist() == pytest.approx([float(value) for value in VALUES], rel=1e-6)
    assert f"{title.count(chr(10))} line" in notes(examples) and len(examples) == COUNT
    (tmp_path / "d.csv").write_text("id,decision,label\nrow/3,drop,\n")
    apply(tmp_path / "d.csv", table, tmp_path / "clean.csv")
    before, after = (path.read_text().splitlines() for path in (table, tmp_path / "clean.csv"))
    place = title.count("\n") + 1 + 3
    assert after == before[:place] + before[place + 1 :]


@pytest.mark.parametrize("name", ["Label", "class", "TARGET", "Category"])
def test_the_likely_column_of_labels_is_named(tmp_path, name):
    table = csv(tmp_path / "t.csv", VALUES)
    table.write_text(table.read_text().replace("label", name, 1))
    with pytest.raises(
        UnseenError,
        match=rf"no column for target: .*Allowed: v, w, {name}. Give target={name} \(--target {name}\)",
    ):
        load(table)


def test_a_file_without_a_header_says_how_to_name_its_columns(tmp_path):
    (tmp_path / "t.tsv").write_text("".join(f"{row % 2}\ta sentence, number {row}\n" for row in range(COUNT)))
    with pytest.raises(UnseenError, match=r"no column of labels, and its first line, 0, a sentence, number 0.*--target column_1"):
        load(tmp_path / "t.tsv")
    examples = load(tmp_path / "t.tsv", target="column_1", text="column_2", test_fraction=0)
    assert len(examples) == COUNT and examples.texts[1] == "a sentence, number 1" and examples.classes == ("0", "1")


def test_missing_labels_are_not_to_be_dropped_and_all_columns_with_gaps_are_named(tmp_path):
    pl.DataFrame({"a": [None, 1.0] * 10, "b": [1.0] * 20, "c": [None] * 3 + [2.0] * 17, "label": ["x", "y"] * 10}).write_csv(
        tmp_path / "t.csv"
    )
    with pytest.raises(UnseenError, match=r"'a' has 10 missing values, the first in row 0. So have 'c'.*--drop a c"):
        load(tmp_path / "t.csv")
    pl.DataFrame({"a": [1.0] * 20, "label": ["x", None] * 10}).write_csv(tmp_path / "u.csv")
    with pytest.raises(UnseenError, match="10 missing values, the first in row 1") as refused:
        load(tmp_path / "u.csv")
    assert "--drop" not in str(refused.value)


def test_a_letter_that_is_cut_off_at_the_end_is_not_utf8(tmp_path):
    """The last byte of a file of cp1252 may begin a letter of UTF-8."""
    (tmp_path / "t.csv").write_bytes(
        b"x,label\n" + b"".join(f"{row % 7},{'thé' if row % 2 else 'café'}\n".encode("cp1252") for row in range(30))[:-1]
    )
    examples = load(tmp_path / "t.csv", test_fraction=0)
    assert examples.classes == ("café", "thé") and "read as cp1252" in notes(examples)


@pytest.mark.parametrize("index", [[[0, 1]] * 6, [[]] * 6])
def test_an_index_of_several_numbers_each_is_refused(tmp_path, index):
    pl.DataFrame(
        {"x": [1.0, 2.0, 3.0] * 2, "label": [0, 1] * 3, "index": index}, schema_overrides={"index": pl.List(pl.Int64)}
    ).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UnseenError, match="The index is of type"):
        load(tmp_path / "t.parquet")


# -- many columns


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.int32])
def test_columns_taken_together_are_those_taken_one_by_one(kind):
    """The fast path of the commonest types, beside a table whose columns have gaps of types in between."""
    values = {f"x{column}": (random.normal(size=COUNT) * 1000).astype(kind) for column in range(7)}
    values["sensor"] = (np.arange(COUNT) % 5 * (1 if kind in (np.int64, np.int32) else 0.01) + 10**6).astype(kind)
    labels = [("ant", "bee")[row % 2] for row in range(COUNT)]
    together = load(pl.DataFrame({**values, "label": labels}), test_fraction=0)
    for name in values:
        alone = load(pl.DataFrame({name: values[name], "label": labels}), test_fraction=0)
        place = list(values).index(name)
        assert together.inputs[:, place].double().tolist() == pytest.approx(alone.inputs[:, 0].double().tolist(), rel=1e-6)
    assert together.reading.columns[1].type == alone.reading.columns[1].type


def test_row_numbers_are_found_among_many_columns():
    wide = {f"x{column}": random.normal(size=COUNT) for column in range(1500)}
    wide |= {"n": np.arange(COUNT) * 3, "k": np.arange(COUNT) % 2, "m": random.permutation(COUNT)}
    examples = load(pl.DataFrame({**wide, "label": [("ant", "bee")[row % 2] for row in range(COUNT)]}), test_fraction=0)
    assert skipped(examples, "columns") == {"a number that grows by equal steps with the row": 1} and examples.shape == (1502,)
    assert "'k' alone tells the label" in notes(examples)


# -- a sample of a source


def test_a_sample_is_spread_evenly_and_reads_no_more(tmp_path):
    classes(tmp_path / "p", each=50)
    (tmp_path / "p" / "cat" / "00.png").write_bytes(b"")
    source = opened(tmp_path / "p")
    some = sample(source, 10)
    assert len(some) >= 10 and some.shape == load(source, skip_damaged=True).shape and set(some.split) == {"train"}
    assert counts(some)["train", "dog"] > 0 and counts(some)["train", "cat"] > 0
    table = opened(csv(tmp_path / "t.csv", VALUES))
    assert sample(table, 5).inputs.tolist() == load(table, test_fraction=0).inputs[np.linspace(0, COUNT - 1, 5).astype(int)].tolist()


def test_a_folder_of_tables_is_not_copied_as_pictures(tmp_path):
    frame = pl.DataFrame({"x": np.arange(20) % 7 * 1.0, "label": np.arange(20) % 2})
    for name in ("train", "validation"):
        (tmp_path / "q").mkdir(exist_ok=True)
        frame.write_parquet(tmp_path / "q" / f"{name}-00000-of-00001.parquet")
    (tmp_path / "d.csv").write_text("id,decision,label\ntrain/3,drop,\n")
    with pytest.raises(UnseenError, match=r"is a folder of tables, such as train-00000-of-00001.parquet"):
        apply(tmp_path / "d.csv", tmp_path / "q", tmp_path / "clean")
    picture(tmp_path / "p" / "cat" / "1.png", 1)
    picture(tmp_path / "p" / "dog" / "1.png", 2)
    (tmp_path / "p" / "labels.csv").write_text(json.dumps({}))
    (tmp_path / "e.csv").write_text("id,decision,label\ncat/1.png,drop,\n")
    apply(tmp_path / "e.csv", tmp_path / "p", tmp_path / "clean")
    assert (tmp_path / "clean" / "labels.csv").exists() and not (tmp_path / "clean" / "cat" / "1.png").exists()


def test_a_table_of_ids_alone_has_no_inputs(tmp_path):
    """Kaggle's labels, whose pictures lie elsewhere under names that the table does not write."""
    pl.DataFrame({"id": random.permutation(500), "label": ["ant", "bee"] * 250}).write_csv(tmp_path / "t.csv")
    with pytest.raises(UnseenError, match="has no inputs: its column 'id' is an id by its name.*--image-column"):
        load(tmp_path / "t.csv")


def test_parts_of_torch_data_sets_have_its_classes():
    class Pictures(torch.utils.data.Dataset):
        classes = ("cat", "dog")

        def __len__(self):
            return 20

        def __getitem__(self, place):
            return torch.full((1, 4, 4), float(place)), place % 2

    generator = torch.Generator().manual_seed(0)
    examples = load(torch.utils.data.random_split(Pictures(), [14, 6], generator))
    assert examples.classes == ("cat", "dog") and len(examples.train) == 14 and len(examples.test) == 6
    assert all(int(x.max()) % 2 == int(y) for x, y in zip(examples.inputs, examples.labels, strict=True))


def test_the_only_column_beside_pictures_is_the_label_and_that_is_said(tmp_path):
    for number in range(12):
        picture(tmp_path / f"{number}.png", number)
    rows = {"file_name": [f"{number}.png" for number in range(12)], "breed": ["pug", "corgi"] * 6}
    pl.DataFrame(rows).write_csv(tmp_path / "metadata.csv")
    examples = load(tmp_path, test_fraction=0)
    assert examples.classes == ("corgi", "pug") and "The labels are those of the column 'breed' (--target gives another)." in notes(
        examples
    )
