"""No result of other data: every command that loads a run's data again compares them with what the run was made of."""

import os

import numpy as np
import polars as pl
import pytest
import torch

import unseen
from unseen.cli import main
from unseen.runs import Run

OPTIONS = ["--hidden", "16", "--epochs", "2", "--estimator", "turnover"]
COMMANDS = {
    "score": ["score", "data.csv", *OPTIONS, "--out", "run"],
    "truth": ["truth", "run", "--members", "16"],
    "influence": ["influence", "run", "--queries", "test[:2]"],
    "gradients": ["gradients", "run"],
    "prune": ["prune", "run", "--curve", "--seeds", "1"],
}


def table(rows: int = 80, seed: int = 0) -> pl.DataFrame:
    x = np.random.default_rng(seed).normal(size=(rows, 4))
    return pl.DataFrame({f"x{column}": x[:, column] for column in range(4)} | {"label": np.where(x[:, 0] > 0, "yes", "no")})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().write_csv("data.csv")
    assert main(COMMANDS["score"]) == 0
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_was_replaced_is_refused(here, capsys, command):
    table(seed=1).write_csv("data.csv")
    assert main(COMMANDS[command]) == 2
    said = capsys.readouterr().err
    assert "data.csv is not what" in said and "--force" in said and "another --out" in said and "put them back" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_data_pass_also_when_they_were_touched(here, command):
    os.utime("data.csv", (1, 1))
    assert main(COMMANDS[command]) == 0


def test_what_changed_is_said(here, capsys):
    pl.concat([table(), table(10, seed=2)]).write_csv("data.csv")
    assert main(COMMANDS["score"]) == 2
    assert "10 lines were added at the end of data.csv" in capsys.readouterr().err
    assert main([*COMMANDS["score"], "--force"]) == 0
    assert len(unseen.open_run("run").examples) == 90


def test_a_stopped_run_does_not_go_on_with_other_data(here, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_tensors", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["score", "data.csv", *OPTIONS, "--out", "stopped"]) == 130
    table(seed=1).write_csv("data.csv")
    assert main(["score", "data.csv", *OPTIONS, "--out", "stopped", "--resume"]) == 2
    assert "is not what" in capsys.readouterr().err


def test_another_folder_has_another_table(here, monkeypatch):
    other = here / "elsewhere"
    other.mkdir()
    table(seed=3).write_csv(other / "data.csv")
    monkeypatch.chdir(other)
    assert main(["truth", str(here / "run"), "--members", "16"]) == 0  # of the run's own table
    labels = unseen.open_run(here / "run").table("truth")["given_label"]
    assert labels.equals(unseen.open_run(here / "run").scores["given_label"])


def test_lists_go_on_without_neighbours_and_say_why(here, capsys):
    table(seed=1).write_csv("data.csv")
    assert main(["suspects", "run"]) == 0
    assert "is not what" in capsys.readouterr().out


def test_arrays_and_folders(tmp_path):
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    run = unseen.score((x, y), hidden=(16,), epochs=1, estimator="turnover", out=tmp_path / "arrays")
    with pytest.raises(unseen.UnseenError, match="was made of|is not what"):
        unseen.truth(run, members=16, data=(x + 1, y))
    from PIL import Image

    for number in range(30):
        folder = tmp_path / "pictures" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 8 * number, np.uint8)).save(folder / f"{number}.png")
    options = {"hidden": (16,), "epochs": 1, "estimator": "turnover", "out": tmp_path / "folder"}
    unseen.score(str(tmp_path / "pictures"), **options)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "pictures" / "a" / "0.png")
    with pytest.raises(unseen.UnseenError, match=r"0\.png"):
        unseen.score(str(tmp_path / "pictures"), **options)
