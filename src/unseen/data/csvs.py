"""A CSV as its writer meant it: encoding, separator and quotes are found by looking; what is no row is left out and counted."""

import codecs
import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.data.raw import Columns
from unseen.data.reading import Skipped
from unseen.data.textual import cleaned, comma_of, has_points_of_thousands
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".csv", ".tsv", ".tab")
SEPARATORS = (",", ";", "\t", "|", " ")
NAMED = {" ": "blanks", "\t": "tab", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "\\t": "\t"}
HEAD = 2**16  # bytes from which separator and quotes are found
MOST_LINES = 200
INFERRED = 10_000  # rows from which types are guessed; where a later row does not fit, all are looked at
MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16: first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNICODE = ("utf-8", "utf-8-sig")
TARGETS = ("label", "labels", "target")


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


@dataclass(frozen=True)
class Table:
    """A CSV that was read: its rows, its dialect, and the rows that are none."""

    frame: "pl.DataFrame"
    dialect: Dialect
    skipped: tuple[Skipped, ...]
    found: int


def is_csv(path: Path) -> bool:
    """Whether a file is a CSV or TSV by its suffix, in any case, zipped by gzip or not."""
    return _suffix(path) in SUFFIXES


def _suffix(path: Path) -> str:
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return stem.suffix.lower()


def read_csv(path: Path, columns: Columns) -> Table:
    """A CSV with a header line, or without one where columns are named ``column_1``, ``column_2``, …

    The target and the id stay the texts that they are.

    Raises:
        UnseenError: , by line, for rows of another length, and for bytes that are no text in the encoding.
    """
    data = _bytes(path)
    numbered = any(re.fullmatch(r"column_\d+", name or "") for name in (columns.target, columns.text, columns.id))
    dialect = find_dialect(data, path, columns, numbered)
    text = [name for name in (columns.id, columns.target, *TARGETS, columns.split) if name in dialect.header]
    try:
        frame = _frame(data, dialect, numbered, text)
    except UnicodeDecodeError as error:
        raise UnseenError(
            f"Cannot read the table {path}: byte {error.start} is no {error.encoding}. Name its encoding with --encoding (encoding=), "
            "such as utf-8, cp1252 or utf-16."
        ) from error
    except Exception as error:  # Polars raises its own, and panics
        if not type(error).__module__.startswith(("polars", "pyo3")) and not isinstance(error, OSError | ValueError | LookupError):
            raise
        raise UnseenError(f"Cannot read the table {path}: {_reason(data, dialect, error)}. Repair the file.") from error
    frame, skipped = _rows_only(frame, columns)
    return Table(frame, dialect, skipped, frame.height + sum(part.count for part in skipped))


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UnseenError(f"Cannot read the table {path}: {error}. Repair the file.") from error


def find_dialect(data: bytes, path: Path, columns: Columns, numbered: bool = False) -> Dialect:
    """Encoding, separator, quotes and header of a CSV, from its first 64 KiB."""
    encoding, notes = _encoding(data, path, columns.encoding)
    head = codecs.getincrementaldecoder(encoding)("replace").decode(data[:HEAD])
    lines = re.split(r"\r\n|\n|\r", head)[: MOST_LINES + 1]
    lines = lines[:-1] if len(lines) > MOST_LINES or len(data) > HEAD else lines
    skipped, told = _preamble(lines)
    body = lines[skipped:]
    separator = _separator(columns.separator, told, body, path)
    if separator != ("\t" if _suffix(path) in (".tsv", ".tab") else ","):
        notes.append(f"Columns are separated by {NAMED.get(separator, repr(separator))} (--separator gives another).")
    quote = _quote(body, separator, is_tsv=_suffix(path) in (".tsv", ".tab"))
    header: list[str] = next(_parsed(body[:50], separator, quote), [])
    if skipped:
        notes.append(f"{skipped} lines before the header are left out: comments, blank lines or the separator's name.")
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
    for mark, name in MARKS:
        if data.startswith(mark):
            return name, [] if name == "utf-8-sig" else [f"The encoding is {name}, by its first bytes."]
    if (found := _wide(data[:HEAD])) is not None:
        return found, [f"The encoding is {found}: every other byte is 0."]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
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
    usual = "\t" if _suffix(path) in (".tsv", ".tab") else ","
    if _fit(lines, usual)[0]:
        return usual
    candidates = [usual, *(separator for separator in SEPARATORS if separator != usual)]
    return max(candidates, key=lambda separator: (_fit(lines, separator), separator == usual))


def _fit(lines: list[str], separator: str) -> tuple[bool, bool, int]:
    """How well a separator fits the first lines: all of one width; the header has it; the width."""
    widths = [len(row) for row in _parsed(lines, separator, '"') if row]
    widths = widths[:-1] if len(widths) == len(lines) and len(widths) > 3 else widths  # the last line may be cut off
    if not widths or widths[0] < 2:
        return (False, False, 0)
    return (len(set(widths)) == 1, True, min(widths) if len(set(widths)) == 1 else 0)


