"""Features of a table as numbers: what each column becomes, and which are refused by name."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.moments import LARGEST_ERROR, ROUNDING
from unseen.data.precision import EXACT, SAFE_RATIO, as_double
from unseen.data.reading import ColumnReading
from unseen.data.textual import DAY, SHOWN_NUMBERS, Cleaned, cleaned, comma_of, has_digits, is_decimal_comma, missing, parsed, shortened
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

LARGEST_VOCABULARY = 100
AT_ONCE = ("Float64", "Int64")  # types of columns that are taken together
MICROSECONDS = {"ns": 1e3, "us": 1.0, "ms": 1e-3}


class Features:
    """The columns of a feature matrix as they are found: values, names, what each column became, notes."""

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray[Any, Any]] = {}
        self.readings: list[ColumnReading] = []
        self.notes: list[str] = []

    def add(self, column: "pl.Series", values: dict[str, np.ndarray[Any, Any]], becomes: str, note: str = "") -> None:
        """Take the features that a column became."""
        self.values |= values
        self.readings.append(ColumnReading(column.name, str(column.dtype), becomes))
        if note:
            self.notes.append(f"Column {column.name!r}: {note}")


def encode(frame: "pl.DataFrame", separator: str | None = None, whole: bool = True) -> tuple[Tensor, Features]:
    """Features of a table: (rows, features), float32, or float64 where float32 would round differences away.

    Numbers stay as they are, truth values become 0 and 1, dates days since 1970, times seconds. A text column is read as numbers where it
    is numbers (with thousands, percent, a decimal comma, a sign of money), else it becomes one feature per value, named ``column=value``,
    for up to 100 values. Missing values and other types are refused by name.

    Args:
        frame: the columns that become features.
        separator: of the CSV that the table comes from: where it is ``;``, a comma parts decimals if nothing says otherwise.
        whole: the table is the whole set. Features of a piece of one stay float64, so that the pieces are of one type.
    """
    if not frame.width:
        raise UnseenError("The table has no column besides the target. Allowed: at least one feature. Add its inputs.")
    found = Features()
    columns = frame.get_columns()  # one by one from the frame, each would look all of them up
    if not frame.height:
        found.values = {column.name: np.empty(0) for column in columns}
        return torch.empty(0, frame.width), found  # `load` says that it is empty
    clean = {column.name: cleaned(column) for column in columns if _is_text(column) and has_digits(column)}
    has_points = bool(clean) and any(column.dtype.is_float() for column in columns)
    decimal_comma = is_decimal_comma([comma_of(one) for one in clean.values()], has_points, separator)
    if gaps := [column for column in columns if column.null_count()]:
        raise missing_values(gaps[0], [column.name for column in gaps[1:]])
    numbers, narrow = _numbers(columns)
    for column in columns:
        if column.name in numbers and column.name:
            found.values[column.name] = numbers[column.name]
            found.readings.append(ColumnReading(column.name, type(column.dtype).__name__, "number"))
            continue
        refuse_missing(column)
        _encode(column, clean.get(column.name), decimal_comma, found)
    values = list(found.values.values())
    others = (value for name, value in found.values.items() if name not in numbers)
    narrow = whole and narrow and all(value.dtype == np.float32 or _is_narrow(value) for value in others)
    return torch.from_numpy(_stacked(values, np.float32 if narrow else np.float64)), found


def _numbers(columns: Sequence["pl.Series"]) -> tuple[dict[str, np.ndarray[Any, Any]], bool]:
    """Columns of the commonest types without gaps, as float64, all at once; and whether float32 holds their differences."""
    import polars as pl

    found: dict[str, np.ndarray[Any, Any]] = {}
    narrow = True
    for kind in AT_ONCE:
        chosen = [column for column in columns if type(column.dtype).__name__ == kind and not column.null_count()]
        if not chosen:
            continue
        matrix = pl.DataFrame(chosen).to_numpy()
        if kind == "Int64" and matrix.size and max(abs(int(matrix.min())), abs(int(matrix.max()))) > EXACT:
            continue
        matrix = matrix.astype(np.float64, copy=False)
        narrow = narrow and (not matrix.size or _are_narrow(matrix))
        found |= dict(zip((column.name for column in chosen), matrix.T, strict=True))
    return found, narrow


def _are_narrow(matrix: np.ndarray[Any, Any]) -> bool:
    """Whether float32 holds the differences of every column (N, columns)."""
    low, high = matrix.min(0), matrix.max(0)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.maximum(np.abs(low), np.abs(high)) <= SAFE_RATIO * (high - low)
    return all(_is_narrow(matrix[:, place]) for place in np.flatnonzero(~plain))


def within_64_bits(frame: "pl.DataFrame", used: dict[str, str]) -> tuple["pl.DataFrame", list[str]]:
    """Whole numbers beyond 2^63, as of ids, less the smallest: NumPy has none of 128 bits."""
    import polars as pl

    moved, notes = [], []
    for name in (name for name, kind in frame.schema.items() if type(kind).__name__ in ("Int128", "UInt128") and name not in used):
        least = int(frame[name].min() or 0)  # type: ignore[arg-type]
        shifted = frame.select(pl.col(name) - pl.col(name).min()).to_series()
        fits = int(shifted.max() or 0) < 2**63  # type: ignore[arg-type]
        moved.append(shifted.cast(pl.Int64 if fits else pl.Float64))
        notes.append(f"Column {name!r}: {least} is subtracted first, as its numbers are beyond 2^63.")
    return (frame.with_columns(moved) if moved else frame), notes


def _stacked(values: Sequence[np.ndarray[Any, Any]], kind: Any) -> np.ndarray[Any, Any]:
    matrix = np.empty((len(values), len(values[0])), dtype=kind)
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused by place
        for row, value in zip(matrix, values, strict=True):
            row[:] = value
    return np.ascontiguousarray(matrix.T)


def _is_text(column: "pl.Series") -> bool:
    import polars as pl

    return type(column.dtype) in (pl.String, pl.Categorical, pl.Enum)


def _encode(column: "pl.Series", clean: Cleaned | None, decimal_comma: bool, found: Features) -> None:
    import polars as pl

    name, kind = column.name, column.dtype
    if kind == pl.Boolean:
        found.add(column, {name: column.cast(pl.Float32).to_numpy()}, "0 or 1")
    elif kind.is_numeric():
        values, least = as_double(_as_numpy(column))
        found.add(column, {name: values}, "number", f"{least} is subtracted first, as its numbers are beyond 2^53." if least else "")
    elif kind == pl.Date:
        found.add(column, {name: column.cast(pl.Int32).cast(pl.Float64).to_numpy()}, "days since 1970")
    elif isinstance(kind, pl.Datetime):
        days = column.cast(pl.Int64).to_numpy() / (MICROSECONDS[kind.time_unit] * 1e6 * DAY)
        found.add(column, {name: days}, "days since 1970")
    elif kind == pl.Time:
        found.add(column, {name: column.cast(pl.Int64).to_numpy() / 1e9}, "seconds")
    elif isinstance(kind, pl.Duration):
        found.add(column, {name: column.cast(pl.Int64).to_numpy() / (MICROSECONDS[kind.time_unit] * 1e6)}, "seconds")
    elif clean is not None and (numbers := parsed(column, decimal_comma, clean)) is not None:
        found.add(column, {name: numbers.numbers}, numbers.what, numbers.note)
    else:
        names = _vocabulary(column)
        text = column.cast(pl.String)
        marks = [value for value in names if value.strip().lower() in ("?", "na", "n/a", "null", "none", "missing")]
        note = f"{marks[0]!r} is a value like the others, not a missing one." if marks else _of_numbers(names)
        found.add(
            column,
            {f"{name}={value}": (text == value).cast(pl.Float32).to_numpy() for value in names},
            f"{len(names)} features, one per value",
            note,
        )


def _of_numbers(names: list[str]) -> str:
    """What to say of many categories that look like quantities nobody could read."""
    found = [name for name in names if re.match(r"\s*[-+<>~≈]?\s*\d", name)]
    if len(names) <= SHOWN_NUMBERS or 2 * len(found) <= len(names):
        return ""
    return f"its {len(names)} values, such as {found[0]!r}, look like numbers, and are read as categories. Write plain numbers if they are."


def _as_numpy(column: "pl.Series") -> np.ndarray[Any, Any]:
    import polars as pl

    small = column.dtype in (pl.Float32, pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)
    if small:
        return column.cast(pl.Float32).to_numpy()
    fits = column.dtype in (pl.Int32, pl.UInt32, pl.Int64, pl.UInt64, pl.Float64)
    return column.to_numpy() if fits else column.cast(pl.Float64).to_numpy()


def _is_narrow(values: np.ndarray[Any, Any]) -> bool:
    """Whether float32 holds the differences of these float64 numbers; see ``precision``."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if not math.isfinite(low) or not math.isfinite(high) or low == high or largest <= SAFE_RATIO * (high - low):
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return largest * ROUNDING <= LARGEST_ERROR * float(values.std())


