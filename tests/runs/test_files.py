"""Files of a run: whole or nothing, whoever was killed, whatever was planted; and regular files only."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

import unseen
from unseen.cli import main
from unseen.runs import files, free_memory, open_regular, whole, whole_folder, writing_out
from unseen.runs.files import is_leftover

UnseenError = unseen.UnseenError
SMALL = {"limit": 60, "hidden": (16,), "epochs": 1, "estimator": "turnover"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return unseen.score("digits", out=tmp_path_factory.mktemp("runs") / "run", **SMALL).path


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return unseen.open_run(tmp_path / "run")


def special(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


def test_temporary_names_are_new_and_hidden(tmp_path):
    with whole(tmp_path / "a") as first, whole(tmp_path / "a") as second:
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 2 and all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.tmp", name) and is_leftover(name) for name in names)
        first.write_text("1")
        second.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "1"


def test_what_is_put_in_the_place_of_a_temporary_file_is_neither_written_nor_published(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(UnseenError, match="something else"), whole(tmp_path / "out") as temporary:
        (planted,) = tmp_path.glob(".out.*")
        planted.unlink()
        planted.symlink_to(tmp_path / "precious")
        temporary.write_text("ours")
    assert (tmp_path / "precious").read_text() == "mine" and not os.path.lexists(tmp_path / "out")


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    script = "import time, sys; from pathlib import Path; from unseen.runs.files import whole\n"
    script += "with whole(Path(sys.argv[1])) as path: path.write_text('half'); print('ready', flush=True); time.sleep(60)"
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a")], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        assert all(process.stdout.readline() for process in processes)
        assert len(list(tmp_path.iterdir())) == 2
        processes[0].kill()
        processes[0].wait()
        (tmp_path / f".a.{os.getpid()}.tmp").write_text("of an older version")
        (tmp_path / ".a.0123456789abcdef.tmp").symlink_to("/etc/passwd")
        with whole(tmp_path / "a") as path:
            path.write_text("whole")
        assert len(list(tmp_path.iterdir())) == 2 and (tmp_path / "a").read_text() == "whole"
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_stop_at_any_line_leaves_nothing(tmp_path, kind):
    """A KeyboardInterrupt as each line of the writer begins, one after the other, until one comes too late."""

    def stopped_at(wanted):
        passed = 0

        def trace(frame, event, _):
            nonlocal passed
            if frame.f_code.co_filename != files.__file__:
                return None
            passed += event == "line"
            if passed == wanted and event == "line":
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            if kind == "file":
                with whole(tmp_path / "table") as path:
                    path.write_bytes(b"new")
            else:
                with whole_folder(tmp_path / f"folder-{wanted}") as path:
                    (path / "table").write_bytes(b"new")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    stops = 0
    while stopped_at(stops + 1):
        stops += 1
        assert not list(tmp_path.glob(".*")), f"stopped at line {stops}"
    assert stops > 20


def test_the_next_command_clears_what_a_killed_one_left_anywhere_in_the_run(run):
    (run.path / "weights" / "truth-0").mkdir(exist_ok=True, parents=True)
    below = "weights/truth-0/.000000.safetensors.0123456789abcdef.tmp"
    for name in (below, ".report.html.0123456789abcdef.tmp", "weights/.seed-0.safetensors.0123456789abcdef.tmp", "weights/.mine.tmp"):
        (run.path / name).write_text("half")
    assert main(["plot", str(run.path)]) == 0
    assert [path.name for path in run.path.rglob("*.tmp")] == [".mine.tmp"]


def test_a_folder_is_whole_or_nothing(tmp_path):
    (tmp_path / ".new.0123456789abcdef.tmp").mkdir()
    (tmp_path / ".new.0123456789abcdef.tmp" / "x").write_text("half")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new") as folder:
        (folder / "y").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnseenError, match="there by now"), whole_folder(tmp_path / "new") as folder:
        (tmp_path / "new").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


WRITER = """
import sys
from pathlib import Path
from unseen.runs.files import whole
for _ in range(int(sys.argv[2])):
    with whole(Path(sys.argv[1])) as path:
        with path.open("w") as file:
            for _ in range(64):
                file.write(sys.argv[3] * 512)
                file.flush()
