"""Text that a spreadsheet takes for a formula, marked so that it is none, and the way back."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

FORMULA = r"^'*[=+\-@\x00-\x1f\x7f\uff1d\uff0b\uff0d\uff20]"
"""What begins a formula, or a command to what reads the file: = + - @, their wide forms, control letters; after any apostrophes."""


def neutral(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would compute it. No two texts become the same.

    >>> neutral("=1+1"), neutral("cat"), neutral("'=1+1")
    ("'=1+1", 'cat', "''=1+1")
    """
    return "'" + text if re.match(FORMULA, text) else text


def original(text: str) -> str:
    """What ``neutral`` was given.

    >>> original("'=1+1"), original("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and re.match(FORMULA, text) else text


def neutral_frame(frame: "pl.DataFrame") -> "pl.DataFrame":
    """A frame for a CSV that people open: its texts and the names of its columns ``neutral``; numbers stay."""
    import polars as pl

    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    columns = [pl.when(pl.col(name).str.contains(FORMULA)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name) for name in texts]
    return frame.with_columns(columns).rename({name: neutral(name) for name in frame.columns if neutral(name) != name})
