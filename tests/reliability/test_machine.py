"""What machines do: a full disk, a folder that cannot be written, Ctrl-C, SIGTERM, two writers, wrong clocks, other encodings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import unseen
from campaign import SOAK
from forks import Server
from unseen.cli import main
from unseen.curate.lists import judged

SMALL = ["--limit", "150", "--hidden", "64", "--epochs", "4", "--random-labels", "0.1"]
TURNOVER = ["score", "digits", *SMALL, "--estimator", "turnover"]
MEMBERS = ["score", "digits", *SMALL, "--estimator", "members", "--members", "8"]
TABLES = ("scores", "history", "unseen_probabilities", "examples")


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    assert server.run(*TURNOVER, "--out", path).status == 0
    return path


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs with these options; skipped where that is not permitted."""
    mounts = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounts)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounts.append(place)
        return place

    yield mount
    for place in mounts:
        subprocess.run(["umount", str(place)], check=True)


def same(one: Path, other: Path) -> bool:
    return all(pl.read_parquet(one / f"{name}.parquet").equals(pl.read_parquet(other / f"{name}.parquet")) for name in TABLES)


def refused(ended) -> str:
    """The one line of a refusal."""
    assert ended.status == 2 and "Traceback" not in ended.words, ended.words
    (line,) = [line for line in ended.words.splitlines() if line.startswith("unseen: ")]
    return line


