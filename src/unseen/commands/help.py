"""The help: what there is to do, by task, and each command's flags in groups, with the words of their fields."""

import ast
import difflib
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from unseen.commands.table import screen_width

TASKS = {
    "Score a data set": {
        "score": "train once, and score every training example",
        "data": "what would be read, and what not; nothing is trained",
        "audit": "what the two halves of a network share",
        "download": "fetch mnist, fashion-mnist or cifar10",
        "runs": "the runs below a folder",
    },
    "Look at a run": {
        "report": "one HTML page, to look at the examples and to decide",
        "show": "the scores as a table, highest first",
        "plot": "the long tail as a figure",
    },
    "Clean a data set": {
        "suspects": "labels that are probably wrong",
        "rare": "examples that are hard to predict, but right",
        "easy": "the easiest examples",
        "duplicates": "what is there twice in the training set",
        "leaks": "test examples that are in the training set too",
        "outliers": "examples that are far from all others",
        "apply": "a cleaned copy of the data, by your decisions",
        "prune": "choose a share of the examples to keep",
        "export": "the scores in the file format of another tool",
    },
    "Judge the scores": {
        "selfcheck": "plant wrong labels: are they found?",
        "truth": "retrain without examples: what the scores should say",
        "evaluate": "compare every score with known errors and with truth",
    },
    "Study memorization": {
        "influence": "which training examples help or hurt a prediction",
        "dynamics": "loss and accuracy of subsets, epoch by epoch",
        "gradients": "whose gradients agree, and who drives a step",
        "recipe": "the figures of the paper, and their claims",
        "language": "the documents that a language model knows by heart",
        "privacy": "who could tell that a record was trained on",
        "risky": "the records at risk",
    },
}
"""The commands by what they are for, with a line each."""
KINDS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class Flag(NamedTuple):
    """A flag as its help shows it."""

    name: str
    value: str
    about: str
    is_positional: bool


def overview(commands: Mapping[str, Any]) -> str:
    """The commands by task, a line each.

    Args:
        commands: dataclasses by name; a sentence of their docstring says what each does.
    """
    listed = {name for entries in TASKS.values() for name in entries}
    more = {name: _brief(command) for name, command in commands.items() if name not in listed}
    lines = ["What would your network say about each training example had it never seen it?"]
    for task, entries in (TASKS | ({"More": more} if more else {})).items():
        lines += [f"\n{task}", *(f"  {name:<11} {brief}" for name, brief in entries.items() if name in commands)]
    return "\n".join([*lines, "\nBegin with `unseen score digits`. `unseen COMMAND --help` explains a command."])


def _brief(command: Any) -> str:
    return textwrap.shorten(inspect.cleandoc(command.__doc__).split(". ")[0], 64, placeholder=" …")


def command_help(name: str, command: Any) -> str:
    """A command's sentence, its arguments, and its flags in groups.

    Args:
        name: of the command.
        command: a dataclass whose fields are its flags; fields that are dataclasses are groups of flags.
    """
    groups = list(_groups(command))
    positional = [flag for _, flags in groups for flag in flags if flag.is_positional]
    lines = [f"unseen {name} {''.join(f'{flag.value} ' for flag in positional)}[FLAGS]", "", *_filled(inspect.cleandoc(command.__doc__))]
    for title, flags in [("", positional), *((title, [flag for flag in flags if not flag.is_positional]) for title, flags in groups)]:
        if flags:
            lines += ["", *_filled(title), *(line for flag in flags for line in _flag_lines(flag))]
    return "\n".join(lines)


def _filled(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text.replace("``", "`"), min(screen_width(), 100) - 1, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _flag_lines(flag: Flag) -> list[str]:
    shown = f"  {flag.name} {flag.value}".rstrip() if not flag.is_positional else f"  {flag.value}"
    about = _filled(flag.about, " " * 26)
    if len(shown) < 25 and about:
        return [shown.ljust(26) + about[0].lstrip(), *about[1:]]
    return [*textwrap.wrap(shown, min(screen_width(), 100) - 1, subsequent_indent="      "), *about]


def _groups(command: Any) -> Iterator[tuple[str, list[Flag]]]:
    """The command's own flags, then those of each group, with what the group is."""
    yield "Flags:", [*_flags(command), Flag("--help", "", "show this and stop", False)]
    for part in fields(command):
        kind = get_type_hints(command)[part.name]
        if is_dataclass(kind):
            yield f"{part.name.capitalize()}: {_sentence(kind)}", _flags(kind)


def _sentence(kind: Any) -> str:
    said = inspect.cleandoc(kind.__doc__).split("\n\n")[0]
    return said[0].lower() + said[1:]


def _flags(kind: Any) -> list[Flag]:
    plain = get_type_hints(kind)
    hints = get_type_hints(kind, include_extras=True)
    own = [part for part in fields(kind) if not is_dataclass(plain[part.name])]
    return [_flag(part, plain[part.name], hints[part.name], _words(kind)[part.name]) for part in own]


def _flag(part: "Field[Any]", hint: Any, full: Any, about: str) -> Flag:
    is_positional = bool(getattr(full, "__metadata__", ()))  # only Positional annotates a field
    default = part.default
    value = _value(hint)
    if is_positional:
        value = part.name.upper() if default is MISSING else f"[{part.name.upper()}]"
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    is_told = default is not MISSING and default not in (None, "") and default is not False and "default" not in about
    name = f"--{'no-' if default is True else ''}{part.name.replace('_', '-')}"
    said = f"without {about}" if default is True else about
    return Flag(name, value, f"{said} (default: {default})" if is_told and default is not True else said, is_positional)


def _value(hint: Any) -> str:
    """What is written behind a flag: N, X, TEXT, PATH or the choices."""
    if hint is bool:
        return ""
    if get_origin(hint) in (Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not type(None)]
        return "True|False" if arms == [bool] else "|".join(map(_value, arms))
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    if get_origin(hint) is tuple:
        return f"{_value(get_args(hint)[0])} …"
    return KINDS[hint]


@cache
def _words(kind: Any) -> dict[str, str]:
    """The docstring below each field, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for line, below in pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[line.target.id] = " ".join(str(below.value.value).split())  # type: ignore[union-attr]
    return found


def nearest_command(name: str, commands: Mapping[str, Any]) -> str:
    """A sentence for a command that is not there."""
    found = difflib.get_close_matches(name, commands, 1, cutoff=0.5)
    meant = f" Did you mean `unseen {found[0]}`?" if found else ""
    return f"There is no command {name!r}.{meant} `unseen --help` lists all commands."
