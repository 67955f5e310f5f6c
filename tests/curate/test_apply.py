import csv
import io
import re

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import unseen
from unseen.cli import main
from unseen.curate.copying import apply

UnseenError = unseen.UnseenError


def picture(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(path)


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/3.png")):
        picture(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


def decisions(folder, *rows):
    path = folder / "decisions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "decision", "label"), *rows])
    return path


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_images(photos, tmp_path):
    before = files(photos)
    made = decisions(tmp_path, ("cat/1.png", "relabel", "dog"), ("cat/2.png", "keep", ""), ("dog/deep/3.png", "drop", ""))
    assert apply(made, photos, tmp_path / "clean") == {"keep": 2, "drop": 1, "relabel": 1}
    assert files(photos) == before
    clean = files(tmp_path / "clean")
    assert clean == {"dog/cat-1.png": before["cat/1.png"], "cat/2.png": before["cat/2.png"], "dog/1.png": before["dog/1.png"]}


def test_a_folder_with_splits(tmp_path):
    for name in ("train/train/1.png", "train/dog/1.png", "test/train/1.png", "test/dog/2.png"):
        picture(tmp_path / "photos" / name)
    made = decisions(tmp_path, ("train/train/1.png", "relabel", "dog"), ("test/dog/2.png", "relabel", "train"))
    apply(made, tmp_path / "photos", tmp_path / "clean")
    assert sorted(files(tmp_path / "clean")) == ["test/train/1.png", "test/train/2.png", "train/dog/1.png", "train/dog/train-1.png"]


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_keeps_its_other_values_to_the_letter(tmp_path, suffix, separator):
    rows = [["a", "label", "note"], ["1.50", "yes", "x, y"], ["2", "no", 'say "no"\nor not'], ["03", "yes", ""]]
    with (tmp_path / f"table{suffix}").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    made = decisions(tmp_path, ("row/0", "relabel", "no"), ("row/2", "drop", ""))
    apply(made, tmp_path / f"table{suffix}", tmp_path / f"clean{suffix}")
    with (tmp_path / f"clean{suffix}").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file, delimiter=separator)) == [rows[0], ["1.50", "no", "x, y"], rows[2]]


def test_a_table_with_ids(tmp_path):
    pl.DataFrame({"name": ["x", "y", "z"], "kind": [0, 1, 0], "v": [1.0, 2.0, 3.0]}).write_csv(tmp_path / "t.csv")
    made = decisions(tmp_path, ("y", "drop", ""))
    assert main(["apply", str(made), str(tmp_path / "t.csv"), str(tmp_path / "c.csv"), "--target", "kind", "--id-column", "name"]) == 0
    assert pl.read_csv(tmp_path / "c.csv")["name"].to_list() == ["x", "z"]
    with pytest.raises(UnseenError, match="no column 'label'"):
        apply(made, tmp_path / "t.csv", tmp_path / "d.csv", id_column="name")


def test_parquet_keeps_types_and_declared_classes(tmp_path):
    import datasets

    names = datasets.ClassLabel(names=["cat", "dog"])
    table = datasets.Dataset.from_dict({"x": [1.0, 2.0, 3.0], "label": [0, 1, 1]}).cast_column("label", names)
    table.to_parquet(tmp_path / "t.parquet")
    made = decisions(tmp_path, ("row/0", "relabel", "dog"), ("row/1", "drop", ""))
    apply(made, tmp_path / "t.parquet", tmp_path / "c.parquet")
    back = datasets.Dataset.from_parquet(str(tmp_path / "c.parquet"), cache_dir=str(tmp_path / "cache"))
    assert back.features["label"].names == ["cat", "dog"] and back["label"] == [1, 1] and back["x"] == [1.0, 3.0]


def test_data_of_any_other_kind_becomes_a_list_of_indices(tmp_path):
    run = unseen.score("digits", hidden=(16,), epochs=1, out=tmp_path / "run")
    first, second = run.scores["id"][:2].to_list()
    made = decisions(tmp_path, (first, "drop", ""), (second, "relabel", "7"))
    counts = apply(made, run.path, tmp_path / "kept.csv")
    kept = pl.read_csv(tmp_path / "kept.csv")
    assert counts["drop"] == 1 and len(kept) == len(run.scores) - 1 and kept["index"].to_list() == run.scores["index"].to_list()[1:]
    assert kept.row(0) == (run.scores["index"][1], second, 7)