def _vocabulary(column: "pl.Series") -> list[str]:
    import polars as pl

    if not _is_text(column):
        raise UnseenError(
            f"Column {column.name!r} has type {column.dtype}. Allowed: numbers, truth values, dates, short texts, or one "
            f"column of images (--image-column, image_column=). Convert it, or leave it out with --drop {column.name}."
        )
    values: list[str] = sorted(column.cast(pl.String).unique().to_list())
    if len(values) > LARGEST_VOCABULARY:
        raise UnseenError(
            f"Column {column.name!r} has {len(values):,} different texts, such as {shortened(values[0])!r}. Allowed: up to "
            f"{LARGEST_VOCABULARY} as categories. Is it the text to classify, add --text {column.name}; a name, --id-column {column.name}; "
            f"else --drop {column.name}."
        )
    return values


def refuse_missing(column: "pl.Series") -> None:
    """Raise UnseenError, by the row, for a column that has missing values, or no name."""
    if not column.name:
        raise UnseenError("The table has a column without a name (row numbers?). Name it `index` or drop it.")
    if column.null_count():
        where = f"the first in row {column.is_null().arg_max()}"
        raise UnseenError(
            f"Column {column.name!r} has {missing(column.null_count())}, {where}. Allowed: none. Fill them in or drop those rows."
        )


def missing_values(column: "pl.Series", others: Sequence[str] = ()) -> UnseenError:
    """The error for a column with missing values. others: more columns that have some."""
    also = f" So have {', '.join(map(repr, others[:5]))}{' …' if len(others) > 5 else ''}." if others else ""
    words = " ".join((column.name, *others[:5]))
    return UnseenError(
        f"Column {column.name!r} has {missing(column.null_count())}, the first in row {column.is_null().arg_max()}.{also} "
        f"Allowed: none. Fill them in, drop those rows, or leave the column out with --drop {words}."
    )
