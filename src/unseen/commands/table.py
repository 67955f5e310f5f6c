"""Tables and sentences that fit the terminal: no broken number, no cell over three lines, the end of a file's name kept.

Columns stand in the order of their importance. The later ones are left out where not all fit; --json and the run's files have them.
"""

import math
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

GAP = "  "
MOST_LINES = 3
NARROWEST = 40
NAMES = {"id", "file", "run", "other_id", "query_id", "train_id"}
"""Columns of names and paths: what is too long loses its beginning, for the end tells files apart."""
SCREEN_NAMES = {"given_class": "given_label", "suggested_class": "suggested_label", "other_class": "other_label"}
"""Labels are shown as the names of their classes, under the word that all commands use."""
SHARE = re.compile(r"([-\d.,]+%)?")
BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def screen_width() -> int:
    """Columns of the terminal ($COLUMNS, where it is set); 80 where the output goes elsewhere."""
    return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def say(text: str) -> None:
    """Print a paragraph in lines that fit. Words, and so paths without spaces, stay whole."""
    print(*textwrap.wrap(printable(text), screen_width() - 1, break_long_words=False, break_on_hyphens=False), sep="\n")


def print_rows(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print dictionaries as a table that fits the terminal, the most important columns first, numbers to the right."""
    if title:
        say(title)
    print(*table_lines(rows, screen_width()), sep="\n", end="\n\n")


def table_lines(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    """The lines of a table, none wider than ``width`` unless its first column alone is."""
    columns = _that_fit([_column(name, [row[name] for row in rows]) for name in rows[0]], width)
    widths = _widths(columns, width)
    head = _together([_wrapped(column.heading, at, end=False) for column, at in zip(columns, widths, strict=True)], columns, widths)
    lines = [*head, "─" * (sum(widths) + len(GAP) * (len(widths) - 1))]
    for number in range(len(rows)):
        cells = [_wrapped(column.cells[number], at, column.is_name) for column, at in zip(columns, widths, strict=True)]
        lines += _together(cells, columns, widths)
    return lines


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: tuple[str, ...]
    is_number: bool
    is_name: bool

    @property
    def natural(self) -> int:
        """Characters of its longest cell."""
        return max(map(text_width, self.cells))

    @property
    def least(self) -> int:
        """Characters that it needs: a number all of its own; a text may go over three lines."""
        longest = max((text_width(word) for cell in self.cells for word in cell.split()), default=0)
        enough = self.natural if self.is_number else min(self.natural, 24 if self.is_name else max(12, min(longest, 24)))
        return max(enough, *(text_width(word) for word in self.heading.split()), 1)


def _column(name: str, values: list[Any]) -> _Column:
    is_number = all(isinstance(value, int | float) or value is None for value in values) and not any(
        isinstance(value, bool) for value in values
    )
    cells = _numbers(values) if is_number else [printable(_word(value)) for value in values]
    is_number = is_number or all(SHARE.fullmatch(cell) for cell in cells)
    return _Column(SCREEN_NAMES.get(name, name).replace("_", " "), tuple(cells), is_number, name in NAMES)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _numbers(values: Sequence[float | None]) -> list[str]:
    """Numbers of one column with the same decimals: four digits of the largest, two to four behind the point."""
    sizes = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value) and value]
    if not sizes:
        return [_word(value) for value in values]
    if max(sizes) < 0.001 or max(sizes) >= 1e6:
        return [f"{value:.3e}" if isinstance(value, float) else _word(value) for value in values]
    decimals = min(4, max(0, 3 - math.floor(math.log10(max(sizes)))))
    return [f"{value:.{decimals}f}" if isinstance(value, float) else _word(value) for value in values]


def _that_fit(columns: list[_Column], width: int) -> list[_Column]:
    """The first columns that fit beside each other."""
    kept, used = columns[:1], columns[0].least
    for column in columns[1:]:
        if used + len(GAP) + column.least > width:
            break
        kept.append(column)
        used += len(GAP) + column.least
    return kept


def _widths(columns: list[_Column], width: int) -> list[int]:
    """Each column's least, then what is left over for names and texts, then for headings in one line."""
    widths = [min(column.least, width) for column in columns]
    spare = width - sum(widths) - len(GAP) * (len(widths) - 1)
    for wanted in ([column.natural for column in columns], [text_width(column.heading) for column in columns]):
        while spare > 0 and (short := [at for at, want in enumerate(wanted) if widths[at] < want]):
            for at in short[:spare]:
                widths[at] += 1
                spare -= 1
    return widths


def _wrapped(text: str, width: int, end: bool) -> list[str]:
    """A cell in at most three lines. end: what does not fit is left out at the beginning, else at the end."""
    if text_width(text) <= width:
        return [text]
    if end:
        return _folded(text, width)
    lines = [part for line in textwrap.wrap(text, width) for part in ([line] if text_width(line) <= width else _pieces(line, width))]
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], _first(" ".join(lines[MOST_LINES - 1 :]), width)]


def _folded(text: str, width: int) -> list[str]:
    """The end of a name in at most three lines."""
    kept, shortened = text, False
    while len(lines := _pieces("…" * shortened + kept, width)) > MOST_LINES:
        kept, shortened = kept[1:], True
    return lines


def _pieces(text: str, width: int) -> list[str]:
    lines = [""]
    for letter in text:
        if text_width(lines[-1] + letter) > width and lines[-1]:
            lines.append("")
        lines[-1] += letter
    return lines


def _first(text: str, width: int) -> str:
    while text_width(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _together(cells: list[list[str]], columns: list[_Column], widths: list[int]) -> list[str]:
    """Cells of one row beside each other."""
    lines = []
    for parts in zip_longest(*cells, fillvalue=""):
        padded = [
            " " * (at - text_width(part)) + part if column.is_number else part + " " * (at - text_width(part))
            for part, column, at in zip(parts, columns, widths, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return lines


def text_width(text: str) -> int:
    """Columns of the terminal that a text takes: wide letters two, combining marks none.

    >>> text_width("abc"), text_width("猫"), text_width("é")
    (3, 2, 1)
    """
    return sum(0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def visible(name: str) -> str:
    """The name of a class; in quotes where blanks would not be seen.

    >>> visible("cat"), visible(" cat"), visible("")
    ('cat', "' cat'", "''")
    """
    return name if name and name == " ".join(name.split()) else repr(name)


def printable(text: str, kept: str = "") -> str:
    r"""Text that commands the terminal nothing and reads in its own order: control and bidirectional characters as escapes, but ``kept``.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    return "".join(letter if letter in kept or not _commands(letter) else ascii(letter)[1:-1] for letter in text)


def _commands(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(letter) in BIDIRECTIONAL
