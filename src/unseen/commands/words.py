"""Words of the data on a screen: nothing in them commands the terminal, and blanks can be seen."""

import unicodedata
from typing import Any

BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def printable(text: str, kept: str = "") -> str:
    r"""Text that commands the terminal nothing and reads in its own order: control and bidirectional characters as escapes, but ``kept``.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    return "".join(letter if letter in kept or not _commands(letter) else ascii(letter)[1:-1] for letter in text)


def _commands(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(letter) in BIDIRECTIONAL


def visible(name: str) -> str:
    """The name of a class; in quotes where blanks would not be seen.

    >>> visible("cat"), visible(" cat"), visible("")
    ('cat', "' cat'", "''")
    """
    return name if name and name == " ".join(name.split()) else repr(name)


def shortened(value: Any, most: int = 60) -> Any:
    """A text that fits a table."""
    return value[: most - 2] + " …" if isinstance(value, str) and len(value) > most else value
