"""A file of a run that is truncated, empty, foreign or gone is named by every command that reads it, and nobody sees a traceback."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout

import polars as pl
import pytest
import torch
from safetensors.torch import save

from campaign import SOAK
from unseen import Run
from unseen.cli import main
from unseen.hashing import uniform

SCORE = ["score", "digits", "--limit", "120", "--hidden", "32", "--epochs", "2", "--random-labels", "0.1", "--estimator", "turnover"]
SCORE += ["--save-every", "1", "--watch", "wrong", "right"]
COMMANDS = [
    [*SCORE, "--resume", "--out", "RUN"],
    ["show", "RUN"],
    ["plot", "RUN"],
    ["report", "RUN"],
    ["suspects", "RUN"],
    ["rare", "RUN", "--json"],
    ["prune", "RUN"],
    ["export", "RUN", "--format", "aum"],
    ["export", "RUN", "--format", "cartography"],
    ["export", "RUN", "--format", "cleanlab"],
    ["truth", "RUN", "--members", "8"],
    ["influence", "RUN", "--queries", "test[:2]"],
    ["influence", "RUN", "--queries", "test[:2]", "--method", "gradient"],
    ["evaluate", "RUN"],
    ["privacy", "RUN", "--members", "4", "--held-out-targets", "2"],
    ["risky", "RUN"],
    ["dynamics", "RUN"],
    ["gradients", "RUN", "--examples", "8"],
    ["apply", "DECISIONS", "RUN", "OUT"],
    ["runs", "ABOVE"],
]
HARMS = ("truncated", "empty", "noise", "foreign", "a folder")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run in which every command has left what it writes."""
    folder = tmp_path_factory.mktemp("healthy")
    for command in COMMANDS:
        assert tell(command, folder)[0] == 0, command
    return folder


def tell(command, folder):
    """Exit status and what was said to stderr."""
    (folder / "decisions.csv").write_text("id,decision,label\nrow/1,drop,\n", encoding="utf-8")
    out = folder / "out.csv"
    out.unlink(missing_ok=True)
    places = {"RUN": folder / "run", "ABOVE": folder, "DECISIONS": folder / "decisions.csv", "OUT": out}
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        status = main([str(places.get(word, word)) for word in command])
    return status, said.getvalue()


@pytest.fixture(scope="module")
def reads(healthy):
    """Which files of the run each command reads, but for those that it has written anew before, found by watching it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        seen, written = set(), set()
        patch.setattr(Run, "write_json", _watched(Run.write_json, "{}", written))
        for name, ending in (
            ("table", "{}.parquet"),
            ("files", "{}.parquet"),
            ("read_json", "{}"),
            ("read_tensors", "weights/{}.safetensors"),
        ):
            patch.setattr(Run, name, _watched(getattr(Run, name), ending, seen))
        for number, command in enumerate(COMMANDS):
            seen.clear()
            written.clear()
            tell(command, healthy)
            found[number] = sorted(file for file in seen - written if (healthy / "run" / file).exists())
    return found


def _watched(read, ending, seen):
    def watched(run, name, *values):
        seen.add(ending.format(name))
        return read(run, name, *values)

    return watched


def harm(path, how):
    content = path.read_bytes()
    if how == "a folder":
        path.unlink()
        path.mkdir()
        return
    foreign = io.BytesIO()
    pl.DataFrame({"colour": ["red", "blue"]}).write_parquet(foreign)
    others = {
        ".parquet": foreign.getvalue(),
        ".safetensors": save({"other": torch.zeros(2)}),
        ".json": b'{"colour": "red"}',
    }
    harmed = {"truncated": content[: len(content) // 2], "empty": b"", "noise": bytes(range(256)) * 4, "foreign": others[path.suffix]}
    path.write_bytes(harmed[how])


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda number: " ".join(COMMANDS[number][:2]))
def test_a_broken_file_is_named(healthy, reads, tmp_path, number):
    command = COMMANDS[number]
    assert reads[number], "the command reads nothing"
    for place, file in enumerate(reads[number]):
        chosen = HARMS if SOAK else [HARMS[int(uniform(torch.tensor(place), number, "harm") * len(HARMS))]]
        for how in chosen:
            folder = tmp_path / f"{place}-{how}"
            shutil.copytree(healthy, folder)
            harm(folder / "run" / file, how)
            status, said = tell(command, folder)
            assert status == 2 and file in said and said.startswith("unseen: "), (command, file, how, status, said)
            shutil.rmtree(folder)


@pytest.mark.parametrize("estimator", ["turnover", "members"])
def test_a_broken_file_of_a_stopped_run_is_named(tmp_path, monkeypatch, estimator):
    options = [*SCORE[: SCORE.index("--estimator")], "--estimator", estimator, "--members", "8"]
    last, files = (
        "unseen.scoring.engine.write_tables",
        ["parts/history-0-000001-00000.parquet", "parts/final-0-00000.parquet", "parts/cost-0.json", "weights/sums-0-00000.safetensors"],
    )
    if estimator == "members":
        last, files = "unseen.scoring.estimators.members.measure_members", []

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(last, stop)
    assert tell([*options, "--out", "RUN"], tmp_path)[0] == 130
    monkeypatch.undo()
    files += [path.relative_to(tmp_path / "run").as_posix() for path in tmp_path.glob("run/weights/members-*")]
    assert files
    for file in files:
        for how in HARMS:
            shutil.copytree(tmp_path / "run", tmp_path / "copy" / "run")
            harm(tmp_path / "copy" / "run" / file, how)
            status, said = tell([*options, "--out", "RUN", "--resume"], tmp_path / "copy")
            assert status == 2 and file in said, (file, how, status, said)
            shutil.rmtree(tmp_path / "copy")
    assert tell([*options, "--out", "RUN", "--resume"], tmp_path)[0] == 0
