import csv
import gzip
import io
import itertools
import os
import re
import shutil
import threading
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import unseen
from unseen.cli import main
from unseen.curate.copying import apply
from unseen.curate.folders import folded
from unseen.data import image_folder

UnseenError = unseen.UnseenError
SOAK = bool(os.environ.get("UNSEEN_SOAK"))


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
    shutil.rmtree(clean, ignore_errors=True)


def test_what_is_not_judged_is_copied_and_what_is_not_copied_is_named(photos, tmp_path, capsys):
    """Kind C: other splits, annotations, pictures at the top, what systems leave, links."""
    others = {"notes.txt": b"n", "cat/1.xml": b"<box/>", ".DS_Store": b"\0", "cat/._1.png": b"\0\5", "__MACOSX/cat/._1.png": b"\0\5"}
    for name, content in others.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(content)
    picture(photos / "at the top.png")
    (photos / "link.txt").symlink_to(photos / "notes.txt")
    made = decisions(tmp_path, ("cat/1.png", "relabel", "dog"), ("cat/2.png", "drop", ""))
    read = set(image_folder(photos).ids)
    counts = apply(made, photos, tmp_path / "clean")
    here, there = files(photos), files(tmp_path / "clean")
    expected = {name: here[name] for name in here if name not in ("cat/1.png", "cat/2.png", "link.txt")} | {
        "dog/cat-1.png": here["cat/1.png"]
    }
    assert there == expected and counts.left == ["link.txt (a link)"]
    assert sorted(counts.copied) == sorted(set(here) - read - {"link.txt"}) and sum(counts.values()) == len(read)
    shutil.rmtree(tmp_path / "clean")
    main(["apply", str(made), str(photos), str(tmp_path / "clean")])
    out = capsys.readouterr().out
    assert "not in the copy: link.txt (a link)" in out and "copied as they are, not judged" in out


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "dev"), ("train", "Val", "extra")])
def test_every_split_is_in_the_copy(tmp_path, splits):
    for number, (split, kind) in enumerate(itertools.product(splits, ("cat", "dog"))):
        picture(tmp_path / "photos" / split / kind / "1.png", number)
    apply(decisions(tmp_path, ("train/cat/1.png", "drop", "")), tmp_path / "photos", tmp_path / "clean")
    before = files(tmp_path / "photos")
    assert files(tmp_path / "clean") == {name: content for name, content in before.items() if name != "train/cat/1.png"}


def test_a_relabelled_file_takes_the_place_of_none_in_any_case(photos, tmp_path):
    picture(photos / "dog" / "CAT-1.png", 7)
    picture(photos / "cat" / "Other.txt.png", 8)
    (photos / "dog" / "1.PNG.txt").write_text("mine")
    apply(decisions(tmp_path, ("cat/1.png", "relabel", "dog")), photos, tmp_path / "clean")
    there = files(tmp_path / "clean")
    assert len(there) == len(files(photos)) and len({name.casefold() for name in there}) == len(there)
    assert there["dog/cat-cat-1.png"] == files(photos)["cat/1.png"]


@pytest.fixture
def one_case(monkeypatch):
    """Makes a folder one of a disk that does not tell A from a, nor é in one piece from é in two: paths below it lead to what is there."""

    def make(root):
        def found(path):
            if not isinstance(path, str | Path) or not Path(path).is_relative_to(root):
                return path
            place = root
            for part in Path(path).relative_to(root).parts:
                there = real["listdir"](place) if real["isdir"](place) else []
                place = place / next((name for name in there if folded(name) == folded(part)), part)
            return place

        real = {"listdir": os.listdir, "isdir": os.path.isdir}
        for name in ("open", "mkdir", "lstat", "chmod", "utime"):
            whole = getattr(os, name)
            monkeypatch.setattr(os, name, lambda path, *rest, whole=whole, **named: whole(found(path), *rest, **named))

    return make


CLASHES = [("A/1.png", "a/1.png"), ("A/1.png", "a/2.png"), ("a/x.png", "a/X.png"), ("é/1.png", "e\u0301/2.png"), ("ß/1.png", "SS/2.png")]


