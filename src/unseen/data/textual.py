"""Text columns that are numbers, sums of money, shares, dates or times: as the numbers that they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

MISSING = ("", "?", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "missing", ".")
"""What people write where a number is missing, in small letters."""

SIGN, SPACES = r"^[+-]?", "  \u00a0\u202f'’_"
PLAIN = SIGN + r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
THOUSANDS_COMMA = SIGN + r"[1-9]\d{0,2}(,\d{2,3})*,\d{3}(\.\d+)?$"  # India groups by two
THOUSANDS_POINT = SIGN + r"[1-9]\d{0,2}(\.\d{3})+(,\d+)?$"
THOUSANDS_SPACE = SIGN + rf"[1-9]\d{{0,2}}([{SPACES}]\d{{3}})+([.,]\d+)?$"
DECIMAL_COMMA = SIGN + r"\d*,\d+([eE][+-]?\d+)?$"
WHOLE = SIGN + r"\d+$"
MONEY = "€$£¥₹"
DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%d.%m.%y",
)
MOMENTS = tuple(f"{date}{gap}{time}" for date in DATES[:6] for gap in (" ", "T") for time in ("%H:%M:%S%.f", "%H:%M:%S", "%H:%M"))
MOMENTS += ("%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M:%S%.f UTC", "%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z")
TIMES = ("%H:%M:%S%.f", "%H:%M:%S", "%H:%M", "%I:%M %p", "%I:%M:%S %p")
A_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|^\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{4}|^[A-Za-z]{3,9} \d{1,2}, \d{4}|^\d{1,2}:\d{2}"
A_MEASURE = r"^([+-]?[\d.,]*\d)\s*([A-Za-z°µ][A-Za-z°µ²³/]*)$"
DAY = 86_400.0  # seconds
SHOWN_NUMBERS = 20  # different values above which a column of mostly numbers is no set of codes

Comma = Literal["decimal", "thousands", "either", "none"]


@dataclass(frozen=True)
class Parsed:
    """Numbers (N,), float64, and what they were: such as ``numbers with thousands`` or ``dates``."""

    numbers: np.ndarray  # type: ignore[type-arg]
    what: str
    note: str = ""


@dataclass(frozen=True)
class Cleaned:
    """Different values of a column that are no missing marks: as they are, and without blanks, signs of money, percent and one unit."""

    raw: "pl.Series"
    core: "pl.Series"
    marks: "pl.Series"
    is_percent: bool
    is_mixed: bool
    is_money: bool
    measure: str = ""


def has_digits(column: "pl.Series") -> bool:
    """Whether some value has a digit: without one there is no number to look for."""
    import polars as pl

    few = column.head(SHOWN_NUMBERS).cast(pl.String)
    return bool(few.str.contains(r"\d").any()) or bool(column.cast(pl.String).unique().str.contains(r"\d").any())


def cleaned(column: "pl.Series") -> Cleaned:
    """The different values of a text column, and what is left of them when signs are taken off."""
    import polars as pl

    values = column.cast(pl.String).drop_nulls().unique(maintain_order=True)
    core = values.str.strip_chars()
    marks = core.str.to_lowercase().is_in(list(MISSING))
    raw, core = values.filter(~marks), core.filter(~marks).str.replace_all("−", "-")
    percent = core.str.ends_with("%")
    core = core.str.strip_suffix("%").str.strip_chars()
    money = core.str.contains(rf"^[+-]?[{MONEY}]|[{MONEY}]$")
    core = core.str.replace(rf"^([+-]?)[{MONEY}]\s*", "$1").str.replace(rf"\s*[{MONEY}]$", "").str.replace(r"^\((.+)\)$", "-$1")
    core, measure = _without_unit(core)
    is_percent = bool(len(percent)) and bool(percent.all())
    return Cleaned(raw, core, values.filter(marks), is_percent, bool(percent.any()) and not is_percent, bool(money.any()), measure)


def _without_unit(core: "pl.Series") -> tuple["pl.Series", str]:
    """Numbers that all have one unit behind them, as ``12 kg``, without it; the unit, or nothing. Few different values may be codes."""
    if len(core) <= SHOWN_NUMBERS or not core.str.contains(A_MEASURE).all():
        return core, ""
    units = core.str.extract(A_MEASURE, 2).unique()
    return (core.str.replace(A_MEASURE, "$1"), units[0]) if len(units) == 1 else (core, "")


def comma_of(clean: Cleaned) -> Comma:
    """What a comma means in a column: it parts decimals, or thousands, or either may be, or there is no number with a comma."""
    core = clean.core
    with_comma = core.filter(core.str.contains(",", literal=True))
    if not len(with_comma):
        return "none"
    rest = core.filter(~core.str.contains(",", literal=True))
    thousands = bool(with_comma.str.contains(THOUSANDS_COMMA).all()) and bool(rest.str.contains(PLAIN).all())
    decimal = bool((with_comma.str.contains(DECIMAL_COMMA) | with_comma.str.contains(THOUSANDS_POINT)).all())
    decimal = decimal and bool((rest.str.contains(WHOLE) | rest.str.contains(THOUSANDS_POINT)).all())
    return "either" if thousands and decimal else "thousands" if thousands else "decimal" if decimal else "none"


def has_points_of_thousands(texts: "pl.Series") -> bool:
    """Whether all are whole numbers, some with points between thousands, as ``1.234``: floats where commas part no decimals."""
    grouped = texts.str.contains(THOUSANDS_POINT)
    return bool(grouped.any()) and bool((grouped | texts.str.contains(WHOLE)).all())


def is_decimal_comma(commas: Sequence[Comma], has_points: bool, separator: str | None) -> bool:
    """Whether commas part decimals in a table where a column alone does not tell: by its other columns, else by its separator."""
    if "decimal" in commas:
        return True
    return not has_points and "thousands" not in commas and separator == ";"


def parsed(column: "pl.Series", decimal_comma: bool, clean: Cleaned | None = None) -> Parsed | None:
    """A text column as numbers, or None where it is none. Raises UnseenError for numbers with missing marks, or with a few others."""
    clean = clean or cleaned(column)
    if not len(clean.core):
        return None
    found = _numbers(clean, decimal_comma) or _moments(clean)
    if found is None:
        _refuse_few_others(column, clean, decimal_comma)
        return None
    if len(clean.marks):
        _refuse_marks(column, clean.marks)
    values, what, note = found
    return Parsed(_mapped(column, clean.raw, values), what, note)


def _numbers(clean: Cleaned, decimal_comma: bool) -> tuple["pl.Series", str, str] | None:
    """The different values as numbers, and what they were."""
    import polars as pl

    if clean.is_mixed:
        return None
    core = _canonical(clean.core, decimal_comma)
    if core is None:
        return None
    text, what, note = core
    values = text.cast(pl.Float64, strict=False)
    if values.null_count():
        return None
    if clean.is_percent:
        return values / 100, "shares in percent", note
    return values, "sums of money" if clean.is_money else f"numbers of {clean.measure}" if clean.measure else what, note


def _canonical(core: "pl.Series", decimal_comma: bool) -> tuple["pl.Series", str, str] | None:
    """Numbers written with points alone, what they were, and what was guessed."""
    comma = comma_of(Cleaned(core, core, core.clear(), False, False, False))
    grouped = decimal_comma and has_points_of_thousands(core)
    if core.str.contains(PLAIN).all() and not grouped:
        return core, "numbers", ""
    if comma == "decimal" or (comma == "either" and decimal_comma) or grouped:
        text = core.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        return text, "numbers with a decimal comma", "" if comma == "decimal" else f"{core[0]!r} is read as {text[0]}."
    if comma in ("thousands", "either"):
        example = core.filter(core.str.contains(",", literal=True))[0]
        text = core.str.replace_all(",", "", literal=True)
        return text, "numbers with thousands", f"{example!r} is read as {example.replace(',', '')}." if comma == "either" else ""
    spaced = core.str.contains(THOUSANDS_SPACE)
    if spaced.any() and (spaced | core.str.contains(PLAIN) | core.str.contains(DECIMAL_COMMA)).all():
        return core.str.replace_all(f"[{SPACES}]", "").str.replace(",", ".", literal=True), "numbers with thousands", ""
    return None


def _moments(clean: Cleaned) -> tuple["pl.Series", str, str] | None:
    """Dates as days since 1970, times of day as seconds."""
    import polars as pl

    core = clean.core
    if not core.str.contains(A_DATE).all():
        return None
    for form in DATES:
        days = core.str.to_date(form, strict=False, exact=True)
        if not days.null_count():
            return days.cast(pl.Int32).cast(pl.Float64), "dates, in days", _order(core, form)
    for form in MOMENTS:
        moments = core.str.to_datetime(form, strict=False, exact=True, time_unit="us", ambiguous="earliest")
        if not moments.null_count():
            if moments.dtype == pl.Datetime("us", "UTC"):
                moments = moments.dt.replace_time_zone(None)
            return moments.cast(pl.Int64).cast(pl.Float64) / (1e6 * DAY), "dates, in days", _order(core, form)
    for form in TIMES:
        times = core.str.to_time(form, strict=False)
        if not times.null_count():
            return times.cast(pl.Int64).cast(pl.Float64) / 1e9, "times, in seconds", ""
    return None


def _order(core: "pl.Series", form: str) -> str:
    """What was guessed of the order of day and month, where both fit."""
    other = form.replace("%m/%d", "%d/%m") if "%m/%d" in form else None
    if other and not core.str.to_date(other, strict=False).null_count():
        return f"{core[0]!r} is read as month/day."
    return ""


def _mapped(column: "pl.Series", raw: "pl.Series", values: "pl.Series") -> np.ndarray:  # type: ignore[type-arg]
    import polars as pl

    return column.cast(pl.String).replace_strict(raw, values, return_dtype=pl.Float64).to_numpy()


def _refuse_marks(column: "pl.Series", marks: "pl.Series") -> None:
    import polars as pl

    found = column.cast(pl.String).is_in(marks.to_list())
    raise UnseenError(
        f"Column {column.name!r} has {missing(int(found.sum()))}, written {marks[0]!r}, the first in row {found.arg_max()}. Allowed: "
        f"none. Fill them in, drop those rows, or leave the column out with --drop {column.name}."
    )


def _others(count: int) -> str:
    return f"{count:,} values that are none, the first" if count > 1 else "a value that is none:"


def missing(count: int) -> str:
    """So many missing values, in words."""
    return f"{count:,} missing values" if count > 1 else "a missing value"


def shortened(text: str, most: int = 30) -> str:
    """A text that fits a message."""
    return text if len(text) <= most else text[: most - 2] + " …"


def _refuse_few_others(column: "pl.Series", clean: Cleaned, decimal_comma: bool) -> None:
    """A column where most different values are numbers, too many to be codes, and a few are not."""
    import polars as pl

    patterns = [DECIMAL_COMMA, THOUSANDS_POINT, WHOLE] if decimal_comma else [PLAIN, THOUSANDS_COMMA]
    is_number = clean.core.str.contains("|".join(f"(?:{pattern})" for pattern in patterns))
    numbers = int(is_number.sum())
    if 2 * numbers <= len(clean.core) or (numbers <= SHOWN_NUMBERS and clean.core.filter(is_number).str.contains(WHOLE).all()):
        return
    others = clean.raw.filter(~is_number)
    if not len(others):  # shares in percent among plain numbers
        others = clean.raw.filter(clean.raw.str.ends_with("%"))
    found = column.cast(pl.String).is_in(others.to_list())
    row = found.arg_max() or 0
    first = column.cast(pl.String)[row]
    raise UnseenError(
        f"Column {column.name!r} holds numbers, and {_others(int(found.sum()))} {first!r} in row {row}. "
        f"Allowed: numbers in one spelling. Correct them, or leave the column out with --drop {column.name}."
    )
