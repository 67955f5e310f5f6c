"""Data frames to examples: CSV, parquet, pandas, Polars. Columns become features, or one holds pictures or their paths."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unseen.data.columns import Roles, existing, roles, split_role, target_of
from unseen.data.csvs import read_csv
from unseen.data.encoding import encode, refuse_missing, within_64_bits
from unseen.data.folders import IMAGE_SUFFIXES
from unseen.data.images import Pictures
from unseen.data.raw import Columns, Raw
from unseen.data.reading import ColumnReading, Reading, Skipped, tally
from unseen.data.split_names import split_of
from unseen.data.text import bags
from unseen.errors import UnseenError
from unseen.runs import inside, refuse_large

if TYPE_CHECKING:
    import polars as pl

IMAGES = ("image", "img", "picture", "photo")
PATHS = (*IMAGES, "file_name", "filename", "file", "path", "filepath", "file_path", "image_path", "img_path", "image_file", "image_name")
NO_IMAGES = ("mask", "label", "segmentation", "annotation", "depth", "target")
TEST_SPLITS = ("test", "val", "valid", "validation")
PROBED = 5  # paths that are looked at to see whether a column names pictures


def csv(path: Path, columns: Columns) -> Raw:
    """A table with a header line, or without one where columns are named ``column_1``, ``column_2``, …; see ``csvs``."""
    return csv_splits(path.stem, {path: "train"}, columns)


def csv_splits(name: str, files: dict[Path, str], columns: Columns) -> Raw:
    """CSV files of splits, train first. files: each with the split that it is of."""
    import polars as pl

    tables = [read_csv(path, columns) for path in files]
    if len({tuple(table.frame.columns) for table in tables}) > 1:
        first, other = (
            next(iter(files)),
            next(path for path, one in zip(files, tables, strict=True) if one.frame.columns != tables[0].frame.columns),
        )
        raise UnseenError(f"{first} and {other} have different columns. Allowed: the same in all files of a set. Make them alike.")
    frame = pl.concat([table.frame for table in tables], how="vertical_relaxed") if len(tables) > 1 else tables[0].frame
    sizes = [table.frame.height for table in tables]
    test = _test_mask(sizes, list(files.values()))
    first_path, dialect = next(iter(files)), tables[0].dialect
    reading = Reading(
        kind="CSV table" if len(files) == 1 else "CSV tables",
        found=sum(table.found for table in tables),
        unit="rows",
        sources={path.name: size for path, size in zip(files, sizes, strict=True)},
        notes=tuple(dict.fromkeys(note for table in tables for note in table.dialect.notes)),
        skipped=tuple(part for table in tables for part in table.skipped),
    )
    return table(frame, name, columns, test, base=first_path.parent, reading=reading, separator=dialect.separator)


def parquet(path: Path, columns: Columns) -> Raw:
    """A parquet file of features, or of pictures and labels."""
    return parquet_splits(path.stem, [path], [], columns)


def parquet_splits(name: str, train: list[Path], test: list[Path], columns: Columns, skipped: Sequence[Skipped] = ()) -> Raw:
    """The parquet files of a train split and, where there is one, of the others."""
    import polars as pl

    read = train[0]
    try:
        frames = []
        for read in train + test:
            refuse_large(read, read, copies=2)  # the table, and what is made of it
            frames.append(pl.read_parquet(read))
        frame = pl.concat(frames)
        metadata = pl.read_parquet_metadata(train[0]).get("huggingface", "{}")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnseenError(f"Cannot read {read}: {str(error).splitlines()[0]}. Repair the file, or get it again.") from error
    rows = sum(len(part) for part in frames[: len(train)])
    reading = Reading(
        kind="parquet table" if len(frames) == 1 else "parquet tables",
        found=len(frame),
        unit="rows",
        sources={file.name: len(part) for file, part in zip(train + test, frames, strict=True)},
        skipped=tuple(skipped),
    )
    return table(
        frame,
        name,
        columns,
        split_mask(len(frame), rows) if test else None,
        declared_classes(metadata),
        base=train[0].parent,
        reading=reading,
    )


def declared_classes(metadata: str) -> dict[str, list[str]]:
    """Names of the classes by column, as the hub writes them into a file; none from anything else, which is not ours to judge."""
    try:
        features = json.loads(metadata)["info"]["features"]
        found = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if isinstance(names, list) and all(isinstance(name, str) for name in names)}


def likeliest(images: list[str]) -> str:
    """Which of several columns of pictures is the input: one named so, else one that is not named as a mask."""
    named = [column for name in IMAGES for column in images if column.lower() == name]
    other = [column for column in images if not any(word in column.lower() for word in NO_IMAGES)]
    return (named or other or images)[0]


def table(
    frame: "pl.DataFrame",
    name: str,
    columns: Columns,
    test: Tensor | None = None,
    classes: dict[str, Any] | None = None,
    pictures: Pictures | None = None,
    base: Path | None = None,
    reading: Reading | None = None,
    separator: str | None = None,
) -> Raw:
    """A data frame: the target; ``index``, an id, a split; a column of pictures or of their paths, or of texts, or else features.

    Args:
        frame: the rows.
        name: of the set.
        columns: the user's words on them.
        test: rows of the test split, where the source has one.
        classes: declared ones by column.
        pictures: of the rows, where they are no column.
        base: the folder that paths of pictures start from.
        reading: the record so far.
        separator: of the CSV that the frame was read from.
    """
    names = list(frame.columns)
    for dropped in columns.drop:
        existing("--drop (drop=)", dropped, names)
    target = target_of(names, columns.target)
    used = {target: "target"}
    ids = _values(frame, existing("id_column", columns.id, names)) if columns.id else None
    texts = _texts(frame, columns.text) if columns.text else None
    split = split_role(frame, columns)
    used |= {str(column): role for column, role in ((columns.id, "id"), (columns.text, "text"), (split, "split")) if column}
    used |= {"index": "index"} if "index" in names and "index" not in columns.drop else {}
    reading = reading or Reading(kind="table", found=len(frame), unit="rows")
    image = None if texts is not None or pictures else _image_column(frame, columns, used)
    if image:
        pictures = _pictures(frame, image, name, base)
        used[image] = "image"
    test, ids, reading = _split(frame, split, columns, test, ids, reading)
    found, inputs, names_of_features = _inputs(frame, target, columns, used, texts, pictures, separator)
    reading = _recorded(reading, found, inputs is not None, names_of_features)
    return Raw(
        name=name,
        inputs=bags(texts) if texts is not None else pictures if pictures else inputs,  # type: ignore[arg-type]
        labels=_values(frame, target),
        test=test,
        ids=None if ids is None else [str(value) for value in ids],
        index=_values(frame, "index") if "index" in used else None,
        classes=tuple(classes[target]) if classes and classes.get(target) else None,
        columns=tuple(names_of_features.values) if inputs is not None and names_of_features else (),
        texts=texts,
        target=target,
        reading=reading,
    )


def _inputs(
    frame: "pl.DataFrame", target: str, columns: Columns, used: dict[str, str], texts: Any, pictures: Pictures | None, separator: str | None
) -> tuple[Roles, Tensor | None, Any]:
    """What becomes of the columns, and the features that they become where there are neither texts nor pictures."""
    if texts is not None or pictures is not None:
        found = Roles()
        what = "texts" if texts is not None else "pictures"
        for column in frame.get_columns():
            if column.name in used:
                found.readings.append(ColumnReading(column.name, str(column.dtype), used[column.name]))
            else:
                found.leave_out(column, f"beside the {what}, which are the only inputs")
        return found, None, None
    import polars as pl

    frame, notes = within_64_bits(frame, used)
    found = roles(frame, target, columns, used)
    found.notes += notes
    series = {column.name: column for column in frame.get_columns()}  # a selection of 10,000 names is slow
    features, encoded = encode(pl.DataFrame({name: series[name] for name in found.features}), separator, columns.whole)
    return found, features, encoded


def _recorded(reading: Reading, found: Roles, has_features: bool, encoded: Any) -> Reading:
    """The record with what became of each column."""
    columns = (*found.readings, *(encoded.readings if has_features and encoded else ()))
    notes = encoded.notes if has_features and encoded else ()
    reading = replace(reading, columns=(*reading.columns, *columns)).noting(*found.notes, *notes).suspecting(*found.suspicious)
    return reading.skipping(tally(found.left_out, "columns"))


def _split(
    frame: "pl.DataFrame", split: str | None, columns: Columns, test: Tensor | None, ids: Any, reading: Reading
) -> tuple[Tensor | None, Any, Reading]:
    """Rows of the test split by the column that says so; ids are row numbers then, as train does not stand first."""
    if split is None:
        return test, ids, reading
    names = _values(frame, existing("split_column", split, list(frame.columns)))
    unknown = next((place for place, value in enumerate(names) if split_of(str(value)) is None), None)
    if unknown is not None:
        raise UnseenError(
            f"Column {split!r} says {names[unknown]!r} in row {unknown}, which names no split. Allowed: train, test, val and the like. "
            "Correct it, or name another column with --split-column (split_column=)."
        )
    parts = [split_of(str(value)) for value in names]
    if "train" not in parts:
        raise UnseenError(
            f"Column {split!r} says of no row that it is trained on. Allowed: train for some rows. Name another with --split-column."
        )
    counts = {str(value): names.count(value) for value in dict.fromkeys(names)}
    said = reading.noting(f"The column {split!r} says which split a row is in.") if columns.split is None else reading
    mask = torch.tensor([part != "train" for part in parts], dtype=torch.bool)
    ids = [f"row/{row}" for row in range(len(names))] if ids is None else ids
    return (mask if mask.any() else None), ids, replace(said, sources=counts)


def _texts(frame: "pl.DataFrame", name: str) -> list[str]:
    import polars as pl

    column = frame[existing("text", name, list(frame.columns))]
    if column.dtype != pl.String:
        raise UnseenError(f"Column {name!r} has type {column.dtype}. Allowed for text: strings. Name another column with --text.")
    return _values(frame, name)


def split_mask(count: int, train: int) -> Tensor:
    """True from position ``train`` on: bool (count,)."""
    return torch.arange(count) >= train


def _test_mask(sizes: list[int], splits: list[str]) -> Tensor | None:
    """Rows of files that are not of the train split; None where all are."""
    if all(split == "train" for split in splits):
        return None
    return torch.cat([torch.full((size,), split != "train") for size, split in zip(sizes, splits, strict=True)])


def _image_column(frame: "pl.DataFrame", columns: Columns, used: dict[str, str]) -> str | None:
    """The column of pictures: the one asked for, one of bytes, or one of names of picture files."""
    import polars as pl

    if columns.image is not None:
        return existing("image_column", columns.image, list(frame.columns))
    kinds = frame.schema
    encoded = [name for name, kind in kinds.items() if name not in used and (type(kind) is pl.Binary or "bytes" in _fields(kind))]
    if encoded:
        return likeliest(encoded)
    texts = [name for name, kind in kinds.items() if type(kind) is pl.String and name not in used]
    named = [name for word in PATHS for name in texts if name.lower() == word]
    return next((name for name in named if name not in columns.drop and _names_pictures(frame[name])), None)


def _names_pictures(column: "pl.Series") -> bool:
    few = column.head(PROBED).drop_nulls().to_list()
    return bool(few) and all(Path(value).suffix.lower() in IMAGE_SUFFIXES for value in few)


def _pictures(frame: "pl.DataFrame", image: str, name: str, base: Path | None) -> Pictures:
    """The pictures of a column: encoded ones, or paths from the table's folder on. Raises UnseenError where most are not there."""
    import polars as pl

    column = frame[image]
    if column.dtype != pl.String:
        return Pictures(partial(_pick_rows, column, base), row_names(name, len(frame)))
    refuse_missing(column)
    paths = [_place(base, value) for value in column.to_list()]
    absent = [path for path in paths if not path.is_file()]
    if len(absent) > len(paths) // 2:
        raise UnseenError(
            f"{len(absent):,} of the {len(paths):,} pictures that column {image!r} names are not there, such as {absent[0]}. Allowed: "
            "paths relative to the table. Put the pictures there, or name another column with --image-column (image_column=)."
        )
    return Pictures(partial(_pick, paths), [str(path) for path in paths])


