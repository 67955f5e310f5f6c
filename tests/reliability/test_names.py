"""Names that other tools stumble over, and pictures that are none: a line, or the name as it stands."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import unseen
from unseen.cli import main
from unseen.data.decoding import FORMATS

SMALL = ["--hidden", "16", "--epochs", "1", "--estimator", "turnover"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged pictures


def photos(folder, classes=("a", "b"), count=6, suffix="png", **options):
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{number}.{suffix}", **options)
    return folder


def said(command, capsys):
    status = main([str(word) for word in command])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unseen")]
    return status, lines


def test_dollars_and_braces_in_names_are_no_formulas(tmp_path, capsys):
    folder = photos(tmp_path / "d", ("$x_{", "$\\frac", "a_b^"), count=10)
    assert main(["score", str(folder), *SMALL, "--random-labels", "0.1", "--out", str(tmp_path / "run")]) == 0
    for command in (
        ["plot"],
        ["dynamics", "--subset", "$x_{=class:$x_{"],
        ["dynamics", "--subset", "class:$x_{", "class:a_b^"],
        ["report"],
    ):
        status, lines = said([command[0], tmp_path / "run", *command[1:]], capsys)
        assert status == 0 or lines[0].startswith("unseen: '$x_{=class"), lines


@pytest.mark.parametrize("where", ["file", "folder"])
def test_names_that_are_not_utf8(tmp_path, capsys, where):
    folder = photos(tmp_path / "d")
    name = os.fsdecode(os.fsencode(folder) + (b"/a/\xff\xfe.png" if where == "file" else b"/\xff"))
    try:
        shutil.copy(folder / "a" / "0.png", name) if where == "file" else shutil.copytree(folder / "a", name)
    except OSError:
        pytest.skip("this disk has no such names")
    status, lines = said(["score", folder, *SMALL, "--out", tmp_path / "run"], capsys)
    assert status == 2 and "not UTF-8" in lines[0] and len(lines) == 1
    (tmp_path / "decisions.csv").write_text("id,decision,label\na/0.png,drop,\n")
    status, lines = said(["apply", tmp_path / "decisions.csv", folder, tmp_path / "clean"], capsys)
    assert status == 0 and len([path for path in (tmp_path / "clean").rglob("*") if path.is_file()]) == (12 if where == "file" else 17)


def test_a_postscript_file_named_png_starts_no_program(tmp_path, capsys, monkeypatch):
    folder = photos(tmp_path / "d")
    Image.new("RGB", (8, 8)).save(folder / "a" / "0.png", format="EPS")
    called = []
    monkeypatch.setattr("subprocess.Popen", lambda *words, **_: called.append(words))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *words, **_: called.append(words))
    status, lines = said(["score", folder, *SMALL, "--out", tmp_path / "run"], capsys)
    assert status == 2 and "a/0.png" in lines[0] and not called
    assert not {"EPS", "WMF", "IPTC", "FPX", "MIC"} & set(FORMATS)


@pytest.mark.parametrize("kind", ["AVIF", "BLP", "ICNS", "WEBP", "TIFF", "GIF", "JPEG2000", "PNG", "JPEG", "DDS", "ICO"])
def test_damaged_pictures_are_a_line(tmp_path, kind):
    """Every length, and bytes that are turned over: read, or refused by name."""
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    folder = photos(tmp_path / "d")
    picture = Image.new("P" if kind == "BLP" else "RGB", (16, 16))
    picture.save(tmp_path / "whole", format=kind)
    content, place = (tmp_path / "whole").read_bytes(), folder / "a" / "0.png"
    random = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(content[: len(content) * number // 20] if number < 20 else content)
        if number >= 20:
            for at in random.integers(0, len(data), 3):
                data[at] ^= int(random.integers(1, 256))
        place.write_bytes(data)
        try:
            unseen.load(folder, test_fraction=0).inputs.sum()
        except unseen.UnseenError as error:
            assert "0.png" in str(error) or "shape" in str(error)
