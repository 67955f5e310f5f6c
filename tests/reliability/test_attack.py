"""A run, data set, name, id or text of an attacker executes nothing, writes nothing outside its folder, and shows as text."""

import ast
import html
import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import unseen
from unseen.cli import main
from unseen.commands.terminal import print_rows
from unseen.page.packing import unpack

SOURCES = sorted((Path(unseen.__file__).parent).rglob("*.py"))
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "marshal.loads",
    "torch.load",
    "yaml.load",
    "os.system",
    "os.popen",
}
FORBIDDEN |= {
    "dill.load",
    "joblib.load",
    "subprocess.run",
    "subprocess.call",
    "subprocess.Popen",
    "torch.hub.load",
    "shutil.unpack_archive",
}
NASTY = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'><b>",
    "a\u2028b",
    "\u202egnp.exe",
    "[red]x[/red]",
    "[link=http://x]y[/link]",
]
NASTY += ["\x1b]0;title\x07", "\x1b[31mred", "=cmd|' /C calc'!A0", "{{ 7*7 }}", "a\rb", "../../etc/passwd", "x" * 300]


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def _loads_tensors_alone(call: ast.Call) -> bool:
    """torch.load(..., weights_only=True), whose unpickler builds tensors and nothing else; the weights come with an installed package."""
    return ast.unparse(call.func) == "torch.load" and any(
        word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_that_executes_data_is_called(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    called = {ast.unparse(node.func) for node in calls if not _loads_tensors_alone(node)}
    assert not called & FORBIDDEN
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib|yaml)\b", text, re.MULTILINE)
    assert "allow_pickle=True" not in text and "trust_remote_code" not in text


def test_a_pickle_in_an_npz_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", x=np.array([Bomb()] * 4, dtype=object), y=np.arange(4) % 2)
    with pytest.raises(unseen.UnseenError, match="Cannot read"):
        unseen.load(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(unseen.UnseenError, match="Cannot read"):
        unseen.load(tmp_path / "y.npz")
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_place_of_a_runs_files_is_not_opened(nasty, tmp_path, monkeypatch):
    import shutil

    monkeypatch.chdir(tmp_path)
    for file in ("scores.parquet", "weights/seed-0.safetensors", "summary.json", "config.json"):
        shutil.copytree(nasty, tmp_path / "run")
        (tmp_path / "run" / file).write_bytes(pickle.dumps(Bomb()))
        assert main(["influence" if "weights" in file else "report", "run"]) == 2
        shutil.rmtree(tmp_path / "run")
    assert not (tmp_path / "executed").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (40, 2**30)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as entry:
            entry.write(header.getvalue())
            entry.write(bytes(2**26))
        file.writestr("y.npy", b"")
    with pytest.raises(unseen.UnseenError, match="Cannot read"):
        unseen.load(tmp_path / "bomb.npz")


def test_a_picture_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (15, 15)).save(tmp_path / f"{name}.png")
    with pytest.raises(unseen.UnseenError, match="Cannot read the image"):
        unseen.load(tmp_path)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A run whose classes, ids and folder are an attacker's."""
    folder = tmp_path_factory.mktemp("attack")
    rows = [(index, f"{NASTY[index % len(NASTY)]}{index}", index % 7, (index * 5) % 11, NASTY[index % 5]) for index in range(140)]
    table = pl.DataFrame(rows, schema=["index", "name", "x", "y", "label"], orient="row")
    run = unseen.score(
        (table.select("x", "y").to_numpy(), table["label"].to_list()), hidden=(32,), epochs=2, out=folder / "run", estimator="turnover"
    )
    for name in ("examples", "scores"):
        frame = run.table(name)
        run.write_table(name, frame.join(table.select("index", id_="name"), on="index").with_columns(id="id_").drop("id_"))
    return run.path


def test_it_shows_as_text_in_the_report(nasty, tmp_path):
    assert main(["report", str(nasty), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and "\u2028" not in page and "\u202e" not in page
    assert "default-src 'none'" in html.unescape(page)
    (packed,) = re.findall(r">\s*([A-Za-z0-9+/=]{500,})\s*<", page)
    assert any("<script>" in name for name in unpack(packed)[1]["ids"])  # the page's script sets them as text


@pytest.mark.parametrize("command", [["show"], ["suspects"], ["rare"], ["easy"]])
def test_the_terminal_gets_no_commands(nasty, capsys, command):
    assert main([*command, str(nasty), "--top", "200"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out and "\r" not in out


def test_markup_is_text(capsys):
    print_rows([{"id": "[red]x[/red] [link=http://x]y[/link] \x1b[31m \u202e"}], title=None)
    out = capsys.readouterr().out
    assert "[red]x[/red] [link=http://x]y[/link]" in out and "\x1b" not in out and "\u202e" not in out


def test_an_error_message_gives_the_terminal_no_commands(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("x,label\x1b[31m\n1,a\n", encoding="utf-8")
    assert main(["score", str(tmp_path / "t.csv")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def _take(run):
    def take():
        with run.alone():
            pass

    return take


def test_links_inside_a_run_lead_nowhere(nasty, tmp_path):
    import shutil

    for link in ("weights", "parts"):
        shutil.copytree(nasty, tmp_path / "run")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious.safetensors").write_text("mine")
        (outside / "precious.parquet").write_text("mine")
        shutil.rmtree(tmp_path / "run" / link, ignore_errors=True)
        (tmp_path / "run" / link).symlink_to(outside)
        run = unseen.open_run(tmp_path / "run")
        for deed in (run.clear, run.remove_parts if link == "parts" else run.clear, _take(run)):
            with pytest.raises(unseen.UnseenError, match="is a link"):
                deed()
        with pytest.raises(unseen.UnseenError, match="is a link"):
            run.write_json(f"{link}/cost-0.json", {})
        assert sorted(path.name for path in outside.iterdir()) == ["precious.parquet", "precious.safetensors"]
        shutil.rmtree(tmp_path / "run")
        shutil.rmtree(outside)


def test_files_that_are_links_are_replaced_not_followed(nasty, tmp_path):
    import os
    import shutil

    shutil.copytree(nasty, tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    names = [".lock", "report.html", "overview.png", "label_issues.csv", "keep.txt", "neighbours.parquet"]
    names += [f".{name}.{os.getpid()}.tmp" for name in ("report.html", "overview.png", "label_issues.csv", "keep.txt")]
    for name in names:
        (tmp_path / "run" / name).unlink(missing_ok=True)
        (tmp_path / "run" / name).symlink_to(precious)
    run = str(tmp_path / "run")
    for command in (["report", run], ["plot", run], ["export", run], ["prune", run]):
        main(command)
    assert main(["truth", run, "--members", "4"]) == 2  # .lock is a link
    assert precious.read_text() == "mine"
    run = unseen.open_run(run)
    run.clear()
    assert precious.read_text() == "mine"


def test_names_in_a_truth_do_not_lead_out(nasty, tmp_path):
    import shutil

    shutil.copytree(nasty, tmp_path / "run")
    facts = {"reliability": 0.5, "losses": "../../../etc", "seed": 0, "share": 0.7}
    (tmp_path / "run" / "truth.json").write_text(json.dumps(facts))
    with pytest.raises(unseen.UnseenError, match="no folder of this run"):
        unseen.open_run(tmp_path / "run").read_json("truth.json")
