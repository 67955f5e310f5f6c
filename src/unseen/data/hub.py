"""Data sets of the package ``datasets``, in memory or from the Hugging Face hub."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unseen.data.columns import existing
from unseen.data.csvs import TARGETS
from unseen.data.frames import likeliest, row_names, split_mask, table
from unseen.data.images import Pictures
from unseen.data.raw import Columns, Raw
from unseen.data.reading import Reading, Skipped
from unseen.data.split_names import ORDER, split_of
from unseen.errors import UnseenError, needs

HUB = "hf:"
"""What a name begins with that the hub is asked for."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def from_hub(name: str, columns: Columns) -> Raw:
    """A data set by its hub id: ``owner/name``, or ``owner/name@revision`` of a branch, a tag or a commit; the reading says which commit.

    Raises:
        UnseenError: where it cannot be had, or the cache gave another commit than the one asked for, as it does without a connection.
    """
    try:
        import datasets
    except ImportError as error:
        raise needs("hub", error) from error
    name, _, revision = name.partition("@")
    try:
        dataset = datasets.load_dataset(name, revision=revision or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnseenError(
            f"Cannot load hf:{name}{f' at {revision}' if revision else ''}: {error}. Check the id at https://huggingface.co/datasets and "
            "the connection, or load it yourself and pass the datasets.DatasetDict."
        ) from error
    found = commit_of(dataset)
    if COMMIT.fullmatch(revision) and found not in (None, revision):
        raise UnseenError(
            f"hf:{name} was asked for at {revision}, and without a connection the cache gave {found}. Connect, or score that one anew."
        )
    commit = found or (revision if COMMIT.fullmatch(revision) else None)
    raw = hub(dataset, name, columns)
    said = () if commit else (f"The commit of hf:{name} is not known, so that a later command may get other rows. Give it as @REVISION.",)
    return replace(raw, reading=replace(raw.reading.noting(*said), revision=commit))


def commit_of(dataset: Any) -> str | None:
    """The commit of the hub that a data set's files are of, by the folders of the cache that they lie in; None where these say none."""
    splits = dataset.values() if isinstance(dataset, dict) else [dataset]
    files = [Path(str(file["filename"])) for split in splits for file in split.cache_files]
    found = {next((part for part in reversed(file.parts) if COMMIT.fullmatch(part)), None) for file in files}
    return found.pop() if len(found) == 1 else None


def pinned(data: str, revision: str | None) -> str:
    """The name of a data set with the commit that was read, so that a later command reads the same one; other data as they are.

    >>> pinned("hf:owner/name@main", "0" * 40)[:20]
    'hf:owner/name@000000'
    """
    return f"{data.partition('@')[0]}@{revision}" if data.startswith(HUB) and revision else data


def hub(dataset: Any, name: str, columns: Columns) -> Raw:
    """A ``datasets.Dataset``, or a ``DatasetDict`` with train and any other splits; those without labels are not read."""
    import datasets

    splits = {"train": dataset} if isinstance(dataset, datasets.Dataset) else dict(dataset)
    train = [split for split in splits if split_of(split) == "train"]
    if not train:
        raise UnseenError(f"{name} has the splits {', '.join(splits)}. Allowed: one named train. Pass one alone.")
    others, reasons = _other_splits(splits, train[0], columns)
    kept = [*train, *others]
    whole = splits[train[0]] if len(kept) == 1 else datasets.concatenate_datasets([splits[split] for split in kept])
    count = sum(len(splits[split]) for split in train)
    mask = split_mask(len(whole), count) if others else None
    skipped = [Skipped(reason, len(splits[split]), f"split {split!r}", "rows") for split, reason in reasons.items()]
    reading = Reading(
        kind="hub data set", found=sum(map(len, splits.values())), unit="rows", sources={split: len(splits[split]) for split in kept}
    ).skipping(skipped)
    classes = {column: getattr(feature, "names", None) for column, feature in whole.features.items()}
    images = [column for column, feature in whole.features.items() if isinstance(feature, datasets.Image)]
    if not images:
        return table(whole.to_polars(), name, columns, mask, classes, reading=reading)
    image = existing("image_column", columns.image or likeliest(images), images)
    if len(images) > 1:
        reading = reading.noting(f"The pictures are those of the column {image!r}, of {', '.join(images)} (--image-column gives another).")
    # The pictures stay where they are, memory-mapped; only the other columns are read.
    encoded = whole.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    pictures = Pictures(partial(_pick_column, encoded, image), row_names(name, len(whole)))
    others_only = whole.remove_columns(images).to_polars()
    return table(others_only, name, replace(columns, image=None), mask, classes, pictures, reading=reading)


def _other_splits(splits: dict[str, Any], train: str, columns: Columns) -> tuple[list[str], dict[str, str]]:
    """The splits that are measured, test before validation, and why others are not read: no name of a split, or no labels."""
    target = columns.target or next((name for name in TARGETS if name in splits[train].column_names), None)
    found, reasons = [], {}
    for split, part in splits.items():
        if split_of(split) is None:
            reasons[split] = "no name of a split"
        elif split_of(split) != "train" and target in part.column_names and _is_unlabelled(part, str(target)):
            reasons[split] = "without labels"
        elif split_of(split) != "train":
            found.append(split)
    return sorted(found, key=lambda split: ORDER.index(split_of(split) or "val")), reasons


def _is_unlabelled(part: Any, target: str) -> bool:
    """Whether all labels are missing, or -1, as the hub writes for a hidden test set."""
    values = part.unique(target)
    return len(part) > 0 and all(value is None or value == -1 for value in values)


def _pick_column(dataset: Any, column: str, positions: list[int]) -> list[Any]:
    return list(dataset[positions][column])