@pytest.mark.parametrize("names", CLASHES, ids=lambda names: ascii(names))
@pytest.mark.parametrize("is_one_case", [False, True])
def test_names_that_differ_in_case_alone(tmp_path, one_case, names, is_one_case):
    """Where the disk tells them apart both are copied; where it does not it is said, and nothing is written: no class becomes two."""
    for number, name in enumerate((*names, "other/1.png", "other/2.png")):
        picture(tmp_path / "photos" / name, number)
    made = decisions(tmp_path, ("other/1.png", "drop", ""))
    (tmp_path / "disk").mkdir()
    if is_one_case:
        one_case(tmp_path / "disk")
        with pytest.raises(UnseenError, match="are the same on the disk"):
            apply(made, tmp_path / "photos", tmp_path / "disk" / "clean")
        assert not list((tmp_path / "disk").iterdir())
    else:
        apply(made, tmp_path / "photos", tmp_path / "disk" / "clean")
        assert sorted(files(tmp_path / "disk" / "clean")) == sorted((*names, "other/2.png"))


def test_a_folder_that_is_swapped_meanwhile_leaks_nothing(tmp_path):
    """A thread puts links to a secret in the place of files and folders; no copy holds a byte of it."""
    for number in range(40):
        picture(tmp_path / "photos" / f"class {number % 4}" / f"{number}.png", number)
    secret = tmp_path / "secret" / "x.png"
    secret.parent.mkdir()
    secret.write_bytes(b"SECRET" * 50)
    for number in range(40):
        (secret.parent / f"{number}.png").write_bytes(secret.read_bytes())
    whole_folder, away, stop = tmp_path / "photos" / "class 0", tmp_path / "away", threading.Event()
    one = tmp_path / "photos" / "class 1" / "1.png"
    content = one.read_bytes()

    def swap():
        while not stop.is_set():
            one.unlink()
            one.symlink_to(secret)
            whole_folder.rename(away)
            whole_folder.symlink_to(secret.parent)
            whole_folder.unlink()
            away.rename(whole_folder)
            one.unlink()
            one.write_bytes(content)

    thread = threading.Thread(target=swap)
    thread.start()
    copies = refusals = 0
    made = decisions(tmp_path)
    try:
        while copies + 40 * refusals < (80000 if SOAK else 2000):
            try:
                apply(made, tmp_path / "photos", tmp_path / "clean")
            except UnseenError:
                refusals += 1
                continue
            finally:
                assert not list(tmp_path.glob(".clean*"))
            copied = files(tmp_path / "clean")
            copies += len(copied)
            assert not any(b"SECRET" in content for content in copied.values())
            shutil.rmtree(tmp_path / "clean")
    finally:
        stop.set()
        thread.join()


DIALECTS = st.fixed_dictionaries(
    {
        "separator": st.sampled_from([",", ";", "\t", "|"]),
        "ending": st.sampled_from(["\n", "\r\n"]),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "last": st.booleans(),
        "blank": st.booleans(),
    }
)
LETTERS = st.text(alphabet="ab 01é#'\"\n;,|=.", max_size=8)
LABELS = ["007", "7", "true", "false", "01", "café", "a,b", "-1"]


def table_bytes(rows, way):
    """Each row's bytes, and all of them: written by Python's csv in the dialect."""
    raws = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=way["separator"], lineterminator=way["ending"], quoting=way["quoting"]).writerow(row)
        raws.append(text.getvalue())
    if not way["last"]:
        raws[-1] = raws[-1].removesuffix(way["ending"])
    encoding = way["encoding"]
    mark = {"utf-8-sig": b"\xef\xbb\xbf", "utf-16": b"\xff\xfe"}.get(encoding, b"")
    plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    return mark, [raw.encode(plain) for raw in raws]


