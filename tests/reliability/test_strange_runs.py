"""A second attack: runs behind links, of later versions, with linked, deep or huge files, on disks that cannot be written."""

import json
import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import unseen
from unseen.cli import main
from unseen.curate import apply

READING = [
    ["show", "RUN"],
    ["suspects", "RUN"],
    ["rare", "RUN"],
    ["report", "RUN"],
    ["evaluate", "RUN"],
    ["export", "RUN"],
    ["runs", "ABOVE"],
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange")
    x = np.random.default_rng(0).normal(size=(120, 4))
    labels = np.where(x[:, 0] > 0, "yes", "no")
    pl.DataFrame({f"x{column}": x[:, column] for column in range(4)} | {"label": labels}).write_csv(folder / "d.csv")
    options = {"hidden": (16,), "epochs": 2, "estimator": "turnover", "random_labels": 0.1}
    return unseen.score(str(folder / "d.csv"), out=folder / "run", **options).path


@pytest.fixture
def run(scored, tmp_path):
    return Path(shutil.copytree(scored, tmp_path / "run"))


def told(capsys, run, command):
    """The status of a command, and the one line that it may say where it refuses."""
    capsys.readouterr()
    places = {"RUN": str(run), "ABOVE": str(run.parent)}
    status = main([places.get(word, word) for word in command])
    said = capsys.readouterr().err
    assert status in (0, 2) and (status == 0 or said.startswith("unseen: ")) and "Traceback" not in said
    return status, said


def test_a_run_behind_a_link_is_the_run(run, tmp_path, capsys):
    (tmp_path / "link").symlink_to(run)
    for command in (*READING[:-1], ["truth", "RUN", "--members", "8"], ["influence", "RUN", "--queries", "test[:2]"]):
        assert told(capsys, tmp_path / "link", command) == (0, "")
    assert (tmp_path / "link").is_symlink() and (run / "truth.parquet").exists() and (run / "report.html").exists()


def test_hard_links_are_replaced_and_not_written_through(run, tmp_path, capsys):
    """Whoever sends a run can make its files other names of the user's own."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("report.html", "metrics.json", "truth.parquet", "keep.txt", "neighbours.parquet", "aum_values.csv"):
        (run / name).unlink(missing_ok=True)
        os.link(mine, run / name)
    for command in (
        ["report", "RUN"],
        ["evaluate", "RUN"],
        ["truth", "RUN", "--members", "8"],
        ["prune", "RUN"],
        ["suspects", "RUN"],
        ["export", "RUN"],
    ):
        told(capsys, run, command)
    (run / ".lock").unlink()
    os.link(mine, run / ".lock")
    told(capsys, run, ["report", "RUN"])
    assert mine.read_text() == "mine"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["config.json", "summary.json", "fingerprint.json", "origin.json", "scores.parquet", "a new file"])
def test_a_run_of_a_later_version_is_read_or_refused(run, capsys, name):
    if name == "scores.parquet":
        frame = pl.read_parquet(run / name)
        frame.with_columns(a_later_column=pl.lit(1.0)).write_parquet(run / name)
    elif name == "a new file":
        (run / "later.json").write_text('{"what": "nobody knows"}')
    elif name == "fingerprint.json":
        change(run / name, format=2)
    else:
        change(run / name, later={"a": [1]})
    for command in (*READING, ["truth", "RUN", "--members", "8"]):
        status, said = told(capsys, run, command)
        if name == "config.json":
            assert "later" in said if status else command[0] != "truth"
        if name == "fingerprint.json" and command[0] == "truth":
            assert status == 2 and "another version" in said


TEXTS = {
    "huge": '{"epochs": ' + "9" * 10_000 + "}",
    "infinite": '{"epochs": 1e999}',
    "deep": "[" * 200_000,
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "a mark": "\ufeff{}",
    "nothing": "",
    "twice": '{"data": "digits", "data": "/etc/passwd"}',
    "half a pair": '{"data": "\\ud800"}',
}


@pytest.mark.parametrize("name", ["config.json", "summary.json", "fingerprint.json", "origin.json"])
@pytest.mark.parametrize("text", TEXTS)
def test_json_that_no_program_writes(run, capsys, name, text):
    (run / name).write_text(TEXTS[text], encoding="utf-8")
    for command in (["show", "RUN"], ["suspects", "RUN"], ["report", "RUN"], ["runs", "ABOVE"], ["truth", "RUN", "--members", "8"]):
        told(capsys, run, command)


def test_a_run_that_cannot_be_written_makes_pages_elsewhere(run, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        shutil.copytree(run, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for command, name in ((["report"], "page.html"), (["plot"], "figure.png"), (["export"], "aum.csv")):
            assert told(capsys, disk / "run", [command[0], "RUN", "--out", str(tmp_path / name)]) == (0, "")
            assert (tmp_path / name).stat().st_size
        for command in (["suspects", "RUN", "--csv"], ["show", "RUN", "--json"], ["rare", "RUN"], ["easy", "RUN"]):
            assert told(capsys, disk / "run", command)[0] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_tables_of_another_run_are_not_mixed(run, scored, tmp_path, capsys):
    """Files swapped between two commands: of other examples they are refused by name."""
    other = unseen.score(
        str(scored.parent / "d.csv"), out=tmp_path / "other", hidden=(16,), epochs=2, estimator="turnover", limit=60, seed=1
    ).path
    for name in ("unseen_probabilities.parquet", "truth.parquet"):
        main(["suspects", str(other)])
        main(["truth", str(other), "--members", "8"])
        taken = shutil.copytree(run, tmp_path / f"with {name}")
        shutil.copy(other / name, taken / name)
        for command in (["suspects", "RUN"], ["report", "RUN"], ["evaluate", "RUN"]):
            told(capsys, taken, command)
        status, said = told(capsys, taken, ["evaluate" if name == "truth.parquet" else "suspects", "RUN"])
        assert status == 2 and name.partition(".")[0] in said, (name, status, said)


def test_ids_in_two_forms_of_unicode_are_two_ids(tmp_path):
    """é in one letter, and e with a mark: each decision is on the one that it names, byte for byte."""
    one, two = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    (tmp_path / "d.csv").write_text(f"name,x,label\n{one},1,a\n{two},2,b\nz,3,a\n", encoding="utf-8")
    (tmp_path / "decisions.csv").write_text(f"id,decision,label\n{two},drop,\n", encoding="utf-8")
    apply(tmp_path / "decisions.csv", tmp_path / "d.csv", tmp_path / "out.csv", id_column="name")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == f"name,x,label\n{one},1,a\nz,3,a\n"
    (tmp_path / "other.csv").write_text(f"name,x,label\n{one},1,a\nz,3,b\n", encoding="utf-8")
    with pytest.raises(unseen.UnseenError, match="no example"):
        apply(tmp_path / "decisions.csv", tmp_path / "other.csv", tmp_path / "out2.csv", id_column="name")
