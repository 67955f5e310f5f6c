"""The site's pages that are made from the code, and formulas as MathML, which browsers draw without a script or a network."""

import contextlib
import html
import io
import os
import re
import shlex
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import griffe
import polars as pl
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

import unseen
from unseen.cli import COMMANDS, main
from unseen.recipes.claims import markdown, read_claims
from unseen.runs.columns import COLUMNS, Column

ROOT = Path(__file__).parents[1]
COMPLETION = """## Completion

The shell completes commands and flags once this was done, and a new shell was opened:

```bash
unseen --tyro-write-completion bash ~/.local/share/bash-completion/completions/unseen   # bash
unseen --tyro-write-completion zsh ~/.zfunc/_unseen                                     # zsh, with fpath+=~/.zfunc
```

Tables fit the width of the terminal. Where it is narrow they leave out columns; `--json` has them all, and so have the files of the run."""
ROOMS = sorted(
    path.parent.name for path in (ROOT / "src" / "unseen").glob("*/__init__.py") if path.parent.name not in ("commands", "integrations")
)
sys.path.insert(0, str(ROOT / "tests" / "reliability"))
from bad_inputs import BAD, prepare  # noqa: E402


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/command-line.md": command_line,
        "reference/run-folder.md": run_folder,
        "reference/python.md": python,
        "reference/bad-inputs.md": bad_inputs,
        "results.md": results,
        "log.md": lambda: (ROOT / "LOG.md").read_text(encoding="utf-8"),
        "changes.md": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for path, page in pages.items():
        files.append(File.generated(config, path, content=page()))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Replace TeX by MathML."""
    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda tex: _mathml(tex[1], "inline"), content, flags=re.DOTALL)
    return re.sub(r'(<div class="arithmatex">)\s*\\\[(.*?)\\\]', lambda tex: tex[1] + _mathml(tex[2], "block"), content, flags=re.DOTALL)


def _mathml(tex: str, display: str) -> str:
    return convert(html.unescape(tex).strip(), display=display)


class Formulas(griffe.Extension):
    """Docstrings as the site's parser knows them: TeX between dollars, and Example is called Examples."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of each module, class and function."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", dollars(obj.docstring.value), flags=re.MULTILINE)


def dollars(text: str) -> str:
    """``:math:`x` `` to ``$x$``, and blocks ``.. math::`` to ``$$``."""
    text = re.sub(r":math:`(.*?)`", r"$\1$", text, flags=re.DOTALL)
    return re.sub(r"\.\. math::(?: *(.+)|\n((?:    .+\n?)+))", lambda tex: f"\n$$\n{(tex[1] or tex[2]).strip()}\n$$\n", text)


def command_line() -> str:
    """Every command's help."""
    parts = ["# Command line", _fenced(_help()), COMPLETION]
    for name in COMMANDS:
        parts += [f"## unseen {name}", _fenced(_help(name))]
    return "\n\n".join(parts)


def _help(*command: str) -> str:
    os.environ["COLUMNS"] = "86"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([*command, "--help"])
    return out.getvalue()


