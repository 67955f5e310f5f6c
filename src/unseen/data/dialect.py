"""How a CSV is written: encoding, separator, quotes and header, found by looking at its beginning."""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from unseen.data.raw import Columns
from unseen.errors import UnseenError

SUFFIXES = (".csv", ".tsv", ".tab")
SEPARATORS = (",", ";", "\t", "|", " ")
NAMED = {" ": "blanks", "\t": "tab", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "\\t": "\t"}
HEAD = 2**16  # bytes from which separator and quotes are found
MOST_LINES = 200
MARKS: tuple[tuple[bytes, str, str], ...] = (  # first bytes, the encoding, and the codec of what follows them
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),  # begins with the mark of UTF-16: first
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)
UNICODE = ("utf-8", "utf-8-sig")


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written.

    Args:
        encoding: Python's name of it.
        separator: of fields; quote is None where there is no quoting.
        quote: see ``separator``.
        skipped: lines before the header: comments, blank lines, ``sep=;``.
        header: names of the columns as they stand there.
        notes: sentences on what is not as usual.
    """

    encoding: str
    separator: str
    quote: str | None
    skipped: int
    header: tuple[str, ...]
    notes: tuple[str, ...] = ()


def is_csv(path: Path) -> bool:
    """Whether a file is a CSV or TSV by its suffix, in any case, zipped by gzip or not."""
    return suffix_of(path) in SUFFIXES


def suffix_of(path: Path) -> str:
    """The suffix in lower case, of a zipped file that below .gz."""
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return stem.suffix.lower()


def find_dialect(data: bytes, path: Path, columns: Columns, numbered: bool = False) -> Dialect:
    """Encoding, separator, quotes and header of a CSV, from its first 64 KiB."""
    encoding, notes = _encoding(data, path, columns.encoding)
    head = codecs.getincrementaldecoder(encoding)("replace").decode(data[:HEAD])
    lines = re.split(r"\r\n|\n|\r", head)[: MOST_LINES + 1]
    lines = lines[:-1] if len(lines) > MOST_LINES or len(data) > HEAD else lines
    skipped, told = _preamble(lines)
    skipped += _title(lines[skipped:]) if columns.separator is None and told is None else 0
    body = lines[skipped:]
    separator = _separator(columns.separator, told, body, path)
    if separator != ("\t" if suffix_of(path) in (".tsv", ".tab") else ","):
        notes.append(f"Columns are separated by {NAMED.get(separator, repr(separator))} (--separator gives another).")
    quote = _quote(body, separator, data if suffix_of(path) in (".tsv", ".tab") else None, encoding)
    header: list[str] = next(parsed(body[:50], separator, quote), [])
    if skipped:
        lines_are = f"{skipped} lines before the header are" if skipped > 1 else "1 line before the header is"
        notes.append(f"{lines_are} left out: a title, comments, blank lines or the separator's name.")
    twice = [name for name in header if header.count(name) > 1][:1] if len(set(header)) < len(header) else []
    if twice and twice[0] and not numbered:
        notes.append(f"Several columns are called {twice[0]!r}: the later ones get a number.")
    return Dialect(encoding, separator, quote, skipped, tuple(header), tuple(notes))


def _encoding(data: bytes, path: Path, given: str | None) -> tuple[str, list[str]]:
    if given is not None:
        try:
            codecs.lookup(given)
            "".encode(given)
        except (LookupError, UnicodeError) as error:
            raise UnseenError(
                f"--encoding (encoding=) is {given!r}, which is none. Allowed: utf-8, cp1252, utf-16 or another that Python knows."
            ) from error
        return ("utf-8-sig" if given.lower().replace("_", "-") in ("utf-8", "utf8") else given), []
    for mark, name, _ in MARKS:
        if data.startswith(mark):
            return name, [] if name == "utf-8-sig" else [f"The encoding is {name}, by its first bytes."]
    if (found := _wide(data[:HEAD])) is not None:
        return found, [f"The encoding is {found}: every other byte is 0."]
    try:
        data.decode("utf-8")  # a letter that is cut off at the end is none
        return "utf-8", []
    except UnicodeDecodeError as error:
        name = "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", data) else "cp1252"
        letter = data[error.start : error.start + 1].decode(name)
        return name, [f"The encoding is not UTF-8: it is read as {name}, byte {error.start} as {letter!r} (--encoding gives another)."]


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of mostly Latin text is 0."""
    if len(head) < 4 or 0 not in head:
        return None
    even, odd = head[0::2].count(0) / len(head[0::2]), head[1::2].count(0) / len(head[1::2])
    return "utf-16-le" if odd > 0.4 and even < 0.1 else "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _preamble(lines: list[str]) -> tuple[int, str | None]:
    """How many lines stand before the header, and the separator that one of them tells."""
    told, place = None, 0
    while place < len(lines):
        line = lines[place].strip()
        named = re.fullmatch(r'"?sep=(.)"?', lines[place].strip("\r\n"), flags=re.IGNORECASE)
        if named:
            told = named[1]
        elif line and not (line.startswith("#") and _is_comment(lines, place)):
            return place, told
        place += 1
    return (0, None) if told is None else (place, told)