def test_a_list_of_what_stays(photos, tmp_path):
    (tmp_path / "keep.txt").write_text("cat/1.png\ndog/1.png\n")
    assert apply(tmp_path / "keep.txt", photos, tmp_path / "clean") == {"keep": 2, "drop": 2, "relabel": 0}
    assert sorted(files(tmp_path / "clean")) == ["cat/1.png", "dog/1.png"]
    (tmp_path / "keep.txt").write_text("cat/9.png\n")
    with pytest.raises(UnseenError, match=re.escape("'cat/9.png'")):
        apply(tmp_path / "keep.txt", photos, tmp_path / "clean2")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("cat/9.png", "drop", ""), "no example with the id 'cat/9.png'"),
        (("../photos/cat/1.png", "drop", ""), "leads out"),
        (("cat/../cat/1.png", "drop", ""), "leads out"),
        (("/etc/passwd", "drop", ""), "leads out"),
        (("cat/1.png", "relabel", "../../evil"), "no slash"),
        (("cat/1.png", "relabel", "dog/deep"), "no slash"),
        (("cat/1.png", "relabel", "bird"), "no class"),
        (("cat/1.png", "relabel", ".."), "no class"),
        (("cat/1.png", "relabel", ""), "without a label"),
        (("cat/1.png", "delete", ""), "'delete'"),
        (("cat/1.png\0", "drop", ""), "NUL in line 3"),
        (("cat/2.png", "keep", ""), "decides twice on 'cat/2.png'"),
    ],
)
def test_what_is_refused_and_leaves_nothing(photos, tmp_path, row, message):
    made = decisions(tmp_path, ("cat/2.png", "drop", ""), row)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnseenError, match=re.escape(message)):
        apply(made, photos, tmp_path / "clean")
    assert sorted(tmp_path.rglob("*")) == before


def test_places_that_are_refused(photos, tmp_path):
    made = decisions(tmp_path, ("cat/1.png", "drop", ""))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for destination, message in (("photos", "already"), ("photos/new", "inside"), ("dangling", "already"), ("no/where", "not there")):
        with pytest.raises(UnseenError, match=message):
            apply(made, photos, tmp_path / destination)
    (tmp_path / "alias").symlink_to(photos)
    with pytest.raises(UnseenError, match="inside"):
        apply(made, photos, tmp_path / "alias" / "new")
    for source, message in ((tmp_path / "nothing", "not there"), (made.rename(tmp_path / "d.xyz"), "Cannot copy")):
        with pytest.raises(UnseenError, match=message):
            apply(decisions(tmp_path), source, tmp_path / "clean")
    (tmp_path / "bad.csv").write_text("name,what\n")
    with pytest.raises(UnseenError, match="id, decision"):
        apply(tmp_path / "bad.csv", photos, tmp_path / "clean")


def test_links_are_not_followed(photos, tmp_path):
    (tmp_path / "secret.png").write_bytes((photos / "cat/1.png").read_bytes())
    (photos / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnseenError, match="link.png is a link"):
        apply(decisions(tmp_path), photos, tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


NAMES = st.one_of(
    st.sampled_from(["cat/1.png", "dog/1.png", "../x", "/abs", "cat/../../x", "dog", "", ".", "..", "cat\\..\\x", "CON", "~"]), st.text()
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(NAMES, st.sampled_from(["keep", "drop", "relabel", "", "Drop"]), NAMES), max_size=4), raw=st.binary(max_size=30)
)
@example(rows=[("cat/1.png", "relabel", "dog")], raw=b"")
def test_whatever_it_is_told_it_writes_below_its_destination_or_nothing(photos, tmp_path, rows, raw):
    text = io.StringIO()
    csv.writer(text).writerows([("id", "decision", "label"), *rows])
    (tmp_path / "fuzz.csv").write_bytes(text.getvalue().encode("utf-8", "surrogatepass") + raw)
    clean = tmp_path / "clean"
    before = files(tmp_path)
    try:
        counts = apply(tmp_path / "fuzz.csv", photos, clean)
    except UnseenError:
        assert not clean.exists()
        assert files(tmp_path) == before
        return
    after = files(tmp_path)
    made = {name: value for name, value in after.items() if name.startswith("clean/")}
    assert {name: value for name, value in after.items() if name not in made} == before
    assert len(made) == counts["keep"] + counts["relabel"] and counts["drop"] == 4 - len(made)
    assert set(made.values()) <= set(files(photos).values())
    import shutil

    shutil.rmtree(clean, ignore_errors=True)
