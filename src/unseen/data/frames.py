"""Data frames to examples: CSV, parquet, the hub's data sets. Columns become features, or one holds pictures.

``Raw`` is what every reader, here and in ``sources``, returns. Nothing is decoded, checked or standardised
beyond what the format itself asks for; ``unseen.data.load`` does that for all alike.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.images import Pictures
from unseen.data.text import bags
from unseen.errors import UnseenError
from unseen.runs import inside, refuse_large

if TYPE_CHECKING:
    import polars as pl

TARGETS = ("label", "labels", "target")
IMAGES = ("image", "img")
TEST_SPLITS = ("test", "val", "valid", "validation")
LARGEST_VOCABULARY = 100


@dataclass(frozen=True)
class Raw:
    """A data set as its source gives it: N examples, train before test.

    Args:
        name: of the set.
        inputs: a tensor in the layout of ``images.channels_first``, or pictures.
        labels: N integers or texts.
        test: bool (N,), or None where the source has no test split.
        ids: N texts, or None for row numbers.
        index: N integers given by the user, or None for positions.
        classes: names in order where the source declares them; integer labels then count into them.
        columns: names of the features, for error messages.
        texts: N texts, where these are the inputs; ``inputs`` then are their ``bags``.
    """

    name: str
    inputs: Tensor | Pictures
    labels: Any
    test: Tensor | None = None
    ids: list[str] | None = None
    index: Any = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    texts: list[str] | None = None


@dataclass(frozen=True)
class Table:
    """A data frame that was read already. metadata: what the hub wrote into its file, JSON."""

    name: str
    frame: "pl.DataFrame"
    metadata: str = "{}"


@dataclass(frozen=True)
class Columns:
    """The user's names for columns; None leaves the choice to the reader."""

    target: str | None = None
    image: str | None = None
    id: str | None = None
    text: str | None = None


def csv(path: Path, columns: Columns) -> Raw:
    """A table with a header line, or without one where columns are named ``column_1``, ``column_2``, …; .tsv is split at tabs."""
    import polars as pl

    numbered = [re.fullmatch(r"column_\d+", name or "") for name in (columns.target, columns.text, columns.id)]
    options: dict[str, Any] = {"separator": "\t", "quote_char": None} if path.suffix == ".tsv" else {}  # a .tsv has no quoting
    try:
        frame = pl.read_csv(path, infer_schema_length=None, has_header=not any(numbered), **options)
        frame.columns = [f"column_{place}" for place in range(1, frame.width + 1)] if any(numbered) else frame.columns
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnseenError(f"Cannot read the table {path}: {error}. Repair the file.") from error
    return table(frame, path.stem, columns)


def parquet(path: Path, columns: Columns) -> Raw:
    """A parquet file of features, or of pictures and labels."""
    return parquet_splits(path.stem, [path], [], columns)


def parquet_splits(name: str, train: list[Path], test: list[Path], columns: Columns) -> Raw:
    """The parquet files of a train split and, where there is one, of a test split."""
    import polars as pl

    try:
        for file in train + test:
            refuse_large(file, file)
        frames = [pl.read_parquet(file) for file in train + test]
        frame = pl.concat(frames)
        metadata = pl.read_parquet_metadata(train[0]).get("huggingface", "{}")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnseenError(f"Cannot read {train[0]}: {error}. Repair the file, or get it again.") from error
    classes = declared_classes(metadata)
    rows = sum(len(part) for part in frames[: len(train)])
    return table(frame, name, columns, split_mask(len(frame), rows) if test else None, classes, base=train[0].parent)


def declared_classes(metadata: str) -> dict[str, list[str]]:
    """Names of the classes by column, as the hub writes them into a file; none from anything else, which is not ours to judge."""
    try:
        features = json.loads(metadata)["info"]["features"]
        found = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if isinstance(names, list) and all(isinstance(name, str) for name in names)}