def _quote(lines: list[str], separator: str, is_tsv: bool) -> str | None:
    """The sign that quotes fields: double quotes, single ones where the header has them, in a TSV none unless they come in pairs."""
    first = lines[0] if lines else ""
    fields = first.split(separator)
    if len(fields) > 1 and all(re.fullmatch(r"'[^']*'", field.strip()) for field in fields):
        return "'"
    if not is_tsv:
        return '"'
    quoted = [field for line in lines for field in line.split(separator) if field.startswith('"')]
    return '"' if quoted and all(len(field) > 1 and field.endswith('"') for field in quoted) else None


def _parsed(lines: list[str], separator: str, quote: str | None) -> Any:
    options: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    try:
        yield from csv.reader((line + "\n" for line in lines), delimiter=separator, **options)
    except csv.Error:
        return


def _frame(data: bytes, dialect: Dialect, numbered: bool, text: list[str]) -> "pl.DataFrame":
    import polars as pl

    source = _plain(data, dialect)
    options: dict[str, Any] = {"separator": dialect.separator, "quote_char": dialect.quote, "has_header": not numbered}
    texts = dict.fromkeys(text, pl.String) if not numbered else None
    try:
        frame = pl.read_csv(source, infer_schema_length=INFERRED, schema_overrides=texts, **options)
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        frame = pl.read_csv(source, infer_schema_length=None, schema_overrides=texts, **options)
    if numbered:
        frame.columns = [f"column_{place}" for place in range(1, frame.width + 1)]
        return frame
    if floats := _floats_beside_commas(frame, text):
        again = pl.read_csv(source, infer_schema_length=INFERRED, schema_overrides=dict.fromkeys([*text, *floats], pl.String), **options)
        frame = frame.with_columns(column for column in again.select(floats).get_columns() if has_points_of_thousands(column.drop_nulls()))
    stripped = [name.strip() for name in frame.columns]
    frame.columns = stripped if len(set(stripped)) == len(stripped) else frame.columns
    return frame


def _floats_beside_commas(frame: "pl.DataFrame", text: list[str]) -> list[str]:
    """Columns that were read as floats in a table where commas part decimals: their points may part thousands."""
    import polars as pl

    texts = [column.head(MOST_LINES) for column in frame.get_columns() if column.dtype == pl.String and column.name not in text]
    if not any(column.str.contains(",", literal=True).any() and comma_of(cleaned(column)) == "decimal" for column in texts):
        return []
    return [column.name for column in frame.get_columns() if column.dtype == pl.Float64]


def _plain(data: bytes, dialect: Dialect) -> bytes:
    """The table in UTF-8 from its header on, its lines ended as Polars wants it."""
    if dialect.encoding == "utf-8-sig":
        data = data.removeprefix(codecs.BOM_UTF8)
    if dialect.encoding not in UNICODE:
        data = data.decode(dialect.encoding).removeprefix("\ufeff").encode()
    else:
        _check_unicode(data)
    if b"\r" in data[:HEAD] and b"\n" not in data[:HEAD]:
        data = data.replace(b"\r", b"\n")
    for _ in range(dialect.skipped):
        data = data.partition(b"\n")[2]
    return data


def _check_unicode(data: bytes) -> None:
    if not data.isascii():
        codecs.getincrementaldecoder("utf-8")().decode(data)


def _reason(data: bytes, dialect: Dialect, error: Exception) -> str:
    """The row that does not fit, where there is one; else the first line of the reader's words."""
    try:
        text = data.decode("utf-8-sig" if dialect.encoding in UNICODE else dialect.encoding)
        lines = re.split(r"\r\n|\n|\r", text)[dialect.skipped :]
        rows = _parsed(lines, dialect.separator, dialect.quote)
        header: list[str] = next(rows, [])
        for number, row in enumerate(row for row in rows if row):
            if len(row) > len(header):
                separator = NAMED.get(dialect.separator, dialect.separator)
                return f"row {number} has {len(row)} fields and the header {len(header)} (separator {separator!r})"
    except (UnicodeDecodeError, LookupError):
        pass
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _rows_only(frame: "pl.DataFrame", columns: Columns) -> tuple["pl.DataFrame", tuple[Skipped, ...]]:
    """Without rows in which every field is empty, and without comments: a first field that begins with # in a row that has no other."""
    import polars as pl

    target = next((name for name in (columns.target, *TARGETS) if name in frame.columns), None)
    if not frame.height or not frame.width or target is None or not frame[target].null_count():
        return frame, ()
    first = frame.columns[0]
    # one column after the other: a list of 10,000 expressions is slow
    others = pl.all_horizontal(pl.exclude(first).is_null()) if frame.width > 1 else pl.lit(value=True)
    is_text = frame[first].dtype == pl.String
    blank = (pl.col(first).str.strip_chars() == "").fill_null(value=True) if is_text else pl.col(first).is_null()
    empty = frame.select(blank & others).to_series()
    remarks = (
        frame.select(pl.col(first).str.starts_with("#").fill_null(value=False) & others).to_series()
        if is_text and frame.width > 1
        else empty & False
    )
    parts = (("empty rows", empty), ("comments", remarks))
    skipped = tuple(Skipped(reason, int(found.sum()), f"row {found.arg_max()}", "rows") for reason, found in parts if found.sum())
    return frame.filter(~(empty | remarks)), skipped