@settings(max_examples=2000 if SOAK else 120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(LETTERS, st.sampled_from(LABELS)), min_size=2, max_size=6), way=DIALECTS, data=st.data())
def test_round_trips_over_dialects(tmp_path, rows, way, data):
    """Keep all: the same bytes. Drop one: exactly that row is gone. Relabel one: only its label differs."""
    rows = [(f"x{number}", text, label) for number, (text, label) in enumerate(rows)]
    mark, raws = table_bytes([("name", "text", "label"), *rows], way)
    blank = table_bytes([()], way | {"last": True})[1][0] if way["blank"] and way["quoting"] == csv.QUOTE_MINIMAL else b""
    raws.insert(2, blank)
    source, clean = tmp_path / ("t.tsv" if way["separator"] == "\t" else "t.csv"), tmp_path / "c"
    source.write_bytes(mark + b"".join(raws))
    at = [1, *range(3, len(raws))]  # where the rows stand: the header first, a blank line third
    chosen = data.draw(st.integers(0, len(rows) - 1))

    def cleaned(*made, **options):
        clean.unlink(missing_ok=True)
        apply(decisions(tmp_path, *made), source, clean, **options)
        return clean.read_bytes()

    assert cleaned() == source.read_bytes()
    without = mark + b"".join(raw for place, raw in enumerate(raws) if place != at[chosen])
    assert cleaned((f"row/{chosen}", "drop", "")) == without == cleaned((f"x{chosen}", "drop", ""), id_column="name")
    label = data.draw(st.sampled_from(sorted({row[2] for row in rows})))
    changed = cleaned((f"row/{chosen}", "relabel", label))
    before, after = mark + b"".join(raws[: at[chosen]]), b"".join(raws[at[chosen] + 1 :])
    assert changed.startswith(before) and changed.endswith(after)
    plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(way["encoding"], way["encoding"])
    (row,) = csv.reader([changed[len(before) : len(changed) - len(after)].decode(plain)], delimiter=way["separator"])
    assert row == [*rows[chosen][:2], label]


