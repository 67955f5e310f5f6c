"""A CSV as its writer meant it: encoding, separator and quotes are found by looking; what is no row is left out and counted."""

import codecs
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.data.dialect import HEAD, MOST_LINES, NAMED, UNICODE, Dialect, find_dialect, parsed
from unseen.data.raw import Columns
from unseen.data.reading import Skipped
from unseen.data.textual import cleaned, comma_of, has_points_of_thousands
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

INFERRED = 10_000  # rows from which types are guessed; where a later row does not fit, all are looked at
TARGETS = ("label", "labels", "target")


@dataclass(frozen=True)
class Table:
    """A CSV that was read: its rows, its dialect, and the rows that are none."""

    frame: "pl.DataFrame"
    dialect: Dialect
    skipped: tuple[Skipped, ...]
    found: int


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

    texts = [frame[name].head(MOST_LINES) for name, kind in frame.schema.items() if type(kind) is pl.String and name not in text]
    if not any(column.str.contains(",", literal=True).any() and comma_of(cleaned(column)) == "decimal" for column in texts):
        return []
    return [name for name, kind in frame.schema.items() if type(kind) is pl.Float64]


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
        data.decode("utf-8")


def _reason(data: bytes, dialect: Dialect, error: Exception) -> str:
    """The row that does not fit, where there is one; else the first line of the reader's words."""
    try:
        text = data.decode("utf-8-sig" if dialect.encoding in UNICODE else dialect.encoding)
        lines = re.split(r"\r\n|\n|\r", text)[dialect.skipped :]
        rows = parsed(lines, dialect.separator, dialect.quote)
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
