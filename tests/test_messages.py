"""Every message of an error or a warning names options that exist where it is shown, and has two lines at most."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

import unseen
from unseen.commands import COMMANDS
from unseen.config import Config

SOURCE = Path(unseen.__file__).parent
FOREIGN = {
    "use_reentrant": "torch",
    "batch_first": "torch",
    "pretrained": "timm",
    "return_dict": "transformers",
    "sep": "a line of CSVs",
    "hard": "a subset",
}
"""Keywords of other libraries that messages speak of."""
FILLED = "12345678"  # what a value is taken to be in a message
LONGEST = 240  # letters: two lines of 120
LOADS = ("load", "inspect")
SHOWN_BY = {"data": "score", "features": "score", "models": "score", "scoring": "score", "training": "score", "config.py": "score"}
"""Rooms whose messages a command shows that has all their flags; of other rooms some command has each."""


class Message(NamedTuple):
    """A string of a raise or a warning, values as ``FILLED``, and where it stands."""

    room: str
    place: str
    text: str


def spelled(node: ast.AST) -> str:
    """The text of a string, an f-string or several that are added; other values as ``FILLED``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
    return spelled(node.left) + spelled(node.right) if isinstance(node, ast.BinOp) else FILLED


def is_message(call: ast.AST) -> bool:
    """Whether a call makes an error or a warning: ``UnseenError(…)``, its kin, functions that are named after them, ``warn``."""
    if not isinstance(call, ast.Call) or not call.args:
        return False
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name.endswith(("Error", "_error")) or name in ("warn", "_warn", "_several", "other_shape")


def messages(source: Path = SOURCE) -> Iterator[Message]:
    """The whole message of each raise or warning."""
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if is_message(node):
                yield Message(place.parts[0], f"{place}:{node.lineno}", spelled(node.args[0]))


def docstrings(tree: ast.AST) -> set[int]:
    """The nodes that are docstrings, of attributes too."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def sentences(source: Path = SOURCE) -> Iterator[Message]:
    """Every other string of the source too: messages are put together of them."""
    for path in sorted(source.rglob("*.py")):
        place, tree = path.relative_to(source), ast.parse(path.read_text(encoding="utf-8"))
        known = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in known and (text := spelled(node)) != FILLED:
                yield Message(place.parts[0], f"{place}:{node.lineno}", text)


def flags_of(command: Any) -> set[str]:
    """The flags of a command, those of its groups too; of a truth value also ``--no-NAME``."""
    found, kinds = set(), get_type_hints(command)
    for option in fields(command):
        name, kind = option.name.replace("_", "-"), kinds[option.name]
        found |= flags_of(kind) if is_dataclass(kind) else {f"--{name}", f"--no-{name}"} if kind in (bool, bool | None) else {f"--{name}"}
    return found


def flags_in(text: str) -> list[str]:
    """The flags that a text names; one with a value in its name, as ``--{flag}``, is tested where it is shown."""
    return [flag for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])", text) if FILLED not in flag]


def keywords_in(text: str) -> list[str]:
    """The Python keywords that a text names, as ``image_size=32`` or ``encoding=``."""
    return re.findall(r"(?<![\w-])([a-z][a-z_]*)=(?=[\w\[(…\"'),\s]|$)", text)


def python_keywords() -> set[str]:
    """Keywords of what the rooms and ``import unseen`` offer, of the methods of its classes, and options of a run."""
    rooms = [unseen] + [import_module(f"unseen.{path.parent.name}") for path in SOURCE.glob("*/__init__.py")]
    found = set(Config().flat())
    for thing in (getattr(room, name) for room in rooms for name in getattr(room, "__all__", vars(room)) if not name.startswith("_")):
        members = [value for _, value in inspect.getmembers(thing, inspect.isfunction)] if inspect.isclass(thing) else []
        for function in (thing, *members):
            try:
                found |= set(inspect.signature(function).parameters)
            except (TypeError, ValueError):
                continue
    return found


FLAGS = {name: flags_of(command) for name, command in COMMANDS.items()}


def test_the_walk_sees_messages():
    """It cannot pass for finding nothing."""
    found = list(messages())
    assert len(found) > 350 and len({message.room for message in found}) > 12
    assert any("--skip-damaged" in message.text for message in sentences()) and "--separator" in FLAGS["data"]
    assert flags_in("give --no-such-flag, or --text 12345678") == ["--no-such-flag", "--text"]
    assert keywords_in("Pass image_size=32, or encoding= (skip=[12345678]).") == ["image_size", "encoding", "skip"]


def test_every_flag_that_a_message_names_exists_on_a_command():
    some = {"--help", "--version"}.union(*FLAGS.values())
    assert [(message.place, flag) for message in sentences() for flag in flags_in(message.text) if flag not in some] == []


def test_messages_of_reading_and_scoring_name_flags_that_score_has():
    wrong = []
    for message in messages():
        if (command := SHOWN_BY.get(message.room)) is not None:
            wrong += [(message.place, flag) for flag in flags_in(message.text) if flag not in FLAGS[command]]
    assert wrong == []


def test_what_reading_refuses_can_be_answered_on_every_command_that_reads():
    """The flags of columns and formats in messages of the readers are on `score` and on `data`, and are keywords of ``load``."""
    columns = {flag for message in messages() if message.room == "data" for flag in flags_in(message.text)}
    columns &= {f"--{name.replace('_', '-')}" for name in inspect.signature(unseen.data.load).parameters}
    assert len(columns) > 8
    assert columns <= FLAGS["score"] and columns <= FLAGS["audit"]
    assert columns - FLAGS["data"] == {"--skip-damaged"}  # it lists them in any case
    loaded = set(inspect.signature(unseen.data.load).parameters)
    assert set(inspect.signature(unseen.data.inspect).parameters) >= loaded - {"memory_gib", "say", "skip_damaged"}


def test_every_keyword_that_a_message_names_exists():
    known = python_keywords() | set(FOREIGN)
    assert [(message.place, word) for message in messages() for word in keywords_in(message.text) if word not in known] == []
    assert not [word for word in FOREIGN if word in Config().flat()]


def test_messages_have_two_lines_at_most():
    assert [(message.place, len(message.text)) for message in messages() if len(message.text) > LONGEST or "\n" in message.text] == []


@pytest.mark.parametrize("source", ['raise UnseenError(f"{x} is bad. Give --no-such-flag.")', 'warn("Use no_such_word=3.", stacklevel=2)'])
def test_a_message_that_names_nothing_is_found(tmp_path, source):
    (tmp_path / "one.py").write_text(source)
    (message,) = messages(tmp_path)
    assert flags_in(message.text) == ["--no-such-flag"] or keywords_in(message.text) == ["no_such_word"]
    assert "--no-such-flag" not in set().union(*FLAGS.values()) and "no_such_word" not in python_keywords()