def test_a_last_letter_that_is_half_of_one_elsewhere(tmp_path):
    """``café`` in cp1252 at the end of a file: its last byte begins a letter of UTF-8, and no more follows."""
    (tmp_path / "t.csv").write_bytes("x,label\n1,tea\n2,café".encode("cp1252"))
    assert unseen.load(str(tmp_path / "t.csv"), test_fraction=0).classes == ("café", "tea")
    apply(decisions(tmp_path), tmp_path / "t.csv", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()


def test_labels_with_leading_zeros_and_small_truth_values_stay_as_they_are(tmp_path):
    """Kind I, cases apply_leading_zero and apply_bool_lower, and siblings."""
    for labels in (("007", "010", "7"), ("true", "false", "True"), ("1e5", "100000", "0x1"), ("-0", "0", "00"), ("null", "NA", "nan")):
        text = "x,label\n" + "".join(f"{number}.50,{label}\n" for number, label in enumerate(labels))
        (tmp_path / "t.csv").write_text(text)
        apply(decisions(tmp_path, ("row/0", "relabel", labels[1])), tmp_path / "t.csv", tmp_path / "c.csv")
        assert (tmp_path / "c.csv").read_text() == text.replace(f"0.50,{labels[0]}\n", f"0.50,{labels[1]}\n", 1)
        (tmp_path / "c.csv").unlink()


def test_a_text_of_any_length(tmp_path):
    (tmp_path / "t.csv").write_text(f"text,label\n{'long ' * 60_000},a\nshort,b\n")
    apply(decisions(tmp_path, ("row/1", "drop", "")), tmp_path / "t.csv", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == f"text,label\n{'long ' * 60_000},a\n"
    made = decisions(tmp_path, ("long " * 60_000, "drop", ""))
    apply(made, tmp_path / "t.csv", tmp_path / "d.csv", id_column="text")
    assert (tmp_path / "d.csv").read_text() == "text,label\nshort,b\n"


@pytest.mark.parametrize("quoted", [True, False])
def test_a_table_of_tabs_loses_the_row_that_was_decided_on(tmp_path, quoted):
    """With quotes, as spreadsheets write them, and with inches, as people do."""
    rows = [('say "no"', "a"), ('"x', "b"), ("z", "a")] if not quoted else [('"two\nlines"', "a"), ('"x"', "b"), ("z", "a")]
    raws = [f"{text}\t{label}\n" for text, label in rows]
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(raws))
    apply(decisions(tmp_path, ("row/1", "drop", "")), tmp_path / "t.tsv", tmp_path / "c.tsv")
    assert (tmp_path / "c.tsv").read_text() == "text\tlabel\n" + raws[0] + raws[2]


def test_packed_tables_upper_case_and_old_line_ends(tmp_path):
    (tmp_path / "T.CSV").write_bytes(b"x,label\r1,a\r2,b\r")
    apply(decisions(tmp_path, ("row/0", "drop", "")), tmp_path / "T.CSV", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_bytes() == b"x,label\r2,b\r"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"x,label\n1,a\n2,b\n"))
    apply(decisions(tmp_path), tmp_path / "t.csv.gz", tmp_path / "same.csv.gz")
    apply(decisions(tmp_path, ("row/0", "drop", "")), tmp_path / "t.csv.gz", tmp_path / "c.csv.gz")
    assert (tmp_path / "same.csv.gz").read_bytes() == (tmp_path / "t.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "c.csv.gz").read_bytes()) == b"x,label\n2,b\n"


FORMULAS = ["=1+1", "+1", "-x", "@cmd", "\tx", "\x7fx", "'=1", "''@", "＝1", "'tis", "plain", "-1"]


def test_a_spreadsheet_computes_nothing_and_ids_find_their_way_back(tmp_path, capsys):
    """Of the lists and the files that people open, no cell begins a formula; what they decide applies to the ids as they are."""
    rows = [(f"{FORMULAS[number % 12]}{number}", number % 7, number % 5, FORMULAS[number % 3]) for number in range(90)]
    frame = pl.DataFrame(rows, schema=["name", "x", "y", "label"], orient="row")
    frame.write_csv(tmp_path / "t.csv")
    run = unseen.score(
        (frame.select("x", "y").to_numpy(), frame["label"].to_list()), hidden=(16,), epochs=1, out=tmp_path / "run", estimator="turnover"
    )
    for name in ("examples", "scores"):
        table = run.table(name)
        run.write_table(name, table.with_columns(id=pl.Series([rows[index][0] for index in table["index"]])))
    texts = []
    for command in (["suspects", "--csv", "--top", "0"], ["easy", "--csv", "--top", "0"], ["export"], ["export", "--format", "aum"]):
        assert main([command[0], str(run.path), *command[1:]]) == 0
        out = capsys.readouterr().out
        texts.append(out if "--csv" in command else Path(out.splitlines()[0]).read_bytes().decode())
    assert main(["prune", str(run.path), "--keep", "0.5"]) == 0
    keep = (run.path / "keep.txt").read_bytes().decode()
    cells = [cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row] + keep.split("\n")
    for cell in cells:
        number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)  # numbers of our own are no formulas
        assert number or not re.match(r"[=+\-@\x00-\x1f＝]", cell), cell
    listed = [row["id"] for row in csv.DictReader(io.StringIO(texts[2]))]
    assert len(set(listed)) == len(run.scores) and any(name.startswith("'=") for name in listed)
    made = decisions(tmp_path, *((name, "drop", "") for name in listed))
    counts = apply(made, tmp_path / "t.csv", tmp_path / "c.csv", id_column="name")
    left = set(run.examples["id"]) - set(run.scores["id"])
    assert counts["drop"] == len(listed) and set(pl.read_csv(tmp_path / "c.csv")["name"]) == left
    counts = apply(run.path / "keep.txt", tmp_path / "t.csv", tmp_path / "k.csv", id_column="name")
    assert counts["keep"] == len(keep.strip("\n").split("\n"))


def test_an_apostrophe_that_could_be_an_ids_own_is_asked_about(tmp_path):
    (tmp_path / "t.csv").write_text("name,label\n=1,a\n'=1,b\n'=2,a\n=3,=b\n")
    for written, kept in (("'=2", "'=2"), ("''=2", "'=2"), ("=3", "=3"), ("'=3", "=3")):
        apply(decisions(tmp_path, (written, "drop", "")), tmp_path / "t.csv", tmp_path / "c.csv", id_column="name")
        assert kept not in pl.read_csv(tmp_path / "c.csv")["name"].to_list()
        (tmp_path / "c.csv").unlink()
    with pytest.raises(UnseenError, match="can be that example"):
        apply(decisions(tmp_path, ("'=1", "drop", "")), tmp_path / "t.csv", tmp_path / "c.csv", id_column="name")
    apply(decisions(tmp_path, ("=3", "relabel", "a"), ("'=2", "relabel", "'=b")), tmp_path / "t.csv", tmp_path / "c.csv", id_column="name")
    assert pl.read_csv(tmp_path / "c.csv")["label"].to_list() == ["a", "b", "=b", "a"]
