"""No result of other data: every command that loads a run's data again compares them with what the run was made of."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import unseen
from unseen.cli import main
from unseen.data import difference, digest, mark_of
from unseen.runs import Run
from unseen.scoring import noted_mark

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
    assert "is not what" in " ".join(capsys.readouterr().out.split())  # wherever its lines end


DECIDING = {"keep.txt": ["prune", "run"], "decisions.csv": ["suspects", "run"]}


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("source", ["data.csv", "run"])
def test_decisions_on_other_data_are_not_applied(here, capsys, name, source):
    """Row 17 of the table as it was is another example by now."""
    assert main(DECIDING[name]) == 0
    place = here / "run" / name
    if name == "decisions.csv":
        place = here / name  # as the page writes it
        place.write_text(f"id,decision,label,data\nrow/3,drop,,{noted_mark(Run(here / 'run'))}\n")
    assert main(["apply", str(place), source, "before.csv"]) == 0
    assert main(["apply", str(place), str(shutil.copy("data.csv", "copied.csv")), "copy.csv"]) == 0
    table(seed=1).write_csv("data.csv")
    if source == "run":
        assert main([*COMMANDS["score"], "--force"]) == 0
        assert not (here / "run" / "keep.txt").exists()
        if name == "keep.txt":
            return
    assert main(["apply", str(place), source, "after.csv"]) == 2
    said = capsys.readouterr().err
    assert ("is not what" in said or "decides on other data" in said) and not (here / "after.csv").exists()


def test_a_refusal_is_said_as_it_is(here, capsys):
    table(seed=1).write_csv("data.csv")
    assert main(COMMANDS["truth"]) == 2
    assert "no fingerprint" not in capsys.readouterr().err


def test_decisions_on_data_from_python_are_applied_to_a_file(here):
    """Whether the two are the same nobody knows."""
    examples = unseen.load("data.csv")
    run = unseen.score(examples, hidden=(16,), epochs=1, estimator="turnover", out="python")
    assert main(["prune", "python"]) == main(["apply", "python/keep.txt", "data.csv", "kept.csv"]) == 0
    Path("d.csv").write_text(f"id,decision,label,data\nrow/3,drop,,{noted_mark(run)}\n")
    assert main(["apply", "d.csv", "data.csv", "out.csv"]) == main(["apply", "d.csv", "python", "list.csv"]) == 0


def test_decisions_of_two_data_sets_are_refused(here, capsys):
    (here / "d.csv").write_text("id,decision,label,data\nrow/3,drop,,aa\nrow/4,drop,,bb\n")
    assert main(["apply", "d.csv", "data.csv", "out.csv"]) == 2
    assert "2 data sets" in capsys.readouterr().err


def test_a_force_leaves_no_chunk_of_the_data_before(here):
    """The same configuration, other rows: what was trained on the rows before has another name."""
    assert main(COMMANDS["truth"]) == 0
    table(seed=1).write_csv("data.csv")
    assert main([*COMMANDS["score"], "--force"]) == main(COMMANDS["truth"]) == 0
    found = unseen.open_run("run").table("truth")
    assert main([*COMMANDS["score"], "--out", "fresh"]) == main(["truth", "fresh", "--members", "16"]) == 0
    assert found.equals(unseen.open_run("fresh").table("truth"))


def test_what_a_system_makes_for_itself_changes_no_folder(tmp_path):
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "1.png").write_bytes(b"1")
    before = digest(tmp_path / "d")
    for name in (".DS_Store", "a/._1.png", "a/Thumbs.db", "__MACOSX/x.png"):
        (tmp_path / "d" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"x")
    assert difference(before, digest(tmp_path / "d")) is None
    (tmp_path / "moved").mkdir()
    shutil.copytree(tmp_path / "d", tmp_path / "moved" / "d")
    assert mark_of(digest(tmp_path / "moved" / "d")) == mark_of(before)


@pytest.mark.parametrize("command", ["score", "truth"])
def test_data_that_are_written_while_they_are_read_are_refused(here, capsys, monkeypatch, command):
    """Between the reading of the rows and of the fingerprint, or the reverse: a result of the one would be told to be of the other."""
    from unseen.scoring import inputs

    whole = inputs.load

    def load(*args, **named):
        found = whole(*args, **named)
        table(seed=1).write_csv("data.csv")
        return found

    monkeypatch.setattr(inputs, "load", load)
    assert main([*COMMANDS[command], *(["--force"] if command == "score" else [])]) == 2
    assert "was written while it was read" in capsys.readouterr().err


def test_scores_of_other_data_rank_nothing(here, capsys):
    """``--scores``: the order of the examples as they were is none of those that stand there now."""
    watch = ["score", "data.csv", *OPTIONS, "--watch", "easy:0.2", "--scores", "run"]
    assert main([*watch, "--out", "same"]) == main(["dynamics", "same", "--subset", "easy:0.3", "--scores", "run"]) == 0
    table(seed=1).write_csv("data.csv")
    assert main([*watch, "--out", "other"]) == 2
    assert "are of other data" in capsys.readouterr().err
    assert main([*COMMANDS["score"][:-1], "new"]) == 0
    assert main(["dynamics", "new", "--subset", "easy:0.3", "--scores", "run"]) == 2
    assert "data.csv changed" in capsys.readouterr().err


def test_a_run_inside_of_its_data_changes_them_not(tmp_path, monkeypatch):
    """``cd photos; unseen score .``: the run goes into ./runs, and its figures are no examples."""
    for number in range(40):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 6 * number, np.uint8)).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["score", ".", *OPTIONS]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["plot", str(run)]) == main(["report", str(run)]) == main(["truth", str(run), "--members", "16"]) == 0
    assert list(run.glob("*.png")) and main(["score", ".", *OPTIONS]) == 0
    assert len(unseen.load(".")) == 40


def test_arrays_and_folders(tmp_path):
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    run = unseen.score((x, y), hidden=(16,), epochs=1, estimator="turnover", out=tmp_path / "arrays")
    with pytest.raises(unseen.UnseenError, match="was made of|is not what"):
        unseen.truth(run, members=16, data=(x + 1, y))
    for number in range(30):
        folder = tmp_path / "pictures" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 8 * number, np.uint8)).save(folder / f"{number}.png")
    options = {"hidden": (16,), "epochs": 1, "estimator": "turnover", "out": tmp_path / "folder"}
    unseen.score(str(tmp_path / "pictures"), **options)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "pictures" / "a" / "0.png")
    with pytest.raises(unseen.UnseenError, match=r"0\.png"):
        unseen.score(str(tmp_path / "pictures"), **options)
