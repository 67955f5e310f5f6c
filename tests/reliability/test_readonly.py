"""An installation, a home and caches that nobody can write: everything works but for what would be kept, and that is said."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unseen
from campaign import SOAK
from unseen.features import extract

SCRIPT = """
import contextlib, io, json, sys
from unseen.cli import main
told = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    told.append([command[0], status, err.getvalue()])
import unseen
print(json.dumps([unseen.__file__, told]))
"""
SCORE = ["score", "digits", "--limit", "200", "--epochs", "2"]


@pytest.fixture
def read_only(tmp_path):
    """Makes a folder with this content on a disk that cannot be written; skipped where that is not permitted."""
    mounts = []

    def make(name, content=None):
        place = tmp_path / name
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounts.append(place)
        if content is not None:
            shutil.copytree(content, place / content.name, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        return place

    yield make
    for place in mounts:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(not SOAK, reason="a fresh process and fifteen commands: only by make soak")
def test_a_read_only_installation_home_and_cache(read_only, tmp_path):
    site, home = read_only("site", Path(unseen.__file__).parent), read_only("home")
    (tmp_path / "work").mkdir()
    ours = ("UNSEEN_", "XDG_", "MPL", "TORCH", "HF_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    commands = [[*SCORE, "--features", "pixels", "--out", "head"], [*SCORE, "--estimator", "turnover", "--hidden", "16", "--out", "run"]]
    commands += [[*SCORE, "--estimator", "members", "--members", "8", "--hidden", "16", "--out", "members"]]
    commands += [[name, "run"] for name in ("show", "suspects", "report", "plot", "evaluate", "export", "duplicates", "outliers", "prune")]
    commands += [["influence", "run", "--queries", "test[:3]"], ["truth", "run", "--members", "8"], ["privacy", "run", "--members", "4"]]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, env=environment, cwd=tmp_path / "work"
    )
    assert done.returncode == 0, done.stderr
    place, told = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(site)
    assert [(name, status, said) for name, status, said in told if status or "Traceback" in said] == []
    assert (tmp_path / "work" / "run" / "report.html").exists()
    assert "UNSEEN_CACHE" in done.stderr + "".join(said for _, _, said in told)
    assert not any(home.iterdir())


def test_a_cache_that_cannot_be_written(digits):
    """What is computed is not lost, and it is said once."""
    some = digits.select(range(50))
    with pytest.warns(UserWarning, match="UNSEEN_CACHE") as told:
        found = extract(some, "pixels", cache=Path("/dev/null/cache"), chunk=20)
    assert len(told) == 3 and found.tensor().equal(extract(some, "pixels").tensor())


def test_a_user_without_a_home(monkeypatch, tmp_path):
    """As in a container that runs under a number of its own."""
    monkeypatch.delenv("UNSEEN_CACHE")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert unseen.score("digits", limit=200, features="pixels", out=tmp_path / "run").finished
