"""However a command ends: one line, and a status of the documented table."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import unseen
from campaign import SOAK
from unseen.cli import STATUS, main

UNSEEN = [sys.executable, "-W", "ignore", "-m", "unseen.cli"]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unseen.score("digits", limit=60, hidden=(16,), epochs=1, estimator="turnover", out=tmp_path_factory.mktemp("run") / "run").path


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("command", [["show"], ["suspects", "--csv"], ["export"], ["runs"]])
def test_the_output_is_full(run, command):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    place = run.parent if command[0] == "runs" else run
    with open("/dev/full", "w") as full:
        done = subprocess.run([*UNSEEN, command[0], str(place), *command[1:]], stdout=full, stderr=subprocess.PIPE, text=True)
    *_, line = lines(done.stderr)  # the list's warnings go there too
    assert done.returncode == 3 and line.startswith("unseen: the output cannot be written")


@pytest.mark.parametrize("command", ["show", "export"])
def test_the_output_is_closed(run, command):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *UNSEEN, command, str(run)], stderr=subprocess.PIPE, text=True)
    (line,) = lines(done.stderr)
    assert done.returncode == 3 and "the output is closed" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *UNSEEN, command, str(run)])
    assert done.returncode == 3


@pytest.mark.parametrize(
    "error", [MemoryError(), MemoryError("Unable to allocate 4 TiB"), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")]
)
def test_memory_runs_out(run, monkeypatch, capsys, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("unseen.commands.terminal.print_top", fails)
    assert main(["show", str(run)]) == 4
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith("unseen: there is not enough memory") and "ulimit -v" in line


def test_other_errors_are_not_hidden(run, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("a defect")

    monkeypatch.setattr("unseen.commands.terminal.print_top", fails)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["show", str(run)])


def test_a_table_that_is_too_large_under_a_limit(tmp_path):
    """ulimit -v: arrays that do not fit are said in one line."""
    script = "import resource, sys; import unseen.scoring, sklearn.datasets; from unseen.cli import main\n"
    script += "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    script += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2); sys.exit(main(sys.argv[1:]))"
    command = ["score", "digits", "--hidden", "4000000", "--estimator", "turnover", "--out", str(tmp_path / "run")]
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, *command], capture_output=True, text=True)
    assert done.returncode == 4 and len(lines(done.stderr)) == 1, done.stderr


@pytest.mark.parametrize("mib", [200, 500, 1000])
def test_a_limit_under_which_nothing_can_be_imported(run, mib):
    """Below it the libraries end the process themselves, with pages of their own words."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {mib * 1024} && exec "$@"', "sh", *UNSEEN, "show", str(run)], capture_output=True, text=True
    )
    (line,) = lines(done.stderr)
    assert done.returncode == 4 and "ulimit -v" in line


@pytest.mark.parametrize(("name", "status"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_is_one_line(tmp_path, name, status):
    words = [
        "score",
        "digits",
        "--limit",
        "60",
        "--hidden",
        "16",
        "--epochs",
        "100000",
        "--estimator",
        "turnover",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen([*UNSEEN, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("run/parts/history-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate()
    assert process.returncode == status and "Traceback" not in said and "unseen: stopped." in said


def test_nohup_is_left_alone(run):
    script = "import signal, unseen.cli as c; c.main = lambda: print(signal.getsignal(signal.SIGHUP)) or 0; c.entry()"
    command = f"trap '' HUP; {sys.executable} -c '{script}'"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "SIG_IGN" in done.stdout or done.stdout.strip() == "1", done


def test_the_table_of_statuses_is_documented():
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "cluster.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert rows == {str(status): said for status, said in STATUS.items()}
    assert os.name == "nt" or STATUS.keys() >= {128 + signal.SIGHUP, 128 + signal.SIGINT, 128 + signal.SIGTERM}


def children_of(process):
    """Numbers of the processes that a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not SOAK or not Path("/proc/self/stat").exists(), reason="two processes take ten seconds: only by make soak")
def test_processes_whose_parent_dies_end_too(tmp_path):
    """kill -9 of the first: nothing goes on computing, and --resume goes on with the run."""
    options = ["score", "digits", "--limit", "200", "--hidden", "32", "--estimator", "turnover", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*UNSEEN, *options, "--epochs", "3000", "--devices", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("run/parts/history-*")):
        assert process.poll() is None
        time.sleep(0.05)
    below = children_of(process.pid)
    assert len(below) >= 2
    process.kill()
    process.wait()
    last = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in below):
        assert time.monotonic() < last, "a process outlives the one that started it"
        time.sleep(0.1)
    assert not list(tmp_path.rglob("*.tmp"))
