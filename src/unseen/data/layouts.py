"""Folders by what lies in them: IDX files, tables of splits, pictures that a table names, pictures in class folders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unseen.data.arrays import idx_folder
from unseen.data.columns import is_named_id
from unseen.data.csvs import TARGETS, read_csv
from unseen.data.dialect import is_csv
from unseen.data.folders import IMAGE_SUFFIXES, image_folder, is_system, members_of, walk
from unseen.data.frames import PATHS, csv_splits, parquet_splits, table
from unseen.data.images import Pictures
from unseen.data.raw import Columns, Raw
from unseen.data.reading import Reading, Skipped, tally
from unseen.data.split_names import ORDER, split_of_file
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

METADATA = ("metadata.csv", "metadata.parquet", "metadata.jsonl")
PATH_COLUMNS = ("file_name", *PATHS)


def folder(path: Path, columns: Columns) -> Raw:
    """A folder of IDX files, of parquet or CSV files (named after splits, or any), of pictures and a table, or of pictures by class."""
    if any(path.glob("*idx3-ubyte*")):
        return idx_folder(path)
    train, test = parquet_files(path)
    if train and train[0].name != "metadata.parquet":
        return parquet_splits(path.name, train, test, columns, _unread(path, [*train, *test]))
    if tables := metadata_files(path):
        return pictures_by_table(path, tables, columns)
    files, single = csv_files(path), picture_table(path)
    if (files or single) and not _has_classes(path):
        return _csv_folder(path, files, columns) if files else pictures_by_table(path, single, columns)
    return image_folder(path)


def parquet_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The parquet files of a folder, by name: those of the train split and of all others, test first; or all of them as the first.

    They lie in the folder itself, or in folders below it, as ``data/train-00000-of-00001.parquet`` or ``train/0.parquet``.
    """
    for pattern in ("*", "*/*"):
        if files := sorted(file for file in path.glob(pattern) if file.suffix.lower() == ".parquet" and not _is_hidden(file, path)):
            return _by_split(files, path)
    return [], []


def _by_split(files: Sequence[Path], path: Path) -> tuple[list[Path], list[Path]]:
    splits = {file: split_of_file(file.stem) or (split_of_file(file.parent.name) if file.parent != path else None) for file in files}
    train = [file for file, split in splits.items() if split == "train"]
    if not train:
        return list(files), []
    return train, [file for split in ORDER[1:] for file, found in splits.items() if found == split]


def csv_files(path: Path) -> dict[Path, str]:
    """The CSV files of a folder with their splits, train first; none where no file is named train."""
    files = sorted(file for file in path.iterdir() if file.is_file() and is_csv(file) and not is_system(file.name))
    splits = {file: split_of_file(file.stem) for file in files}
    if "train" not in splits.values():
        return {}
    return {file: str(split) for wanted in ORDER for file, split in splits.items() if split == wanted}


def _is_hidden(file: Path, path: Path) -> bool:
    return any(is_system(part) for part in file.relative_to(path).parts)


def _unread(path: Path, files: Sequence[Path]) -> list[Skipped]:
    """Files of a folder of tables that are none of those that are read."""
    read = set(files)
    found = [
        ("hidden or of the system" if _is_hidden(file, path) else "not one of the tables that are read", file.relative_to(path).as_posix())
        for file in sorted(path.rglob("*"))
        if file.is_file() and file not in read
    ]
    return list(tally(found))


def _csv_folder(path: Path, files: dict[Path, str], columns: Columns) -> Raw:
    """CSV files named after splits, of features or of pictures' paths, and what lies beside them."""
    raw = csv_splits(path.name, files, columns)
    named = map(Path, raw.inputs.names) if isinstance(raw.inputs, Pictures) else ()
    return replace(raw, reading=raw.reading.skipping(_unread(path, [*files, *named])))


def metadata_files(path: Path) -> dict[Path, str]:
    """The hub's metadata files, which name pictures, with their splits, train first."""
    found = {place / name: place for place in (path, *_folders(path)) for name in METADATA if (place / name).is_file()}
    splits = {file: (split_of_file(place.name) if place != path else None) or "train" for file, place in found.items()}
    return {file: split for wanted in ORDER for file, split in splits.items() if split == wanted}


def picture_table(path: Path) -> dict[Path, str]:
    """The one table of a folder that names pictures which are there; none where there are several."""
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not is_system(file.name)]
    named = [file for file in files if (is_csv(file) or file.suffix.lower() == ".parquet") and _names_a_picture(file)]
    return {named[0]: "train"} if len(named) == 1 else {}


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not is_system(entry.name))


