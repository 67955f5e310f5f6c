"""Texts, or rows of a table with what is unusual in them, for data that are no pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unseen.data import Examples, Lazy
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

LONGEST_TEXT = 20_000
MOST_FEATURES = 60
OUTER = 0.01  # a value below or above the outermost 1% of its column is marked, and a word that fewer rows than that have
USUAL, LOW, HIGH, SELDOM = " ", "-", "+", "~"


def rows(source: Any, positions: Sequence[int], examples: Examples | None = None) -> dict[str, Any] | None:
    """Texts or table rows, for data that are no pictures.

    Args:
        source: the path of a CSV, TSV or parquet file, a Polars frame, or a sequence of texts, in the order of the index; else the features
            of ``examples`` are shown, numbered.
        positions: index of the wanted ones.
        examples: the run's data, of which the features are shown where ``source`` gives nothing; None: nothing is.

    Returns:
        Names (empty for texts), rows: a list of cells, texts all, and marks: a text per row, a character per cell, which says whether it is
        usual, low, high or seldom in its column; None where there is nothing to show.
    """
    import polars as pl

    frame = _frame(source)
    if frame is not None:
        return _shown(frame.select(name for name in frame.columns if name != "index"), _places(frame, positions))
    if isinstance(source, Sequence) and not isinstance(source, str) and source and all(isinstance(text, str) for text in source[:8]):
        _check_positions(positions, len(source))
        return {"names": [], "rows": [[_cell(source[position])] for position in positions], "marks": []}
    if examples is None or len(examples.shape) != 1:
        return None
    places = {index: place for place, index in enumerate(examples.index.tolist())}
    inputs = examples.inputs.gather(torch.arange(len(examples))) if isinstance(examples.inputs, Lazy) else examples.inputs
    shown = pl.DataFrame({f"feature {k}": column.tolist() for k, column in enumerate(inputs[:, :MOST_FEATURES].T)})
    return _shown(shown, [places[position] for position in positions])


def texts(found: Sequence[str]) -> dict[str, Any]:
    """The same of texts that are at hand."""
    return {"names": [], "rows": [[_cell(text)] for text in found], "marks": []}


def _shown(frame: "pl.DataFrame", places: list[int]) -> dict[str, Any]:
    names = frame.columns[:MOST_FEATURES]
    wanted = frame.select(names)[places]
    marks = [_marks(frame[name], wanted[name]) for name in names]
    cells = [[_cell(cell) for cell in row] for row in wanted.iter_rows()]
    return {"names": names, "rows": cells, "marks": ["".join(row) for row in zip(*marks, strict=True)]}


def _marks(whole: "pl.Series", some: "pl.Series") -> list[str]:
    """A character for each value of ``some``: how usual it is in the whole column."""
    if whole.dtype.is_numeric():
        low, high = whole.quantile(OUTER), whole.quantile(1 - OUTER)
        if low is None or high is None:
            return [USUAL] * len(some)
        return [USUAL if value is None else LOW if value < low else HIGH if value > high else USUAL for value in some]
    words = whole.cast(str_type(), strict=False)
    counts = dict(words.value_counts().iter_rows())
    if len(counts) > len(words) / 2:  # names, not kinds
        return [USUAL] * len(some)
    return [SELDOM if counts.get(value, 0) < OUTER * len(words) else USUAL for value in some.cast(str_type(), strict=False)]


def str_type() -> Any:
    """What words are to Polars."""
    import polars as pl

    return pl.String


def _frame(source: Any) -> "pl.DataFrame | None":
    import polars as pl

    if isinstance(source, pl.DataFrame):
        frame = source
    elif isinstance(source, str | Path) and Path(source).suffix in (".csv", ".tsv") and Path(source).is_file():
        frame = pl.read_csv(source, separator="\t" if Path(source).suffix == ".tsv" else ",", infer_schema_length=None)
    elif isinstance(source, str | Path) and Path(source).suffix == ".parquet" and Path(source).is_file():
        frame = pl.read_parquet(source)
    else:
        return None
    return frame


def _places(frame: "pl.DataFrame", positions: Sequence[int]) -> list[int]:
    """Rows of these index: by the column ``index`` where there is one."""
    if "index" not in frame.columns:
        _check_positions(positions, len(frame))
        return list(positions)
    places = {index: place for place, index in enumerate(frame["index"].to_list())}
    missing = next((position for position in positions if position not in places), None)
    if missing is not None:
        raise UnseenError(f"The column index of data has no {missing}, which the run has. Allowed: the data the run was made of.")
    return [places[position] for position in positions]


def _check_positions(positions: Sequence[int], count: int) -> None:
    if len(positions) and max(positions) >= count:
        raise UnseenError(f"data has {count} rows, and the run has an example at {max(positions)}. Allowed: the data the run was made of.")


def _cell(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
