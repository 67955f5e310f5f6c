"""How a CSV is written, and its records as they stand: what is read here can be written again byte for byte."""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from unseen.errors import UnseenError

SEPARATORS = (",", ";", "\t", "|")
TABS = (".tsv", ".tab")
HEAD = 2**16  # characters from which separator and quotes are found
MOST_LINES = 200
LARGEST_FIELD = 2**31 - 1
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
PRIVATE = [chr(code) for code in range(0xE000, 0xF900)]  # letters that stand for a carriage return while Python's csv looks at a line


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written.

    Args:
        encoding: Python's name of it.
        separator: of fields; quote is None where there is no quoting.
        quote: see ``separator``.
        skipped: lines before the header.
    """

    encoding: str = "utf-8"
    separator: str = ","
    quote: str | None = '"'
    skipped: int = 0


@dataclass(frozen=True)
class Record:
    """A record of a CSV. raw: its text, with the end of the line. fields: what it says."""

    raw: str
    fields: list[str]

    def is_row(self, width: int) -> bool:
        """Whether it is a row of a table of so many columns: not a blank line, no row of empty fields, no comment."""
        first, *others = self.fields or [""]
        return any(others) or bool(first and not (first.startswith("#") and width > 1))


def sniff(data: bytes, path: Path) -> Dialect:
    """Encoding, separator and quotes of a CSV, from its first lines; all of it must be of that encoding. path: whose suffix says tabs.

    A separator is one that gives the first 200 lines the same number of fields, two or more; the suffix decides between two. A file of tabs
    has quotes where these give all of its rows the same number of fields.
    """
    encoding = _encoding(data)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data[: 4 * HEAD])[:HEAD]
    lines = re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff"))[:MOST_LINES]
    lines = lines[:-1] if len(text) == HEAD else lines
    skipped = next((place for place, line in enumerate(lines) if line.strip()), 0)
    is_tabbed = path.suffix.lower() in TABS
    usual = "\t" if is_tabbed else ","
    separator = max(SEPARATORS, key=lambda one: (_fit(lines[skipped:], one), one == usual))
    separator = separator if _fit(lines[skipped:], separator)[0] else usual
    quoted = Dialect(encoding, separator, '"', skipped)
    return quoted if not is_tabbed or _is_quoted(data, quoted) else replace(quoted, quote=None)


def _is_quoted(data: bytes, dialect: Dialect) -> bool:
    """Whether quotes give all rows of a file of tabs the same number of fields: most have none, and inches stand alone."""
    if '"'.encode(dialect.encoding) not in data:
        return False
    try:
        widths = {len(record.fields) for record in records(decoded(data, dialect)[1], dialect) if record.fields}
    except (UnseenError, UnicodeDecodeError):
        return False
    return len(widths) == 1


def _encoding(data: bytes) -> str:
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, True)
    except UnicodeDecodeError:
        return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", data) else "cp1252"
    return "utf-8"


def _fit(lines: list[str], separator: str) -> tuple[bool, int]:
    """Whether a separator gives all lines the same number of fields, two or more; and that number."""
    try:
        widths = [len(row) for row in csv.reader((line + "\n" for line in lines), delimiter=separator) if row]
    except csv.Error:
        return (False, 0)
    same = bool(widths) and len(set(widths)) == 1 and widths[0] > 1
    return (same, widths[0] if same else 0)


def decoded(data: bytes, dialect: Dialect) -> tuple[bytes, str, str]:
    """The mark at the beginning, the text after it, and the codec of both: ``mark + text.encode(codec)`` is the data again.

    Raises UnicodeDecodeError for bytes that are no text in the dialect's encoding.
    """
    for mark, name in MARKS:
        if data.startswith(mark) and re.sub("[^a-z0-9]", "", dialect.encoding.lower()).startswith(name.replace("-", "")[:5]):
            return mark, data[len(mark) :].decode(name), name
    codec = "utf-8" if dialect.encoding == "utf-8-sig" else dialect.encoding
    return b"", data.decode(codec), codec


def records(text: str, dialect: Dialect) -> Iterator[Record]:
    """The records of a text, in order; joined, their raw texts are the text. Lines before the header, too, are records, without fields.

    Raises:
        UnseenError: , by record, for quotes that do not match. A carriage return ends a line before a line feed, or where there is none.
    """
    lines = iter(_lines(text))
    for _ in range(dialect.skipped):
        if (line := next(lines, None)) is not None:
            yield Record(line, [])
    stand_in = next((letter for letter in PRIVATE if letter not in text), "")
    taken: list[str] = []

    def fed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            body = line.rstrip("\r\n")
            yield (body.replace("\r", stand_in) if "\r" in body else body) + "\n"

    limit = csv.field_size_limit(LARGEST_FIELD)
    number = 0
    try:
        for fields in csv.reader(fed(), delimiter=dialect.separator, strict=True, **_options(dialect)):
            raw = "".join(taken)
            taken.clear()
            number += 1
            if dialect.quote and raw.count(dialect.quote) % 2:
                raise csv.Error("a quote that stands alone")
            yield Record(raw, [field.replace(stand_in, "\r") for field in fields] if "\r" in raw.rstrip("\r\n") else fields)
    except csv.Error as error:
        raise UnseenError(f"Record {number + 1} cannot be read: {error}. Put quotes in pairs, or write the file again.") from error
    finally:
        csv.field_size_limit(limit)


def with_field(record: Record, place: int, value: str, dialect: Dialect) -> str:
    """A record's text with another value at one place; all else stays to the letter. Raises UnseenError where it cannot be written."""
    body = record.raw.rstrip("\r\n")
    start, end = _spans(body, dialect)[place]
    quote = dialect.quote
    needs = any(letter in value for letter in (dialect.separator, "\r", "\n", quote or "\n"))
    if needs and quote is None:
        raise UnseenError(f"{value!r} cannot be written into a table without quotes. Choose another name.")
    if quote is not None and (needs or body[start : start + 1] == quote):
        value = quote + value.replace(quote, 2 * quote) + quote
    return body[:start] + value + body[end:] + record.raw[len(body) :]


def _spans(body: str, dialect: Dialect) -> list[tuple[int, int]]:
    """Where each field begins and ends, its quotes included."""
    spans, start, quote = [], 0, dialect.quote
    while True:
        place = start
        if quote and body.startswith(quote, place):
            place = body.index(quote, place + 1) + 1
            while body.startswith(quote, place):  # two stand for one
                place = body.index(quote, place + 1) + 1
        end = body.find(dialect.separator, place)
        spans.append((start, len(body) if end < 0 else end))
        if end < 0:
            return spans
        start = end + 1


def _options(dialect: Dialect) -> dict[str, Any]:
    return {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends: a line feed; a carriage return where there is no line feed."""
    if "\n" in text or "\r" not in text:
        yield from StringIO(text, newline="\n")
    else:
        yield from re.findall(r"[^\r]*\r|[^\r]+$", text)