def _has_classes(path: Path) -> bool:
    """Whether the pictures of a folder lie in folders of classes: then these tell the labels, not a table beside them."""
    try:
        members, _ = members_of(walk(path), path)
    except UnseenError:
        return False
    return len({member.label for member in members}) > 1


def _names_a_picture(file: Path) -> bool:
    """Whether some column of a table names a picture that is there."""
    try:
        frame = _frame(file, Columns())[0].head(1)
    except UnseenError:
        return False
    return (
        any(
            isinstance(value, str) and Path(value).suffix.lower() in IMAGE_SUFFIXES and (file.parent / value).is_file()
            for value in frame.row(0)
        )
        if len(frame)
        else False
    )


def pictures_by_table(path: Path, tables: dict[Path, str], columns: Columns) -> Raw:
    """Pictures named by tables, one for each split; ids are their paths, unless a column is named. Others are counted."""
    import polars as pl

    frames, reading, image = [], Reading(), ""
    for file in tables:
        frame, notes, skipped = _frame(file, columns)
        reading = reading.noting(*notes).skipping(skipped)
        image = columns.image or next((name for word in PATH_COLUMNS for name in frame.columns if name.lower() == word), "")
        if image not in frame.columns:
            raise UnseenError(
                f"{file} has the columns {', '.join(frame.columns)}. Allowed: one that names pictures. Name it with --image-column."
            )
        prefix = file.parent.relative_to(path).as_posix()
        moved = frame[image].cast(pl.String) if prefix == "." else (prefix + "/" + frame[image].cast(pl.String))
        frames.append(frame.with_columns(moved.alias(image)))
    whole = pl.concat(frames, how="diagonal_relaxed")
    target = columns.target or _only_target(whole, image, columns)
    test = [split != "train" for split, frame in zip(tables.values(), frames, strict=True) for _ in range(len(frame))]
    if target is not None and target != columns.target:
        reading = reading.noting(f"The labels are those of the column {target!r} (--target gives another).")
    found = len(whole) + sum(part.count for part in reading.skipped)
    reading = replace(reading, kind="pictures named by a table", found=found, unit="rows", sources=_sources(tables, frames))
    raw = table(whole, path.resolve().name, replace(columns, image=image, target=target), _mask(test), base=path, reading=reading)
    tree = walk(path)
    named = set(whole[image].to_list())
    lost = [("named by no table", "/".join(parts)) for parts in tree.pictures if "/".join(parts) not in named]
    others = [("not a picture", "/".join(parts)) for parts in tree.others if path.joinpath(*parts) not in tables]
    hidden = [("hidden or of the system", "/".join(parts)) for parts in tree.hidden]
    reading = raw.reading.skipping(tally([*lost, *others, *hidden]))
    return replace(raw, reading=reading, ids=raw.ids or _unique(whole[image].to_list()))


def _only_target(frame: "pl.DataFrame", image: str, columns: Columns) -> str | None:
    """The target where the table has one column besides the picture's, whatever its name; None leaves the choice to the reader."""
    names = [name for name in frame.columns if name not in (image, columns.id, columns.split, columns.text) and not is_named_id(name)]
    return names[0] if len(names) == 1 and not set(TARGETS) & set(names) else None


def _unique(paths: list[str]) -> list[str] | None:
    return paths if len(set(paths)) == len(paths) else None


def _sources(tables: dict[Path, str], frames: Sequence["pl.DataFrame"]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (file, split), frame in zip(tables.items(), frames, strict=True):
        counts[f"{split} ({file.name})"] += len(frame)
    return dict(counts)


def _frame(file: Path, columns: Columns) -> tuple["pl.DataFrame", tuple[str, ...], tuple[Skipped, ...]]:
    """A table of any kind, what its reader notes, and its rows that are none."""
    import polars as pl

    if is_csv(file):
        table = read_csv(file, columns)
        return table.frame, table.dialect.notes, table.skipped
    try:
        return (pl.read_ndjson(file) if file.suffix == ".jsonl" else pl.read_parquet(file)), (), ()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnseenError(f"Cannot read the table {file}: {str(error).splitlines()[0]}. Repair the file.") from error


def _mask(values: list[bool]) -> "Tensor | None":
    return torch.tensor(values, dtype=torch.bool) if any(values) else None
