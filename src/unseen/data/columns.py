"""What each column of a table becomes: feature, target, id, index, split; and columns that tell the row or the label are found."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.data.csvs import TARGETS
from unseen.data.raw import Columns
from unseen.data.reading import ColumnReading
from unseen.data.split_names import split_of
from unseen.data.textual import shortened
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

FEWEST_ROWS = 20  # below which a column that tells the row or the label may be chance
FEWEST_NAMED = 5  # the same for a column whose name says that it is an id
SAMPLE = 1000  # rows on which a column is first looked at
AT_ONCE = 1000  # columns of numbers that are looked at together
PANDAS = re.compile(r"(Unnamed: \d+(_level_\d+)?(\.\d+)?|__index_level_\d+__|level_0|)")
ID_WORDS = frozenset(("id", "ids", "idx", "index", "uuid", "guid", "key", "no", "nr", "row", "rownum", "number", "sn", "serial"))
LABEL_WORDS = frozenset(("label", "labels", "class", "target", "category", "truth", "gt", "y"))
NUMBER_OR_DATE = r"^[-+€$£(]*\d{1,3}(['’_ \u00a0\u202f]\d{3})*([.,]\d+)?[)%€$£]*$|^[-+€$£(]*[\d.,]+[)%€$£]*$|\d[-/.:]\d"
MOST_HITS = 0.95  # of rows whose label a column tells, above which it is named
ID = "an id by its name"
LIKELY = (*TARGETS, "class", "category", "y")  # names of the column of labels
SPLIT_NAMES = ("split", "set", "subset", "partition")


@dataclass
class Roles:
    """What becomes of the columns of a table.

    Args:
        features: names of those that become features, in order.
        readings: of all columns.
        left_out: names and reasons.
        suspicious: sentences.
        notes: see ``suspicious``.
    """

    features: list[str] = field(default_factory=list)
    readings: list[ColumnReading] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, column: "pl.Series", reason: str) -> None:
        """Not a feature, and why."""
        self.left_out.append((reason, column.name or "the one without a name"))
        self.readings.append(ColumnReading(column.name, str(column.dtype), f"left out: {reason}"))


def roles(frame: "pl.DataFrame", target: str, columns: Columns, used: dict[str, str]) -> Roles:
    """Of every column. used: by name what the other columns are for, such as ``id``; these are no features."""
    found = Roles()
    labels = _codes(frame[target])
    series = frame.get_columns()
    judged = [] if not columns.whole else [column for column in series if column.name not in used]
    seen = glance(judged)
    reasons = {column.name: _judged(column, labels, frame[target], seen.get(column.name)) for column in judged}
    for column in series:
        name = column.name
        if name in used:
            found.readings.append(ColumnReading(name, str(column.dtype), used[name]))
        elif name in columns.drop:
            found.leave_out(column, "dropped, as asked")
        elif PANDAS.fullmatch(name) and _is_row_number(column):
            found.leave_out(column, "a row number that pandas wrote")
        elif column.null_count() == len(column) and len(column):
            found.leave_out(column, "empty in every row")
        else:
            found.features.append(name)
    _leave_out_judged(found, {column.name: column for column in series}, reasons)
    return found


@dataclass(frozen=True)
class Glance:
    """What a few rows of a column of numbers say.

    Args:
        is_sorted: the first of them ascend or descend.
        different: how many of a sample are different.
        is_plain: neither row number, id nor copy of the label: not sorted, and fractions that differ in most rows or integers that repeat.
    """

    is_sorted: bool
    different: int
    is_plain: bool


def glance(columns: Sequence["pl.Series"]) -> dict[str, Glance]:
    """Of the columns of numbers without gaps among these, all at once: so a table of 10,000 is looked at in no time."""
    import polars as pl

    groups: dict[type, list[pl.Series]] = {}
    for column in columns:
        kind = type(column.dtype)
        if kind in (pl.Float64, pl.Float32, pl.Int64, pl.Int32, pl.UInt64, pl.UInt32) and not column.null_count():
            groups.setdefault(kind, []).append(column)
    found: dict[str, Glance] = {}
    for kind, chosen in groups.items():
        for start in range(0, len(chosen), AT_ONCE):
            found |= _glanced(pl.DataFrame(chosen[start : start + AT_ONCE]), kind in (pl.Float64, pl.Float32))
    return found


def _glanced(some: "pl.DataFrame", has_fractions: bool) -> dict[str, Glance]:
    if not some.height:
        return {}
    rows, head = _spread(some.height), some.head(FEWEST_ROWS).to_numpy()
    ordered = np.sort((some if len(rows) == some.height else some[rows]).to_numpy(), axis=0)
    is_sorted: np.ndarray[Any, Any] = np.asarray((head[1:] > head[:-1]).all(0) | (head[1:] < head[:-1]).all(0))
    different: np.ndarray[Any, Any] = 1 + (ordered[1:] != ordered[:-1]).sum(0)
    plain = ~is_sorted & (2 * different > len(rows)) & (has_fractions | (different < len(rows)))
    found = zip(some.columns, is_sorted.tolist(), different.tolist(), plain.tolist(), strict=True)
    return {name: Glance(*facts) for name, *facts in found}


def _spread(count: int) -> np.ndarray[Any, Any]:
    """Up to ``SAMPLE`` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))