def _title(lines: list[str]) -> int:
    """How many lines at the top are the title of a sheet: none of them has a separator, and three rows of several fields follow."""
    for separator in SEPARATORS[:-1]:
        first = next((place for place, line in enumerate(lines) if separator in line), None)
        if first and not any(mark in line for line in lines[:first] for mark in SEPARATORS[:-1]):
            rows = [row for row in parsed(lines[first : first + 50], separator, '"') if row][:-1]
            if len(rows) >= 3 and len({len(row) for row in rows}) == 1:
                return first
    return 0


def _is_comment(lines: list[str], place: int) -> bool:
    """Whether a line that begins with # is none of the table: the next line that does not has other fields than it."""
    following = next((line for line in lines[place + 1 :] if line.strip() and not line.startswith("#")), None)
    if following is None:
        return False
    widths = [(following.count(separator), separator) for separator in SEPARATORS[:-1]]
    most, separator = max(widths)
    return lines[place].count(separator) != most or most == 0


def _separator(given: str | None, told: str | None, lines: list[str], path: Path) -> str:
    if given is not None:
        found = NAMED.get(given.lower(), given) if len(given) > 1 else given
        if len(found) != 1 or len(found.encode()) != 1 or found in '"\r\n':
            raise UnseenError(f"--separator (separator=) is {given!r}. Allowed: one letter, such as ',' or ';', or the word tab.")
        return found
    if told is not None:
        return told
    usual = "\t" if suffix_of(path) in (".tsv", ".tab") else ","
    if _fit(lines, usual)[0]:
        return usual
    candidates = [usual, *(separator for separator in SEPARATORS if separator != usual)]
    return max(candidates, key=lambda separator: (_fit(lines, separator), separator == usual))


def _fit(lines: list[str], separator: str) -> tuple[bool, bool, int]:
    """How well a separator fits the first lines: all of one width; the header has it; the width."""
    widths = [len(row) for row in parsed(lines, separator, '"') if row]
    widths = widths[:-1] if len(widths) == len(lines) and len(widths) > 3 else widths  # the last line may be cut off
    if not widths or widths[0] < 2:
        return (False, False, 0)
    return (len(set(widths)) == 1, True, min(widths) if len(set(widths)) == 1 else 0)


def _quote(lines: list[str], separator: str, tsv: bytes | None, encoding: str) -> str | None:
    """The sign that quotes fields: double quotes, single ones where the header has them, in a TSV none unless they come in pairs."""
    fields = (lines[0] if lines else "").split(separator)
    if len(fields) > 1 and all(re.fullmatch(r"'[^']*'", field.strip()) for field in fields):
        return "'"
    return '"' if tsv is None or _is_quoted(tsv.decode(encoding, "replace"), separator) else None


def _is_quoted(text: str, separator: str) -> bool:
    """Whether quotes give all rows of a TSV the same number of fields: most such files have none, and inches stand alone."""
    if not re.search(f'(?:^|[\r\n{re.escape(separator)}])"', text):  # no field begins with one
        return False
    try:
        return len({len(row) for row in csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True) if row}) == 1
    except csv.Error:
        return False


def parsed(lines: list[str], separator: str, quote: str | None) -> Iterator[list[str]]:
    """Rows of fields, up to the first that cannot be read."""
    try:
        yield from csv.reader(
            (line + "\n" for line in lines), delimiter=separator, quotechar=quote, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
        )
    except csv.Error:
        return
