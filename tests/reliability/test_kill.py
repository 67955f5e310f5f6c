"""kill -9 at random moments of every command that takes long: what goes on afterwards gives the tables of a run that nobody stopped.

Bit for bit: every column and the metadata of every Parquet file, every tensor, every JSON but for the seconds it took, every byte of the
rest.
"""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors import safe_open

from campaign import KILLS, SEEDS, SOAK
from forks import Server
from unseen.hashing import uniform

SIZE = ["--limit", "1000", "--hidden", "256", "--epochs", "12"] if SOAK else ["--limit", "200", "--hidden", "32", "--epochs", "4"]
SMALL = [*SIZE, "--batch-size", "32", "--random-labels", "0.1"]
TURNOVER = [
    "score",
    "digits",
    *SMALL,
    "--estimator",
    "turnover",
    "--seeds",
    "2",
    "--average",
    "2",
    "--save-every",
    "2",
    "--null-fraction",
    "0.1",
]
TURNOVER += ["--watch", "wrong", "right", "--gradients-every", "2", "--gradient-examples", "20"]
MEMBERS = ["score", "digits", *SMALL, "--estimator", "members", "--members", "16"]
FIGURE = "fig2" if SOAK else "early"
SECONDS = ("training_seconds", "measuring_seconds", "plain_seconds", "cost")

COMMANDS = {
    "score": [*TURNOVER, "--resume", "--out", "run"],
    "score members": [*MEMBERS, "--resume", "--out", "run"],
    "truth": ["truth", "run", "--members", "200" if SOAK else "32"],
    "privacy": ["privacy", "run", "--members", "64" if SOAK else "16", "--held-out-targets", "4"],
    "leave one out": ["truth", "run", "--leave-one-out", "0,3,5"],
    "influence": ["influence", "run", "--queries", "test[:20]"],
    "influence gradient": ["influence", "run", "--queries", "test[:20]", "--method", "gradient"],
    "report": ["report", "run"],
    "recipe": ["recipe", FIGURE, "--scale", "tiny", "--out", "run/figures", "--runs", "run/runs"],
}
TRIES, LANDED = 4, 0.75
"""Tries to kill a command before its end, and the share of kills that must come before it."""
FROM_NOTHING = ("score", "score members", "recipe")
"""Commands that make the run; the others are given a finished one."""


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    assert server.run(*TURNOVER, "--out", path).status == 0
    return path


def contents(folder: Path) -> dict[str, object]:
    """All that a folder's files say, by path. The file of the lock is empty and stays."""
    return {
        path.relative_to(folder).as_posix(): _said(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def _said(path: Path) -> object:
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        columns = {name: frame[name].to_physical().to_list() for name in frame.columns}
        return {name: repr(values) for name, values in columns.items()}, frame.schema, pl.read_parquet_metadata(path)
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            notes = {name: note for name, note in (file.metadata() or {}).items() if name != "seconds"}
            return {name: (str((tensor := file.get_tensor(name)).dtype), tensor.shape, _bits(tensor)) for name in file.keys()}, notes  # noqa: SIM118
    if path.name == "summary.json":
        return {name: value for name, value in json.loads(path.read_bytes()).items() if name not in SECONDS}
    if path.name == "runs.json":
        return [{name: value for name, value in row.items() if name not in SECONDS} for row in json.loads(path.read_bytes())]
    return path.read_bytes()


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else str(tensor.item()).encode()


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_goes_on_to_the_same_bits(server, finished, tmp_path, name, seed):
    kills = max(1, KILLS // 3) if name == "recipe" and not SOAK else KILLS
    whole, seconds = _uninterrupted(server, finished, tmp_path / "whole" / "run", name)
    moments = uniform(torch.arange(kills), seed, "kill", name).tolist()
    stopped = 0
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number) / "run"
        killed, seconds = _killed(server, finished, folder, name, moment, seconds)
        stopped += killed
        gone_on = server.run(*_command(name, folder))
        assert gone_on.status == 0, f"killed after {moment:.3f} of {seconds:.2f} s: {gone_on.words}"
        assert differences(contents(folder), whole) == [], f"killed after {moment:.3f} of {seconds:.2f} s"
        shutil.rmtree(folder)
    _note(name, seed, kills, stopped, seconds)
    assert stopped >= LANDED * kills, "too few kills came before the end"


def _killed(server: Server, finished: Path, folder: Path, name: str, moment: float, seconds: float) -> tuple[bool, float]:
    """Kill the command after a share of its seconds: whether that came before its end, and its seconds by now.

    A command that was faster than before is tried again: the first one met a busy moment of the machine, or read what is now in memory.
    """
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        ended = server.run(*_command(name, _new(finished, folder, name)), after=moment * seconds)
        if ended.status == -9:
            return True, seconds
        assert ended.status == 0, ended.words
        seconds = min(seconds, ended.seconds)
    return False, seconds


def _uninterrupted(server: Server, finished: Path, folder: Path, name: str) -> tuple[dict[str, object], float]:
    ended = server.run(*_command(name, _new(finished, folder, name)))
    assert ended.status == 0, ended.words
    return contents(folder), ended.seconds


def _new(finished: Path, folder: Path, name: str) -> Path:
    if name not in FROM_NOTHING:
        shutil.copytree(finished, folder)
    return folder


def _command(name: str, folder: Path) -> list[str]:
    return [str(folder) + word[3:] if word.partition("/")[0] == "run" else word for word in COMMANDS[name]]


def _note(name: str, seed: int, kills: int, stopped: int, seconds: float) -> None:
    """A line for LOG.md, where a file is named."""
    if path := os.environ.get("UNSEEN_KILL_NOTES"):
        with open(path, "a", encoding="utf-8") as file:
            print(f"{name}, seed {seed}: {kills} kills, {stopped} before the end of {seconds:.2f} s", file=file)
