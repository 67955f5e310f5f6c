"""A stranger's run or table: what it names is read only inside its own folder, or after the user's consent."""

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import unseen
from unseen.cli import main
from unseen.runs import home_of, open_run, source_of

SMALL = ["--hidden", "16", "--epochs", "1", "--estimator", "turnover"]


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """A run of a table, made by its user in another folder than the current one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    table = "x,y,label\n" + "".join(f"{number % 7},{number % 5},{'ab'[number % 2]}\n" for number in range(60))
    (tmp_path / "work" / "d.csv").write_text(table)
    assert main(["score", "d.csv", *SMALL, "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "run"


def changed(run, **values):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))
    return run


def test_relative_paths_start_where_the_run_was_made(scored, tmp_path):
    (tmp_path / "elsewhere" / "d.csv").write_text("x,y,label\n1,1,a\n2,2,b\n")
    run = open_run(scored)
    assert home_of(run) == tmp_path / "work" and source_of(run) == str(tmp_path / "work" / "d.csv")
    assert main(["report", str(scored)]) == 0 and main(["truth", str(scored), "--members", "24"]) == 0
    assert "could not be loaded" not in (scored / "report.html").read_text()


def test_a_moved_run_stays_ones_own_and_a_copy_with_other_words_does_not(scored, tmp_path):
    shutil.move(scored, tmp_path / "moved")
    assert home_of(open_run(tmp_path / "moved")) == tmp_path / "work"
    changed(tmp_path / "moved", data="/etc/passwd")
    assert home_of(open_run(tmp_path / "moved")) is None


def test_a_stranger_s_run_reads_nothing_outside_of_its_folder(scored, tmp_path, capsys, monkeypatch):
    """A private table of matching shape, named by a run that somebody sent: no row of it gets into the page."""
    private = tmp_path / "work" / "d.csv"
    shutil.copy(private, tmp_path / "elsewhere" / "d.csv")
    for name in ("d.csv", str(private), "../work/d.csv"):
        run = changed(scored, data=name)
        (run / "origin.json").unlink(missing_ok=True)
        read = []
        monkeypatch.setattr("unseen.scoring.inputs.opened", lambda data, *_, read=read, **__: read.append(data))
        assert main(["report", str(run), "--out", str(tmp_path / "r.html")]) == 0
        assert "--trust-paths" in (tmp_path / "r.html").read_text() and not read
        for command in ("suspects", "prune"):
            assert main([command, str(run)]) == 0
        for command in ("truth", "influence", "gradients"):
            assert main([command, str(run)]) == 2 and "--trust-paths" in capsys.readouterr().err
        assert not read
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path / "elsewhere")
        (run / "neighbours.parquet").unlink(missing_ok=True)
        assert main(["suspects", str(run), "--trust-paths"]) == 0 and (run / "neighbours.parquet").exists()
        (run / "neighbours.parquet").unlink()
    shutil.copy(private, scored / "inside.csv")
    changed(scored, data="inside.csv")
    assert main(["suspects", str(scored)]) == 0 and (scored / "neighbours.parquet").exists()
    (scored / "inside.csv").unlink()
    (scored / "inside.csv").symlink_to(private)
    assert main(["truth", str(scored)]) == 2


def test_lists_and_scores_that_a_stranger_names_are_not_read(scored, tmp_path, capsys):
    (tmp_path / "secret.txt").write_text("password\n")
    (scored / "origin.json").unlink()
    for values in ({"watch": [f"index:@{tmp_path}/secret.txt"]}, {"train_on": "index:@secret.txt"}, {"scores": "/home/me/run"}):
        run = changed(scored, data="digits", **{"watch": [], "train_on": None, "scores": None} | values)
        assert main(["truth", str(run)]) == 2
        said = capsys.readouterr().err
        assert "--trust-paths" in said and "password" not in said


def test_the_hub_is_not_asked_for_a_stranger(scored, monkeypatch, capsys):
    import datasets

    def no_network(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(datasets, "load_dataset", no_network)
    run = changed(scored, data="hf:somebody/something")
    for command in ("suspects", "report", "plot", "prune", "rare", "easy"):
        assert main([command, str(run)]) == 0
    assert main(["truth", str(run)]) == 2


@pytest.mark.parametrize("features", ["timm:resnet18", "hf:owner/name", "hf:/home/me/weights", "pixels+timm:resnet18"])
def test_networks_that_a_stranger_names_are_not_fetched_and_not_read(scored, capsys, features):
    (scored / "origin.json").unlink()
    run = changed(scored, data="digits", features=features)
    assert main(["truth", str(run)]) == 2
    said = capsys.readouterr().err
    assert "--trust-paths" in said and features.rpartition("+")[2] in said


@pytest.mark.parametrize("place", ["/etc/hostname.png", "../x.png", "sub/../../x.png", "link/x.png"])
def test_a_picture_s_path_in_a_parquet_cell_leads_below_its_folder(tmp_path, place):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (4, 4), dtype=np.uint8)
    for folder in (tmp_path, tmp_path / "data"):
        Image.fromarray(pixels).save(folder / "x.png")
    kind = pl.Struct({"bytes": pl.Binary, "path": pl.String})

    def table(path):
        cells = [{"bytes": None, "path": path}] * 4
        frame = pl.DataFrame({"image": pl.Series(cells, dtype=kind), "label": ["a", "b", "a", "b"]})
        frame.write_parquet(tmp_path / "data" / "t.parquet")
        return tmp_path / "data" / "t.parquet"

    assert unseen.load(table("x.png"), test_fraction=0).shape == (1, 4, 4)
    with pytest.raises(unseen.UnseenError, match="leads out of"):
        unseen.load(table(place), test_fraction=0)


def test_without_a_home_runs_are_made_and_ask_for_consent(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    run = unseen.score("digits", limit=60, hidden=(16,), epochs=1, estimator="turnover", out=tmp_path / "run")
    assert not (run.path / "origin.json").exists() and home_of(run) is None
    assert main(["truth", str(run.path), "--members", "24"]) == 0  # a name is no path


def test_the_key_is_its_owners_alone(scored):
    path = os.path.join(os.environ["XDG_STATE_HOME"], "unseen", "key")
    assert os.stat(path).st_mode & 0o077 == 0 and os.path.getsize(path) == 32
    assert Path(path).read_bytes().hex() not in (scored / "origin.json").read_text()
