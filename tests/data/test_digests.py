"""Fingerprints of data: nothing that changes them goes unseen, and the difference says what."""

import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unseen
from unseen.data.digests import WAYS_ON, content, difference, digest, refuse_other
from unseen.data.images import Lazy


def stored(fingerprint):
    return json.loads(json.dumps(fingerprint))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("x,label\n" + "".join(f"{number},{'ab'[number % 2]}\n" for number in range(100)))
    return path


def test_a_table_says_how_it_changed(table):
    old, text = stored(digest(table)), table.read_text()
    os.utime(table, (1, 1))
    assert difference(old, digest(table, old)) is None
    table.write_text(text + "7,a\n8,b\n")
    assert "2 lines were added at the end of d.csv" in difference(old, digest(table, old))
    table.write_text(text.replace("3,b\n", ""))
    assert "d.csv has 100 lines and had 101" not in difference(old, digest(table, old))
    table.write_text(text.replace("\n3,b\n", "\n"))
    assert "has 100 lines and had 101" in difference(old, digest(table, old))
    table.write_text(text.replace("\n3,b\n", "\n3,a\n"))
    assert "the content of d.csv changed" in difference(old, digest(table, old))
    with pytest.raises(unseen.UnseenError, match="is not what runs/x was made of") as refusal:
        refuse_other(old, digest(table), str(table), "runs/x")
    assert WAYS_ON in str(refusal.value) and "--force" in WAYS_ON
    refuse_other(None, digest(table), str(table), "runs/x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_a_file_is_the_same_only_if_its_bytes_are(tmp_path, before, after):
    (tmp_path / "f").write_bytes(before)
    old = stored(digest(tmp_path / "f"))
    (tmp_path / "f").write_bytes(after)
    told = difference(old, digest(tmp_path / "f", old))
    assert (told is None) == (before == after)
    if after.startswith(before) and after != before and before:
        assert "added at the end" in told or "goes on" in told


def test_a_folder_names_its_files(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    monkeypatch.setattr("unseen.data.digests.COARSE_NS", 0)
    old = stored(digest(folder))
    read = reads(monkeypatch)
    assert difference(old, digest(folder, old)) is None and not read  # by path, size and times
    os.utime(folder / "cat/1.png", (1, 1))
    assert difference(old, digest(folder, old)) is None and read == ["1.png"]
    (folder / "cat/1.png").write_bytes(b"CAT/1.png")
    os.utime(folder / "cat/1.png", ns=(old["files"]["cat/1.png"][1],) * 2)  # the size and the time of before
    assert "1 file was changed (cat/1.png)" in difference(old, digest(folder, old))
    (folder / "cat/1.png").write_bytes(b"cat/1.png")
    (folder / "cat/2.png").rename(folder / "dog/3.png")
    assert "cat/2.png to dog/3.png" in difference(old, digest(folder, old))
    (folder / "dog/3.png").rename(folder / "cat/2.png")
    (folder / "dog/2.png").unlink()
    (folder / "new.txt").write_text("n")
    told = difference(old, digest(folder, old))
    assert "1 file was added (new.txt)" in told and "1 file was removed (dog/2.png)" in told


def reads(monkeypatch):
    """A list that gets the name of each file of a folder that is read."""
    read, whole = [], unseen.data.digests._content_of
    monkeypatch.setattr("unseen.data.digests._content_of", lambda path, size: read.append(os.path.basename(path)) or whole(path, size))
    return read


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_clocks_that_jump_and_clocks_that_are_coarse(tmp_path, monkeypatch, hours):
    """A file that is as young as the fingerprint, or from its future, is read again: its times may be those of another content."""
    (tmp_path / "a").write_text("one")
    now = time.time_ns()
    monkeypatch.setattr("unseen.data.digests.time.time_ns", lambda: now + hours * 3600 * 10**9)
    old = stored(digest(tmp_path))
    read = reads(monkeypatch)
    assert difference(old, digest(tmp_path, old)) is None and read == ([] if hours > 0 else ["a"])
    time.sleep(0.02)  # a tick of the disk's clock
    for mtime in (1, os.stat(tmp_path / "a").st_mtime_ns, 2**62):  # older, equal, newer
        (tmp_path / "a").write_text("two")
        os.utime(tmp_path / "a", ns=(mtime, mtime))
        assert "1 file was changed (a)" in difference(old, digest(tmp_path, old))


@pytest.mark.parametrize("size", [0, 1, 5, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_the_content_of_a_file_in_a_folder_is_that_of_a_file(tmp_path, size):
    (tmp_path / "f").write_bytes(os.urandom(size))
    assert digest(tmp_path)["files"]["f"][3] == digest(tmp_path / "f")["content"]


def test_a_folder_that_holds_itself_and_pipes(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "itself").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "nothing").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "d" / "pipe")
    (tmp_path / "d" / "f").write_text("x")
    assert list(digest(tmp_path / "d")["files"]) == ["f"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(unseen.UnseenError, match="pipe"):
        digest(tmp_path / "pipe")


def test_examples(digits):
    old = stored(digest(digits))
    assert difference(old, digest(digits)) is None
    labels = digits.labels.clone()
    labels[5] = (labels[5] + 1) % 10
    told = difference(old, digest(replace(digits, labels=labels)))
    assert "labels changed, first in rows 0 to" in told and "examples by class changed" in told and "ids" not in told
    told = difference(old, digest(replace(digits, ids=["other", *digits.ids[1:]])))
    assert told.startswith("ids changed")
    inputs = digits.inputs.clone()
    inputs[-1, 0, 3, 3] += 1
    assert difference(old, digest(replace(digits, inputs=inputs))).startswith("inputs changed")
    assert "1 rows were removed" in difference(old, digest(digits.select(range(len(digits) - 1))))


def test_arrays_and_names():
    x, y = np.zeros((5000, 3), np.float32), np.arange(5000) % 2
    old = stored(digest((x, y)))
    assert difference(old, digest((torch.from_numpy(x), torch.from_numpy(y)))) is None
    changed = y.copy()
    changed[4500] = 1 - changed[4500]
    assert "array 1 changed, first in rows 4,096 to 4,999" in difference(old, digest((x, changed)))
    assert "array 0 has type float64" in difference(old, digest((x.astype(float), y)))
    assert "rows 4999" in difference(old, digest((x[:-1], y[:-1])))
    assert difference(stored(digest((["a", "b"],))), digest((["a", "c"],)))
    assert difference(digest("hf:a/b"), digest("hf:a/c")) == "it was hf:a/b and is hf:a/c"
    assert difference(digest("digits"), digest((x, y))) == "it was a name and is arrays"


def test_content_is_what_a_network_learns_from(digits):
    """Pictures that are read batch by batch are the same content as in memory; ids and class names are none of it."""
    lazy = replace(digits, inputs=Lazy(lambda places: digits.inputs[places], torch.arange(len(digits)), digits.shape))
    assert content(digits) == content(lazy) == content(replace(digits, ids=digits.ids[::-1], classes=digits.classes[::-1]))
    others = [digits.joined(), digits.select(torch.arange(len(digits)).flip(0)), replace(digits, mean=digits.mean + 1)]
    others += [
        replace(digits, labels=digits.labels.roll(1)),
        replace(digits, index=digits.index + 1),
        replace(digits, inputs=digits.inputs.float()),
    ]
    others.append(replace(digits, inputs=torch.cat([digits.inputs[:-1], 255 - digits.inputs[-1:]])))
    assert len({content(each) for each in (digits, *others)}) == 1 + len(others)