"""


def test_two_writers_that_are_both_process_1(tmp_path):
    """In two process namespaces, as in two containers with one disk: what a reader sees is whole, in 200 rounds."""
    space = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no process namespaces here")
    place = tmp_path / "report.html"
    command = [*space, sys.executable, "-c", WRITER, str(place), "200"]
    writers = [subprocess.Popen([*command, letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if place.exists():
            text = place.read_text()
            assert len(text) == 64 * 512 and len(set(text)) == 1
            seen |= set(text)
    assert [writer.wait() for writer in writers] == [0, 0] and seen == {"a", "b"}
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("command", ["report", "plot", "prune", "export", "evaluate", "dynamics", "influence", "suspects"])
def test_every_command_that_writes_into_a_run_takes_its_lock(run, capsys, command):
    before = sorted(path.name for path in run.path.iterdir())
    holder = "import sys, time; from unseen.runs import open_run\nwith open_run(sys.argv[1]).alone(): print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", holder, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline()
        status = main([command, str(run.path)])
    finally:
        process.kill()
        process.communicate()
    said = capsys.readouterr()
    assert "Another process is writing" in " ".join((said.err + said.out).split())
    assert status == (0 if command == "suspects" else 2)  # the list is shown without nearest examples, and says so
    assert sorted(path.name for path in run.path.iterdir() if path.name != ".lock") == [name for name in before if name != ".lock"]


def test_a_file_elsewhere_needs_no_lock_and_leaves_none(run, tmp_path):
    with run.alone():
        assert main(["export", str(run.path), "--out", str(tmp_path / "issues.csv")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["issues.csv", "run"]


def test_a_run_that_is_sent_to_another_process_goes_with_the_lock(run, tmp_path):
    import pickle

    script = "import pickle, sys; pickle.load(sys.stdin.buffer).write_json('parts.json', {})"

    def child(sent):
        return subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True)

    with run.alone():
        assert child(pickle.dumps(run)).returncode == 0
    free = pickle.dumps(run)
    with run.alone():
        assert b"Another process is writing" in child(free).stderr


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_only_regular_files_are_read_and_nothing_hangs(tmp_path, kind):
    special(tmp_path / "x", kind)
    start = time.monotonic()
    with pytest.raises(OSError, match="not a file|not followed"):
        open_regular(tmp_path / "x")
    with pytest.raises(OSError, match="not a file"):
        open_regular(tmp_path / "x", follow=True)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("show", "scores.parquet"),
        ("show", "config.json"),
        ("suspects", "summary.json"),
        ("suspects", "neighbours.parquet"),
        ("influence", "weights/seed-0.safetensors"),
        ("truth", ".lock"),
    ],
)
def test_a_file_of_a_run_that_is_none_is_refused_at_once(run, tmp_path, capsys, command, name, kind):
    path = run.path / name
    if path.exists():
        path.rename(tmp_path / "away")
    if kind == "link":
        path.symlink_to(tmp_path / "away")
    else:
        special(path, kind)
    if (name, kind) == ("neighbours.parquet", "link"):
        (tmp_path / "away").write_bytes((run.path / "scores.parquet").read_bytes())
    options = ["--members", "4"] if command == "truth" else ["--queries", "test[:2]"] if command == "influence" else []
    assert main([command, str(run.path), *options]) == 2 or (name, command) == ("config.json", "show")
    err = capsys.readouterr().err
    assert (name in err and "Traceback" not in err) or (name, command) == ("config.json", "show")


def test_pipes_as_decisions_and_pictures(tmp_path, capsys):
    os.mkfifo(tmp_path / "d.csv")
    os.mkfifo(tmp_path / "keep.txt")
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(tmp_path / "photos" / name)
    for decisions in ("d.csv", "keep.txt"):
        assert main(["apply", str(tmp_path / decisions), str(tmp_path / "photos"), str(tmp_path / "clean")]) == 2
        assert "a pipe" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]) == 2
    assert "1.png" in capsys.readouterr().err


def test_the_path_of_a_run_may_be_a_text(run):
    assert unseen.Run(str(run.path)).scores.equals(run.scores)


def test_what_out_accepts(run, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.csv")
    own = ["config.json", "summary.json", "scores.parquet", "keep.txt", ".lock", "CONFIG.JSON", "weights/seed-0.safetensors"]
    for place in [*(run.path / name for name in own), tmp_path / "pipe.csv", tmp_path]:
        for command in ("export", "report"):
            assert main([command, str(run.path), "--out", str(place)]) == 2
            assert "--out" in capsys.readouterr().err
    for place in (tmp_path / "new.csv", tmp_path / "new.csv", run.path / "mine.csv"):
        assert main(["export", str(run.path), "--out", str(place)]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot replace a device anyway")
def test_a_device_is_not_replaced(run, tmp_path):
    device = tmp_path / "null"
    if subprocess.run(["mknod", str(device), "c", "1", "3"], capture_output=True).returncode:
        pytest.skip("devices cannot be made here")
    for command in (["report"], ["export"]):
        assert main([*command, str(run.path), "--out", str(device)]) == 2
    assert device.is_char_device()
    with pytest.raises(UnseenError, match="a device"), writing_out(device):
        pass


def test_rows_are_counted_before_memory_is_taken(run, tmp_path, capsys, monkeypatch):
    """A small file of many rows: runs of equal values cost nothing on the disk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array([1], pa.int64()).take(pa.array([0] * 2**20))
    chunk = pa.table(dict.fromkeys(("index", "x", "label"), column))
    with pq.ParquetWriter(tmp_path / "bomb.parquet", chunk.schema, use_dictionary=True, compression="zstd") as writer:
        for _ in range(64):
            writer.write_table(chunk)
    monkeypatch.setattr("unseen.runs.memory.free_memory", lambda: 2**30)
    shutil.copy(tmp_path / "bomb.parquet", run.path / "scores.parquet")
    (tmp_path / "d.csv").write_text("id,decision,label\n")
    bomb = tmp_path / "bomb.parquet"
    applied = ["apply", tmp_path / "d.csv", bomb, tmp_path / "c.parquet"]
    for words, gib in ((["show", run.path], 1.5), (["score", bomb, "--out", tmp_path / "new"], 3.0), (applied, 1.5)):
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert f"{64 * 2**20:,} rows, which take {gib} GiB" in said and "1.0 GiB are free" in said
    monkeypatch.undo()
    assert free_memory() > 2**20