@pytest.mark.parametrize("kib", [40, 80, 130, 180])
def test_a_full_disk(server, whole, mounted, kib):
    disk = mounted(f"size={kib}k")
    assert "The disk is full" in refused(server.run(*TURNOVER, "--out", disk / "run"))
    assert not list(disk.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    assert server.run(*TURNOVER, "--out", disk / "run", "--resume").status == 0
    assert same(disk / "run", whole)


@pytest.mark.parametrize(
    "command", [["truth", "RUN", "--members", "16"], ["influence", "RUN"], ["report", "RUN"], ["plot", "RUN"], ["export", "RUN"]]
)
def test_a_disk_that_fills_up_under_another_command(server, whole, mounted, command):
    disk = mounted("size=4m")
    shutil.copytree(whole, disk / "run")
    command = [str(disk / "run") if word == "RUN" else word for word in command]
    with (disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    assert "The disk is full" in refused(server.run(*command))
    assert not list(disk.rglob("*.tmp"))
    (disk / "ballast").unlink()
    assert server.run(*command).status == 0


@pytest.mark.parametrize("kib", [1, 8, 20])
def test_a_file_that_may_not_grow_that_large(server, whole, tmp_path, kib):
    """As a quota: the write itself fails, wherever it is, also without the rights to mount."""
    assert "could not be written" in refused(server.run(*TURNOVER, "--out", tmp_path / "run", limits={"RLIMIT_FSIZE": kib * 1024}))
    assert not list(tmp_path.rglob("*.tmp"))
    assert server.run(*TURNOVER, "--out", tmp_path / "run", "--resume").status == 0
    assert same(tmp_path / "run", whole)


WRITERS = [
    [*TURNOVER, "--resume"],
    ["truth", "RUN"],
    ["influence", "RUN"],
    ["report", "RUN"],
    ["plot", "RUN"],
    ["prune", "RUN"],
    ["export", "RUN"],
    ["evaluate", "RUN"],
    ["dynamics", "RUN"],
    ["recipe", "early", "--scale", "tiny", "--runs", "RUN/x", "--out", "RUN/y"],
]


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_a_folder_that_cannot_be_written(server, whole, mounted, tmp_path, command):
    disk = mounted("size=4m")
    shutil.copytree(whole, disk / "run")
    if command[0] == "score":
        (disk / "run" / "summary.json").unlink()  # a finished run is only read
        command = [*command, "--out", "RUN"]
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = refused(server.run(*(word.replace("RUN", str(disk / "run")) for word in command)))
    assert "could not be written" in line and str(disk / "run") in line


def test_a_finished_run_is_read_where_nothing_can_be_written(server, whole, mounted):
    disk = mounted("size=4m")
    shutil.copytree(whole, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for command in ([*TURNOVER, "--out", disk / "run"], ["show", disk / "run"], ["suspects", disk / "run"]):
        ended = server.run(*command)
        assert ended.status == 0 or ("could not be written" in refused(ended) and command[0] == "suspects")


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [TURNOVER, MEMBERS], ids=["turnover", "members"])
def test_a_stop_is_one_line_and_goes_on(server, tmp_path, stop, status, options):
    options = ["20000" if word == "4" else word for word in options]  # far longer than the wait below
    ended = server.run(*options, "--history-every", "500", "--out", tmp_path / "run", after=1.5, stop=stop)
    assert ended.status == status and "Traceback" not in ended.words
    assert ended.words.strip().splitlines()[-1].startswith("unseen: stopped.") and "--resume" in ended.words
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_stop_as_a_user_sees_it(tmp_path):
    """The real script, from a fresh interpreter, interrupted once its run is there."""
    command = [sys.executable, "-m", "unseen.cli", *TURNOVER, "--epochs", "100000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(tmp_path.glob("run/parts/history-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "Traceback" not in said and "goes on" in said


def test_a_reader_that_goes_away_is_no_error(whole):
    command = f"{sys.executable} -m unseen.cli show {whole} --top 100 --json | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("command", [[*TURNOVER, "--force"], ["truth", "RUN", "--members", "8"]], ids=["score", "truth"])
def test_the_second_writer_is_told(whole, tmp_path, capsys, command):
    shutil.copytree(whole, tmp_path / "run")
    command = [str(tmp_path / "run") if word == "RUN" else word for word in command]
    command += ["--out", str(tmp_path / "run")] if command[0] == "score" else []
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    with unseen.open_run(tmp_path / "run").alone():
        assert main(command) == 2
    assert "Another process is writing" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"} == before
    assert main(command) == 0


@pytest.mark.parametrize("shift", [-(10**9), 10**9], ids=["all files of 1994", "all files of the future"])
def test_clocks_do_not_matter(server, whole, tmp_path, shift):
    """Files whose times lie in the past, the future, or in disorder: what is done is told by what is there."""
    run = tmp_path / "run"
    stopped = server.run(*TURNOVER, "--out", run, after=0.6)
    for number, path in enumerate(sorted(run.rglob("*"))):
        moment = time.time() + shift - 1000 * number
        os.utime(path, (moment, moment))
    ended = server.run(*TURNOVER, "--out", run, "--resume")
    assert stopped.status in (0, -9) and ended.status == 0 and same(run, whole)


def test_a_table_that_is_written_again_is_read_again_whatever_its_time(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    run = unseen.open_run(tmp_path / "run")
    first = judged(run)
    moment = (run.path / "scores.parquet").stat()
    scores = run.scores
    run.write_table("scores", scores.with_columns(given_label=(pl.col("given_label") + 1) % 10))
    os.utime(run.path / "scores.parquet", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert not judged(run).equals(first)


NAMES = ("Größe", "İstanbul", "数字", "naïve\u0301", "🐈")


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, *([{"LC_ALL": "tr_TR.UTF-8"}, {"LC_ALL": "C.UTF-8"}] if SOAK else [])],
)
def test_other_locales_and_names_beyond_ascii(tmp_path, environment):
    ascii_only = environment["LC_ALL"] == "C"
    folder = tmp_path / ("plain" if ascii_only else "Größe 数字")
    folder.mkdir()
    rows = [f"{number},{NAMES[number % 5]}{number},{(number * 7) % 11},{number % 5},{NAMES[number % 5]}" for number in range(60)]
    (folder / "table.csv").write_text("index,name,x,y,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "decisions.csv").write_text(f"id,decision,label\nrow/0,relabel,{NAMES[1]}\n", encoding="utf-8")
    run, table = folder / "run", folder / "table.csv"
    frame = pl.read_csv(table).drop("name")
    frame.write_csv(table)
    score = ["score", table, "--hidden", "32", "--epochs", "2", "--estimator", "turnover", "--out", run]
    commands = (
        score,
        ["show", run],
        ["show", run, "--json"],
        ["suspects", run, "--csv"],
        ["report", run],
        ["runs", folder],
        ["export", run],
    )
    server = Server(tmp_path, **environment)
    try:
        for command in (*commands, ["apply", folder / "decisions.csv", table, folder / "clean.csv"]):
            ended = server.run(*command)
            assert ended.status == 0, (command, ended.words)
        if ascii_only:
            assert "LC_ALL=C.UTF-8" in refused(server.run("score", tmp_path / "Größe"))
    finally:
        server.close()
    assert unseen.open_run(run).classes == tuple(sorted(NAMES))
    assert f"0,0,0,{NAMES[1]}" in (folder / "clean.csv").read_text(encoding="utf-8")
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["classes"] == sorted(NAMES)