def _fenced(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def run_folder() -> str:
    """The files of a run, and the columns of every table: of runs made now, and what ``columns.py`` knows beside them."""
    about = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tables = _tables(Path(folder))
    parts = ["# A run folder", about, "The columns of every table, from runs made when this page was built:"]
    for name, frame in tables.items():
        parts += [f"## {name}.parquet", _columns({column: str(kind) for column, kind in frame.schema.items()})]
    known = {column for frame in tables.values() for column in frame.columns}
    rest = {name: "" for name in COLUMNS if name not in known}
    return "\n\n".join([*parts, "## Other columns", "Of several seeds or members, of lists, and of an ordinary network:", _columns(rest)])


def _tables(folder: Path) -> dict[str, pl.DataFrame]:
    small = ["--hidden", "32", "--epochs", "2", "--limit", "200", "--null-fraction", "0.1", "--random-labels", "0.05"]
    run = str(folder / "run")
    commands = [
        ["score", "digits", *small, "--save-every", "1", "--watch", "wrong", "right", "--out", run],
        ["suspects", run],
        ["dynamics", run],
        ["gradients", run],
        ["influence", run, "--queries", "test[:2]"],
        ["truth", run, "--members", "8"],
    ]
    for command in commands:
        if main(command):
            raise RuntimeError(f"unseen {shlex.join(command)} failed")
    return {path.stem: pl.read_parquet(path) for path in sorted(Path(run).glob("*.parquet"))}


def _columns(kinds: dict[str, str]) -> str:
    rows = ["| column | type | meaning | unit | range | a high value says |", "|---|---|---|---|---|---|"]
    for name, kind in kinds.items():
        column = COLUMNS.get(name) or Column(f"out-of-sample probability of class {name.removeprefix('p_')}", "probability", "0..1")
        cells = (f"`{name}`", kind, column.formula, column.unit, column.range, column.direction)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def python() -> str:
    """What ``import unseen`` gives, and what each room offers beside it, as its ``__init__`` says."""
    public = {getattr(unseen, name) for name in unseen.__all__}
    parts = ["# Python", "What `import unseen` gives, as `unseen.NAME`, by the room that it is of."]
    rooms = {name: import_module(f"unseen.{name}") for name in ROOMS}
    for room, module in rooms.items():
        if found := [one for one in _documented(module) if one in public]:
            parts += [f"## {room}", *(_entry(one) for one in found)]
    parts += ["# Rooms", "What else each room offers to the others, as `unseen.ROOM.NAME`. It may change between versions."]
    for room, module in rooms.items():
        if found := [one for one in _documented(module) if one not in public]:
            parts += [f"## unseen.{room}", (module.__doc__ or "").strip(), *(_entry(one) for one in found)]
    return "\n\n".join(parts)


def _documented(module: Any) -> list[Any]:
    """Functions and classes of ours that a room offers, in the order of their names."""
    values = [value for _, value in sorted(vars(module).items()) if callable(value) and hasattr(value, "__qualname__")]
    return [value for value in values if value.__module__.startswith("unseen.") and value.__doc__]


def _entry(value: Any) -> str:
    return f"::: {value.__module__}.{value.__qualname__}"


def bad_inputs() -> str:
    """What the command line says to them: each was given to it when the page was built."""
    about = "Each of these was given to `unseen` when this page was built. It exits with status 2."
    parts = ["# Bad inputs", f"{about} The same list is a test."]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(Path(folder))
        os.chdir(folder)
        try:
            for command, inputs in BAD.items():
                parts += [f"## unseen {command}", *(_fenced(f"$ unseen {line}\n{_refusal(line)}") for line in inputs)]
        finally:
            os.chdir(before)
    return "\n\n".join(parts)


def _refusal(command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(shlex.split(command))
    if status != 2:
        raise RuntimeError(f"unseen {command} was not refused: status {status}")
    return said.getvalue().strip()


def results() -> str:
    """The tables and figures that commands have written to docs/results."""
    folder = ROOT / "docs" / "results"
    parts = ["# Results", "Tables and figures as the commands wrote them; what they mean, and what did not work, is in the [log](log.md)."]
    parts += [f"- [{path.stem}](results/{path.name})" for path in sorted(folder.glob("*.md"))]
    for path in sorted(folder.glob("*.png")):
        parts += [f"## {path.stem}", f"![{path.stem}](results/{path.name})"]
    for scale in sorted(path for path in folder.iterdir() if path.is_dir()):
        claims = read_claims(scale)
        for name in dict.fromkeys(claim.figure for claim in claims):
            table = markdown(claim for claim in claims if claim.figure == name)
            parts += [f"## {name}, at scale {scale.name}", f"![{name}](results/{scale.name}/{name}/figure.png)", table]
    return "\n\n".join(parts)