def _leave_out_judged(found: Roles, series: dict[str, "pl.Series"], reasons: dict[str, tuple[str, str] | None]) -> None:
    """Columns whose values tell the row or the label are left out or named; the last feature stays, and is named."""
    judged = [(name, judgement) for name in found.features if (judgement := reasons.get(name))]
    if len(judged) == 1 == len(found.features) and ID in judged[0][1][0]:
        name, (reason, _) = judged[0]
        raise UnseenError(
            f"The table has no inputs: its column {name!r} is {reason}. Allowed: features, texts (--text), or paths of pictures "
            "(--image-column). If it names pictures, write their paths, as they lead from the table to the files."
        )
    keeps_some = len([name for name, (reason, _) in judged if reason]) < len(found.features)
    for name, (reason, warning) in judged:
        is_out = bool(reason) and keeps_some
        if is_out:
            found.features.remove(name)
            found.leave_out(series[name], reason)
        what = f"is {reason}" if reason else warning
        found.suspicious.append(f"Column {name!r} {what}" + ("; it is left out." if is_out else f" (--drop {name} leaves it out)."))


def _is_row_number(column: "pl.Series") -> bool:
    """Whether a column that has pandas' name for an index has an index' values: whole and different, or anything under its inner name."""
    import polars as pl

    if column.name.startswith("__index_level"):
        return True
    if column.dtype == pl.String and column.name in ("", "Unnamed: 0"):  # names of rows, as R writes them
        return not column.null_count() and column.n_unique() == len(column)
    if not column.dtype.is_integer():
        whole = column.dtype.is_float() and bool((column.drop_nans().drop_nulls() % 1 == 0).all())
        if not whole or not len(column):
            return False
    return column.null_count() == 0 and column.n_unique() == len(column)


