"""Duplicates, leaks and outliers of a folder of pictures, a table and sentences, planted and found."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

import unseen
from unseen.cli import main
from unseen.curate import duplicates, find_oddities, leaks, odd_lists, outliers
from unseen.curate.oddities import NEAR_WITHOUT


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of 24 x 24: of each class a motif of its own with noise; three copies, one of them of the other class."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    motifs = [draw.integers(0, 255, (6, 6, 3)).repeat(4, 0).repeat(4, 1) for _ in range(2)]
    for split, count in (("train", 40), ("test", 10)):
        for label, motif in enumerate(motifs):
            (folder / split / "ab"[label]).mkdir(parents=True)
            for number in range(count):
                noisy = np.clip(motif * draw.uniform(0.5, 1, 3) + draw.normal(0, 60, motif.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / split / "ab"[label] / f"{number:02}.png")
    shutil.copy(folder / "train/a/03.png", folder / "train/a/90.png")
    shutil.copy(folder / "train/a/07.png", folder / "train/b/91.png")
    shutil.copy(folder / "train/b/05.png", folder / "test/b/92.png")
    run = unseen.score(str(folder), out=folder.parent / "pictures-run", estimator="head")
    return folder, run


def test_planted_copies_are_found_those_with_other_labels_first(pictures):
    folder, run = pictures
    found = duplicates(run, 0.99)
    assert found["id"].to_list() == ["train/b/91.png", "train/a/90.png"]
    assert found["other_id"].to_list() == ["train/a/07.png", "train/a/03.png"]
    assert found["exact"].all() and found["labels_differ"].to_list() == [True, False]
    assert found["path"][0] == f"{folder}/train/b/91.png"


def test_a_copy_in_both_splits_is_a_leak(pictures):
    found = leaks(pictures[1], 0.99)
    assert found.select("id", "other_id", "exact", "labels_differ").rows() == [("test/b/92.png", "train/b/05.png", True, False)]


def test_the_tables_say_what_the_lists_say_and_need_no_data(pictures, tmp_path):
    folder, run = pictures
    assert odd_lists(unseen.open_run(shutil.copytree(run.path, tmp_path / "stranger"))).keys() <= {"duplicates", "leaks", "outliers"}
    assert find_oddities(run) is None
    found = odd_lists(run)
    assert list(found) == ["duplicates", "leaks", "outliers"]
    assert found["duplicates"].equals(duplicates(run)) and found["leaks"].equals(leaks(run)) and found["outliers"].equals(outliers(run))
    assert found["leaks"]["path"][0].startswith(str(folder))
    fresh = duplicates(run, NEAR_WITHOUT)
    assert found["duplicates"].select("index", "other_index", "exact").equals(fresh.select("index", "other_index", "exact"))
    written = (run.path / "duplicates.parquet").stat().st_mtime_ns
    assert find_oddities(run) is None and (run.path / "duplicates.parquet").stat().st_mtime_ns == written


def test_lists_of_data_from_python_say_what_is_missing(tmp_path):
    data = (np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2)
    run = unseen.score(data, out=tmp_path / "run", epochs=1)
    assert "arrays" in str(find_oddities(run)) and odd_lists(run) == {}
    assert find_oddities(run, data=data) is None and len(odd_lists(run)) == 3


def test_what_is_far_from_everything_is_an_outlier(tmp_path):
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.normal(0, 0.1, (60, 30)) + draw.normal(0, 1, (2, 30)).repeat(30, 0), draw.normal(0, 1, (1, 30))])
    data = (x.astype(np.float32), np.repeat([0, 1, 0], [30, 30, 1]))
    run = unseen.score(data, out=tmp_path / "run", epochs=1, test_fraction=0.0)
    found = outliers(run, data)
    assert found["index"][0] == 60 and found["strangeness"][0] > 0.5
    assert len(found) < 10
    with pytest.raises(unseen.UnseenError, match="no test split"):
        leaks(run, data=data)


def test_equal_sentences_are_exact_and_each_group_keeps_its_first(tmp_path):
    words = ["red", "green", "blue", "small", "large", "slow", "fast", "warm", "cold", "loud"]
    rows = [(f"the {a} {b} thing of number {n}", "yn"[n % 2]) for n, (a, b) in enumerate((a, b) for a in words for b in words)]
    rows += [rows[4], rows[4], (rows[9][0], "yn"[rows[9][1] == "y"])]
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(tmp_path / "t.csv")
    run = unseen.score(str(tmp_path / "t.csv"), text="text", out=tmp_path / "run", estimator="head", test_fraction=0.0)
    found = duplicates(run, 1.0).filter("exact")
    assert found["id"].to_list()[0] == "row/102" and sorted(found["id"]) == ["row/100", "row/101", "row/102"]
    assert found.filter(pl.col("id") != "row/102")["other_id"].to_list()[0] == "row/4"
    assert found["group"].n_unique() == 2


def test_the_commands_print_the_lists(pictures, capsys):
    run = str(pictures[1].path)
    main(["duplicates", run, "--near", "0.99"])
    shown = capsys.readouterr().out
    assert "train/b/91.png" in shown and "2 examples. The labels of 1 differ." in shown
    main(["leaks", run, "--near", "0.99", "--json"])
    assert json.loads(capsys.readouterr().out)["rows"][0]["id"] == "test/b/92.png"
    main(["outliers", run, "--csv"])
    assert capsys.readouterr().out.startswith("index,id,")