def _place(base: Path | None, value: str) -> Path:
    """Where a path of a table leads, one as Windows writes it too: below the table's folder. A frame of one's own may name any file."""
    if base is None:
        return Path(value)
    return inside(base, value if (base / value).is_file() else value.replace("\\", "/"))


def _fields(kind: "pl.DataType") -> list[str]:
    return [field.name for field in getattr(kind, "fields", [])]


def _values(frame: "pl.DataFrame", name: str) -> list[Any]:
    column = frame[name]
    refuse_missing(column)
    return column.to_list()


def row_names(name: str, count: int) -> list[str]:
    """What rows are called in messages."""
    return [f"{name}, row {row}" for row in range(count)]


def _pick(items: list[Any], positions: list[int]) -> list[Any]:
    return [items[position] for position in positions]


def _pick_rows(column: "pl.Series", base: Path | None, positions: list[int]) -> list[Any]:
    return [_picture(cell, base) for cell in column.gather(positions).to_list()]


def _picture(cell: Any, base: Path | None) -> Any:
    """A cell of pictures; a path in it leads to a file below the table's own folder. Raises UnseenError for one that leads elsewhere."""
    if isinstance(cell, dict) and not cell.get("bytes") and isinstance(cell.get("path"), str):
        return inside(base or Path(), cell["path"])
    return cell