def is_named_id(name: str) -> bool:
    """Whether a name says that a column tells rows apart.

    >>> [is_named_id(name) for name in ("id", "PassengerId", "customer_id", "row number", "paid", "idle")]
    [True, True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return bool(words) and words[-1].lower() in ID_WORDS


def _judged(column: "pl.Series", labels: np.ndarray[Any, Any], target: "pl.Series", seen: Glance | None) -> tuple[str, str] | None:
    """(why a column is left out, "") or ("", what to say of it), or None where nothing is wrong with it."""
    count = len(column)
    if count < FEWEST_NAMED or (seen is not None and seen.is_plain) or column.null_count():
        return None
    row = _tells_row(column, is_named_id(column.name), seen)
    if row is not None or count < FEWEST_ROWS:
        return row
    if seen is not None and 2 * seen.different > min(count, SAMPLE):
        return None
    return _tells_label(column, labels, target)


def _tells_row(column: "pl.Series", named: bool, seen: Glance | None) -> tuple[str, str] | None:
    import polars as pl

    count = len(column)
    if not named and count < FEWEST_ROWS:
        return None
    if column.dtype == pl.String:
        return _text_tells_row(column, named)
    if not (column.dtype.is_numeric() or column.dtype.is_temporal()) or column.dtype == pl.Boolean:
        return None
    if (seen is None or seen.is_sorted) and _is_sorted(column):
        steps = column.to_physical().cast(pl.Float64).diff().drop_nulls()
        if bool((steps == steps[0]).all()):
            return "a number that grows by equal steps with the row", ""
        return (f"{ID}, and ascends with the row", "") if named else ("", "ascends with the row")
    repeats = seen is not None and seen.different < min(count, SAMPLE)
    if column.dtype.is_integer() and (named or count > SAMPLE // 10) and not repeats and _is_unique(column):
        return (f"{ID}, and different in every row", "") if named else ("", "is a different whole number in every row")
    return None


def _text_tells_row(column: "pl.Series", named: bool) -> tuple[str, str] | None:
    """Texts that are different in every row are names, unless they have blanks, as sentences do, or are numbers."""
    first = column.head(FEWEST_ROWS).str.strip_chars()
    if _share(first, r"^\d{4}-\d{2}-\d{2}") == 1 and first.is_sorted() and column.is_sorted() and _is_unique(column):
        return "", "ascends with the row"
    is_number = not named and _share(first, NUMBER_OR_DATE) > 0.5
    if first.n_unique() < len(first) or is_number or column.n_unique() < len(column):
        return None
    if _share(first, r"\s") > 0.5 and _share(first, r"[^\W\d_]{2}") > 0.5:
        return "", f"is a different text in every row: if it is the text to classify, name it with --text {column.name}"
    return "a different text in every row" + (f", and {ID}" if named else ""), ""


def _share(texts: "pl.Series", pattern: str) -> float:
    return int(texts.str.contains(pattern).sum()) / len(texts)


def _is_sorted(column: "pl.Series") -> bool:
    """Whether every value is above the one before it, or every one below."""
    few = column.head(FEWEST_ROWS).to_physical().to_numpy()
    steps = np.diff(few.astype(np.float64))
    if not ((steps > 0).all() or (steps < 0).all()):
        return False
    whole = column.to_physical()
    return bool((whole.is_sorted() or whole.is_sorted(descending=True)) and _is_unique(column))


def _is_unique(column: "pl.Series") -> bool:
    few = column.head(SAMPLE)
    return few.n_unique() == len(few) and column.n_unique() == len(column)


def _tells_label(column: "pl.Series", labels: np.ndarray[Any, Any], target: "pl.Series") -> tuple[str, str] | None:
    """A column each of whose values, with several rows each, stands with one label alone."""
    count = len(column)
    some = _spread(count)
    values = _codes(column if len(some) == count else column.gather(some))
    different = int(values.max()) + 1
    if different < 2 or 2 * different > len(some) or max(_hits(values, labels[some]), _hits(labels[some], values)) < MOST_HITS:
        return None
    values, classes = _codes(column), int(labels.max()) + 1
    different, hits = int(values.max()) + 1, _hits(values, labels)
    if 2 * different > count or classes < 2:
        return None
    if hits == 1 and different == classes and (classes > 2 or _is_same_text(column, target) or _is_named_label(column.name)):
        return "a copy of the label", ""
    if hits == 1:
        return "", f"alone tells the label: each of its {different:,} values stands with one class"
    if _hits(labels, values) == 1 and classes > 2:
        return "", "has one value in all rows of a class"
    return (
        ("", f"tells the label of {hits:.0%} of the rows") if hits >= MOST_HITS and np.bincount(labels).max() < MOST_HITS * count else None
    )


def _hits(values: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """The share of rows whose label is guessed right by the commonest label of their value."""
    pairs, counts = np.unique(values.astype(np.int64) * (int(labels.max()) + 1) + labels, return_counts=True)
    best = np.zeros(int(values.max()) + 1, dtype=np.int64)
    np.maximum.at(best, pairs // (int(labels.max()) + 1), counts)
    return float(best.sum()) / len(values)


def _is_named_label(name: str) -> bool:
    return bool(set(re.findall(r"[a-z]+", name.lower())) & LABEL_WORDS)


def _is_same_text(column: "pl.Series", target: "pl.Series") -> bool:
    import polars as pl

    def plain(series: "pl.Series") -> "pl.Series":
        text = series.cast(pl.String, strict=False)
        return text.str.strip_chars().str.to_lowercase().str.replace(r"\.0$", "")

    try:
        return bool((plain(column) == plain(target)).all())
    except pl.exceptions.PolarsError:
        return False


def _codes(column: "pl.Series") -> np.ndarray[Any, Any]:
    """Each value as the number of it among the different ones; 0 for all of a type that has no order."""
    import polars as pl

    if column.dtype.is_nested() or column.dtype == pl.Binary or column.dtype == pl.Object:
        return np.zeros(len(column), dtype=np.int64)
    if len(column) <= SAMPLE and column.dtype.is_numeric() and not column.null_count():  # of few values, NumPy's start is shorter
        return np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.int64)
    return column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - (0 if column.null_count() else 1)


def split_role(frame: "pl.DataFrame", columns: Columns) -> str | None:
    """The column that says which split a row is in: the one asked for, or one called split whose values all name splits."""
    import polars as pl

    if columns.split is not None:
        return columns.split
    named = [
        name
        for name in frame.columns
        if name.lower() in SPLIT_NAMES and name not in (columns.target, columns.text, columns.id, columns.image)
    ]
    for name in named:
        if name not in columns.drop and frame[name].dtype == pl.String and not frame[name].null_count():
            found = {split_of(value) for value in frame[name].unique().to_list()}
            if None not in found and "train" in found:
                return name
    return None


def target_of(names: list[str], target: str | None) -> str:
    """The column of labels: the one asked for, else one with its name. Raises UnseenError that says what is there."""
    guess = next((column for column in TARGETS if column in names), None)
    if (target or guess) not in names and any(re.fullmatch(r"[-+]?[\d.,]*\d", name) for name in names):
        raise UnseenError(
            f"The table has no column of labels, and its first line, {', '.join(map(shortened, names[:3]))}, …, has numbers. If it is "
            "no header, call columns column_1, column_2, …: --target column_1 (target=). Else name the column of labels so."
        )
    return existing("target", target or guess, names)


def existing(keyword: str, column: str | None, allowed: list[str]) -> str:
    """The column, which must be there. Raises UnseenError that names those that are."""
    if column is None or column not in allowed:
        found = f"no column {column!r} for {keyword}" if column else f"no column for {keyword}: none is called label, labels or target"
        shown = ", ".join(map(shortened, allowed[:20])) + (f" and {len(allowed) - 20:,} more" if len(allowed) > 20 else "")
        likely = (
            next((name for name in allowed if name.lower() in (*TARGETS, "class", "category", "y")), "COLUMN") if not column else "COLUMN"
        )
        flag = "" if keyword.startswith("--") else f" (--{keyword.replace('_', '-')} {likely})"
        raise UnseenError(f"The table has {found}. Allowed: {shown}. Give {keyword.split(' ')[0]}={likely}{flag}.")
    return column