def hub(dataset: Any, name: str, columns: Columns) -> Raw:
    """A ``datasets.Dataset``, or a ``DatasetDict`` with train and, where there is one, test or validation."""
    import datasets

    splits = {"train": dataset} if isinstance(dataset, datasets.Dataset) else dict(dataset)
    if "train" not in splits:
        raise UnseenError(f"{name} has the splits {', '.join(splits)}. Allowed: one named train. Pass one alone.")
    train, test = splits["train"], next((splits[split] for split in TEST_SPLITS if split in splits), None)
    whole = train if test is None else datasets.concatenate_datasets([train, test])
    mask = None if test is None else split_mask(len(whole), len(train))
    classes = {column: getattr(feature, "names", None) for column, feature in whole.features.items()}
    images = [column for column, feature in whole.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        return table(whole.to_polars(), name, columns, mask, classes)
    image = _existing("image_column", columns.image or images[0], images)
    # The pictures stay where they are, memory-mapped; only the other columns are read.
    encoded = whole.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    pictures = Pictures(partial(_pick_column, encoded, image), _rows(name, len(whole)))
    others = whole.remove_columns(images).to_polars()
    return table(others, name, replace(columns, image=None), mask, classes, pictures)


def table(
    frame: "pl.DataFrame",
    name: str,
    columns: Columns,
    test: Tensor | None = None,
    classes: dict[str, Any] | None = None,
    pictures: Pictures | None = None,
    base: Path | None = None,
) -> Raw:
    """A data frame: the target; ``index`` and an id where there are any; a column of pictures, or else features."""
    target = _target(frame, columns.target)
    ids = _values(frame, _existing("id_column", columns.id, frame.columns)) if columns.id else None
    texts = _texts(frame, columns.text) if columns.text else None
    image = _image_column(frame, columns.image)
    if image:
        pictures = Pictures(partial(_pick_rows, frame[image], base), _rows(name, len(frame)))
    features = frame.drop([name for name in frame.columns if name in (target, "index", columns.id)])
    inputs, names = (bags(texts), []) if texts is not None else (pictures, []) if pictures else encode(features)
    return Raw(
        name=name,
        inputs=inputs,
        labels=_values(frame, target),
        test=test,
        ids=None if ids is None else [str(value) for value in ids],
        index=_values(frame, "index") if "index" in frame.columns else None,
        classes=tuple(classes[target]) if classes and classes.get(target) else None,
        columns=tuple(names),
        texts=texts,
    )


def _texts(frame: "pl.DataFrame", name: str) -> list[str]:
    import polars as pl

    column = frame[_existing("text", name, frame.columns)]
    if column.dtype != pl.String:
        raise UnseenError(f"Column {name!r} has type {column.dtype}. Allowed for text: strings. Name another column with --text.")
    return _values(frame, name)


def encode(frame: "pl.DataFrame") -> tuple[Tensor, list[str]]:
    """Features of a table: float32 (rows, features) and their names.

    Numbers stay as they are, truth values become 0 and 1, and a text column becomes one feature per value, named
    ``column=value``, for up to 100 values. Missing values and other types are refused by name.
    """
    import polars as pl

    if not frame.width:
        raise UnseenError("The table has no column besides the target. Allowed: at least one feature. Add its inputs.")
    if not frame.height:
        return torch.empty(0, frame.width), frame.columns  # `load` says that it is empty
    features: dict[str, Any] = {}
    for column in frame:
        _refuse_missing(column)
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            features[column.name] = column.cast(pl.Float32).to_numpy()
        else:
            values = _vocabulary(column)
            text = column.cast(pl.String)
            features |= {f"{column.name}={value}": (text == value).to_numpy() for value in values}
    inputs = np.stack(list(features.values()), 1).astype(np.float32, copy=False)
    return torch.from_numpy(inputs), list(features)


def split_mask(count: int, train: int) -> Tensor:
    """True from position ``train`` on: bool (count,)."""
    return torch.arange(count) >= train


def _vocabulary(column: "pl.Series") -> list[str]:
    import polars as pl

    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise UnseenError(
            f"Column {column.name!r} has type {column.dtype}. Allowed: numbers, truth values, short texts, or one "
            "column of images (image_column=). Convert or drop it."
        )
    values = sorted(column.cast(pl.String).unique().to_list())
    if len(values) > LARGEST_VOCABULARY:
        raise UnseenError(
            f"Column {column.name!r} has {len(values)} different texts, such as {values[0]!r}. Allowed: up to "
            f"{LARGEST_VOCABULARY}. Convert it to numbers, drop it, or name it as the id column (id_column=)."
        )
    return values


def _target(frame: "pl.DataFrame", target: str | None) -> str:
    guess = next((column for column in TARGETS if column in frame.columns), None)
    return _existing("target", target or guess, frame.columns)


def _image_column(frame: "pl.DataFrame", image: str | None) -> str | None:
    """The column of pictures: the one asked for, or one of bytes."""
    import polars as pl

    if image is not None:
        return _existing("image_column", image, frame.columns)
    encoded = [name for name, kind in frame.schema.items() if kind == pl.Binary or "bytes" in _fields(kind)]
    return next((name for name in (*IMAGES, *encoded) if name in encoded), None)


def _fields(kind: "pl.DataType") -> list[str]:
    return [field.name for field in getattr(kind, "fields", [])]


def _existing(keyword: str, column: str | None, allowed: list[str]) -> str:
    if column is None or column not in allowed:
        found = f"has no column {column!r}" if column else "needs a column named"
        raise UnseenError(f"The data {found} for {keyword}. Allowed: {', '.join(allowed)}. Give {keyword}=COLUMN.")
    return column


def _values(frame: "pl.DataFrame", name: str) -> list[Any]:
    _refuse_missing(frame[name])
    return frame[name].to_list()


def _refuse_missing(column: "pl.Series") -> None:
    if not column.name:
        raise UnseenError("The table has a column without a name (row numbers?). Name it `index` or drop it.")
    if column.null_count():
        raise UnseenError(
            f"Column {column.name!r} has {column.null_count()} missing values, the first in row "
            f"{column.is_null().arg_max()}. Allowed: none. Fill them in or drop those rows."
        )


def _rows(name: str, count: int) -> list[str]:
    return [f"{name}, row {row}" for row in range(count)]


def _pick_rows(column: "pl.Series", base: Path | None, positions: list[int]) -> list[Any]:
    return [_picture(cell, base) for cell in column.gather(positions).to_list()]


def _picture(cell: Any, base: Path | None) -> Any:
    """A cell of pictures; a path in it leads to a file below the table's own folder. Raises UnseenError for one that leads elsewhere."""
    if isinstance(cell, dict) and not cell.get("bytes") and isinstance(cell.get("path"), str):
        return inside(base or Path(), cell["path"])
    return cell


def _pick_column(dataset: Any, column: str, positions: list[int]) -> list[Any]:
    return list(dataset[positions][column])
