"""The line that ends what a command prints: what to do next."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unseen.runs import Run

READING = ("target", "text", "image_column", "id_column", "split_column", "drop", "separator", "encoding", "limit", "image_size")
"""Flags of ``unseen data`` that ``unseen score`` needs too."""


def following(why: str, *words: object) -> str:
    """The next command in one line, and behind it, where there is room, what it is for.

    >>> following("scores", "score", "my photos")
    "Next: unseen score 'my photos'   (scores)"
    """
    from unseen.commands.table import screen_width

    line = f"Next: unseen {shlex.join(str(word) for word in words)}"
    explained = f"{line}   ({why})"
    return explained if len(explained) <= screen_width() else line


def after_page(run: "Run", why: str = "with the decisions that the page saves", decisions: Path = Path("decisions.csv")) -> str:
    """A cleaned copy of the data of a run: of a folder or table, or of the list of its examples where the data are no file."""
    source = run.config.data.data
    words = [decisions, source if Path(source).exists() else run.path, "cleaned"]
    return following(why, "apply", *words, *(["--target", run.config.data.target] if run.config.data.target else []))


def flags(command: Any, names: tuple[str, ...] = READING) -> list[str]:
    """The flags that were given to a command, for the next one.

    Args:
        command: a dataclass whose fields are its flags.
        names: of the flags to hand on.
    """
    words = []
    for option in fields(command):
        value = getattr(command, option.name)
        if option.name in names and value not in (None, ()):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{option.name.replace('_', '-')}", *map(str, values)]
    return words
