"""What each command prints at 80 and at 140 columns: it fits, no number is broken, and the last line names a command that exists."""

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unseen
from unseen.cli import COMMANDS, main
from unseen.commands.help import TASKS, command_help, overview
from unseen.commands.table import GAP, MOST_LINES, table_lines, text_width

RECIPE = "--hidden 32 --epochs 2 --limit 200 --estimator turnover --save-every 1 --watch wrong right --random-labels 0.05"
COMMAND_LINES = {
    "score": f"score digits {RECIPE} --out RUN",
    "data": "data PHOTOS --test-fraction 0",
    "show": "show RUN --top 5",
    "plot": "plot RUN",
    "report": "report RUN",
    "suspects": "suspects RUN --top 5",
    "rare": "rare RUN --top 5",
    "easy": "easy RUN --top 5",
    "duplicates": "duplicates RUN --near 0.8 --top 5",
    "leaks": "leaks RUN --near 0.8 --top 5",
    "outliers": "outliers RUN",
    "selfcheck": "selfcheck digits --hidden 32 --epochs 2 --limit 300 --members 4 --out CHECK",
    "prune": "prune RUN",
    "apply": "apply RUN/keep.txt RUN FOLDER/kept.txt",
    "export": "export RUN",
    "audit": "audit digits --hidden 32",
    "truth": "truth RUN --members 8",
    "influence": "influence RUN --queries test[:2]",
    "language": "language NOTES --epochs 1 --width 16",
    "evaluate": "evaluate RUN",
    "privacy": "privacy RUN --members 4 --held-out-targets 2",
    "risky": "risky RUN",
    "dynamics": "dynamics RUN",
    "gradients": "gradients RUN --examples 20",
    "recipe": "recipe fig2 --scale tiny --out FOLDER/results --runs FOLDER/recipes",
    "runs": "runs FOLDER",
    "download": "download mnist",
}
"""One for each command, in an order in which they can run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with pictures of long names, and a text; runs come into it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("o")
    for kind in ("sparrows and other small birds", "cats"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(6):
            name = f"holiday in the mountains, edited by the photographer, {number:03}.png"
            Image.new("RGB", (4, 4), (40 * number, 0, len(kind))).save(folder / "photos" / kind / name)
    (folder / "notes.txt").write_text(
        "".join(f"this is the long sentence number {n}, which goes on and on for a while\n" for n in range(9))
    )
    return folder


def printed(command, folder, capsys):
    names = {"RUN": "run", "PHOTOS": "photos", "NOTES": "notes.txt", "CHECK": "check"}
    line = COMMAND_LINES[command]
    for word, name in names.items():
        line = line.replace(word, str(folder / name))
    capsys.readouterr()
    assert main(shlex.split(line.replace("FOLDER", str(folder)))) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_every_command_fits_80_columns_and_says_what_is_next(command, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("unseen.data.download", lambda name, _: folder / name)
    lines = printed(command, folder, capsys).splitlines()
    wide = [line for line in lines if text_width(line) > 80 and not names_a_path(line, folder)]
    assert not wide and "\x1b" not in "".join(lines)
    assert lines[-1].startswith("Next: unseen ") and shlex.split(lines[-1])[2] in COMMANDS
    assert not re.search(r"\bNone\b|\bTrue\b|\bFalse\b|PosixPath|Namespace", "\n".join(lines))


def names_a_path(line, folder):
    """A path is printed whole, however long: it is copied from there."""
    return str(folder) in line


def test_each_command_has_a_case():
    assert set(COMMAND_LINES) == set(COMMANDS)


def test_a_wider_terminal_has_more_columns(folder, capsys, monkeypatch):
    if not (folder / "run").exists():
        printed("score", folder, capsys)
    headings = {}
    for width in ("60", "80", "140"):
        monkeypatch.setenv("COLUMNS", width)
        headings[width] = printed("show", folder, capsys).splitlines()[:2]
        assert all(text_width(line) <= int(width) for line in headings[width])
    words = {width: " ".join(lines).split() for width, lines in headings.items()}
    assert len(words["60"]) < len(words["80"]) < len(words["140"])


def test_labels_are_the_names_of_their_classes(capsys, tmp_path):
    lines = [f"{number % 7},{number % 5},{('sparrow', 'cat')[number % 2]}" for number in range(60)]
    (tmp_path / "animals.csv").write_text("\n".join(["a,b,species", *lines]))
    run = unseen.score(tmp_path / "animals.csv", target="species", hidden=(8,), epochs=1, members=4, out=tmp_path / "run")
    assert main(["show", str(run.path), "--top", "3"]) == 0
    assert re.search(r"sparrow|cat", capsys.readouterr().out)


CELLS = st.one_of(st.none(), st.booleans(), st.floats(-1e9, 1e9), st.integers(-(10**6), 10**6), st.text(max_size=200))


@given(st.integers(1, 4), st.data(), st.integers(40, 160))
@settings(max_examples=150, deadline=None)
def test_tables_fit_any_width(rows, data, width):
    names = data.draw(st.lists(st.sampled_from(["id", "text", "given_label", "loss_unseen", "file", "n"]), min_size=1, unique=True))
    table = [{name: data.draw(CELLS) for name in names} for _ in range(rows)]
    lines = table_lines(table, width)
    assert all(text_width(line) <= width for line in lines)
    rule = next(number for number, line in enumerate(lines) if set(line) == {"─"})
    assert rule <= MOST_LINES and len(lines) - rule - 1 <= rows * MOST_LINES


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
@settings(deadline=None)
def test_numbers_are_whole_and_their_points_below_each_other(values):
    lines = table_lines([{"a_name": "x" * 90, "n": value} for value in values], 40)
    cells = [line.split(GAP)[-1].strip() for line in lines if re.search(r"\d$", line)]
    assert len(cells) == len(values)
    for cell, value in zip(cells, values, strict=True):
        assert abs(float(cell) - value) <= 1e-3 * max(abs(value) for value in values) + 1e-9


def test_the_end_of_a_file_name_is_kept():
    lines = table_lines([{"id": "a" * 200 + " 0042.png", "n": 1.0}, {"id": "b.png", "n": 2.0}], 40)
    assert "0042.png" in "".join(line.split(GAP)[0].strip() for line in lines) and "…" in "".join(lines)


def test_the_overview_is_short_and_has_every_command(capsys):
    for asked in ([], ["--help"], ["-h"]):
        assert main(asked) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 40 and all(len(line) <= 80 for line in lines)
        assert {line.split()[0] for line in lines if line.startswith("  ")} == set(COMMANDS)
    assert {name for names in TASKS.values() for name in names} <= set(COMMANDS)
    assert "  new         says so" in overview({"new": type("New", (), {"__doc__": "says so"})})


def test_the_version(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"unseen {unseen.__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("scroe", "score"), ("suspect", "suspects"), ("duplicate", "duplicates")])
def test_a_near_miss_of_a_command_is_suggested(typed, meant, capsys):
    assert main([typed, "digits"]) == 2
    assert f"Did you mean `unseen {meant}`?" in capsys.readouterr().err


def test_a_near_miss_of_a_flag_and_of_a_column_is_suggested(folder, capsys):
    with pytest.raises(SystemExit):
        main(["score", "digits", "--epoch", "3"])
    assert "--epochs" in capsys.readouterr().err
    if (folder / "run").exists():
        assert main(["show", str(folder / "run"), "--sort", "memorisation"]) == 2
        assert "Did you mean 'memorization'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_grouped_and_speaks_no_python(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = command_help(command, COMMANDS[command])
    assert all(len(line) <= 80 for line in text.splitlines())
    assert not re.search(r"\bNone\b|\bSTR\b|\bINT\b|default: \)|\(default: False|``|\{None\}", text)
    if command in ("score", "selfcheck"):
        groups = re.findall(r"^(\w+):", text, flags=re.MULTILINE)
        assert groups == ["Flags", "Data", "Output", "Network", "Training", "Members", "Masks", "Noise", "Measuring"]


def test_help_has_every_flag_that_is_parsed():
    import tyro

    for name, command in COMMANDS.items():
        text = command_help(name, command)
        _, unknown = tyro.cli(
            command,
            args=[*("x" for _ in re.findall(r"^  [A-Z_]+\b", text, flags=re.MULTILINE))],
            return_unknown_args=True,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        assert not unknown
