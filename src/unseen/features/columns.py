"""Vectors that the user has already, in a column of a table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl


def vectors(table: Any, column: str, index: Tensor) -> Tensor:
    """Float32 (n, d): the vectors of the rows ``index`` of a data frame (Polars, pandas), or of a .parquet or .csv file.

    A cell is a list of numbers, or its text, ``[0.1, 0.2]``.

    Raises: UnseenError for no table, no such column or row, cells that are not numbers, or of several lengths.
    """
    frame = _frame(table, column)
    if column not in frame.columns:
        raise UnseenError(f"There is no column {column!r}. The columns are {', '.join(frame.columns)}. Name one of vectors.")
    rows = index.cpu().tolist()
    if rows and max(rows) >= len(frame):
        raise UnseenError(
            f"The table has {len(frame)} rows, and an example has the index {max(rows)}. Give the table that the data come from."
        )
    try:
        cells = [_numbers(cell) for cell in frame[column].to_list()]
    except (TypeError, ValueError) as error:
        raise UnseenError(f"The column {column!r} does not hold lists of numbers ({error}). Allowed: lists such as [0.1, 0.2].") from error
    lengths = sorted({len(cell) for cell in cells})
    if len(lengths) != 1:
        raise UnseenError(
            f"The vectors of {column!r} have {lengths[0]} to {lengths[-1]} numbers. Allowed: the same in all rows. Look at them."
        )
    return torch.from_numpy(np.array(cells, np.float32))[rows]


def _frame(table: Any, column: str) -> "pl.DataFrame":
    import polars as pl

    if table is None:
        raise UnseenError(
            f"The features 'column:{column}' need a table. Give the .parquet or .csv file, or a data frame, that has the column."
        )
    if isinstance(table, str | Path):
        path = Path(table)
        if not path.is_file():
            raise UnseenError(f"There is no file {path}. Give the .parquet or .csv file that has the column {column!r}.")
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    return table if isinstance(table, pl.DataFrame) else pl.from_pandas(table)


def _numbers(cell: Any) -> list[float]:
    values = json.loads(cell) if isinstance(cell, str) else cell
    return [float(value) for value in values]
