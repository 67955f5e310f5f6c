"""Checks of what a source gave: labels, ids, index and numbers that cannot be used are refused by place and value."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.frames import Raw
from unseen.data.images import Lazy
from unseen.errors import UnseenError
from unseen.hashing import LARGEST_INDEX

CHUNK = 4096


def encode_labels(values: Any, declared: tuple[str, ...] | None, ids: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Labels of any kind as int64 (N,) and the names of the classes.

    Integers count into ``declared`` classes, texts are looked up in them. Without them the sorted different values
    are the classes, texts that are all integers by their size.
    """
    array = _one_each(values)
    kinds = {type(value) for value in array} if array.dtype.kind == "O" else set()
    if array.dtype.kind not in "iubUT" and kinds != {str}:
        wrong = next((i for i, value in enumerate(array) if not isinstance(value, str | int | np.integer)), 0)
        raise _label_error(ids[wrong], array[wrong], "integers or texts, one class each", "Convert the labels.")
    if array.dtype.kind in "iu" and declared:
        wrong_ones = np.flatnonzero((array < 0) | (array >= len(declared)))
        if len(wrong_ones):
            allowed = f"0 to {len(declared) - 1}, for the classes {', '.join(declared)}"
            raise _label_error(ids[wrong_ones[0]], array[wrong_ones[0]], allowed, "Correct or drop it.")
        return torch.from_numpy(array.astype(np.int64)), declared
    found, codes = np.unique(array, return_inverse=True)
    names = [str(name) for name in found]
    order = list(declared) if declared else sorted(names, key=class_order(names))
    for name in set(names) - set(order):
        wrong = int(np.flatnonzero(codes == names.index(name))[0])
        raise _label_error(ids[wrong], name, ", ".join(order), "Correct or drop it.")
    places = {name: place for place, name in enumerate(order)}
    return torch.tensor([places[name] for name in names])[torch.from_numpy(codes)], tuple(order)


def _one_each(values: Any) -> Any:
    """The values as an array (N,); of objects where each is more than one, so that they are refused by place."""
    try:
        array = np.asarray(values)
    except ValueError:  # of different lengths
        array = None
    if array is not None and array.ndim == 1:
        return array
    each = list(values) if array is None or array.ndim else [values]
    found = np.empty(len(each), dtype=object)
    for place, value in enumerate(each):
        found[place] = value
    return found


def class_order(names: list[str]) -> Callable[[str], Any]:
    """What classes are sorted by: texts that are all integers by their size."""
    return int if all(name.removeprefix("-").isdecimal() for name in names) else str


def _label_error(example: str, value: object, allowed: str, step: str) -> UnseenError:
    kind = type(value).__name__
    return UnseenError(f"The label of {example} is {value!r}, of type {kind}. Allowed: {allowed}. {step}")


def checked_ids(raw: Raw) -> list[str]:
    """The user's ids, else row numbers: ``train/17`` and ``test/17``, or ``row/17`` where there is no test split."""
    count = len(raw.labels)
    for name in (*(raw.ids or ()), *({label for label in raw.labels if isinstance(label, str)} if isinstance(raw.labels, list) else ())):
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UnseenError(f"The name {name!r} is not UTF-8, so no table can hold it. Rename that file or folder.")
    if raw.ids is None and raw.test is None:
        return [f"row/{i}" for i in range(count)]
    if raw.ids is None:
        train = count - int(torch.as_tensor(raw.test).sum())
        return [f"train/{i}" if i < train else f"test/{i - train}" for i in range(count)]
    if len(raw.ids) != count:
        raise UnseenError(f"Got {len(raw.ids)} ids for {count} examples. Allowed: one each. Match them.")
    if (twice := _duplicate(raw.ids)) is not None:
        raise UnseenError(f"The id {twice!r} occurs twice. Allowed: one example per id. Choose another id column.")
    return raw.ids


def checked_index(values: Any, count: int, ids: list[str]) -> Tensor:
    """The user's index as int64 (N,), else positions."""
    if values is None:
        return torch.arange(count)
    array = _one_each(values)
    if len(array) != count:
        raise UnseenError(f"Got {len(array)} index values for {count} examples. Allowed: one each. Match them.")
    if array.dtype.kind not in "iu":
        raise UnseenError(f"The index is of type {array.dtype}, such as {array[0]!r}. Allowed: integers, one each. Convert it.")
    if array.min() < 0 or array.max() > LARGEST_INDEX:
        raise UnseenError(f"The index is {array.min()} to {array.max()}. Allowed: 0 to {LARGEST_INDEX}. Renumber it.")
    if (twice := _duplicate(array.tolist())) is not None:
        first = ids[array.tolist().index(twice)]
        raise UnseenError(f"The index {twice} occurs twice, first at {first}. Allowed: one example each. Renumber it.")
    return torch.from_numpy(array.astype(np.int64))


def _duplicate(values: list[Any]) -> Any:
    if len(set(values)) == len(values):
        return None
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def check_classes(train_labels: Tensor, classes: tuple[str, ...], limit: int | None) -> None:
    """A classifier needs two classes."""
    found = [classes[label] for label in sorted(set(train_labels.tolist()))]
    if len(found) < 2:
        step = f"The limit is {limit}: raise it" if limit else "Add a class, or name another target"
        raise UnseenError(f"The {len(train_labels)} train examples have the classes [{', '.join(found)}]. Allowed: two or more. {step}.")


def check_finite(inputs: Tensor | Lazy, ids: list[str], columns: tuple[str, ...]) -> None:
    """Refuse NaN and infinity in held inputs (N, ...), by id and column."""
    if isinstance(inputs, Lazy) or not inputs.is_floating_point():
        return
    for start in range(0, len(inputs), CHUNK):
        wrong = (~torch.isfinite(inputs[start : start + CHUNK])).nonzero()
        if len(wrong):
            row, *place = wrong[0].tolist()
            where = f"column {columns[place[0]]!r}" if columns else f"position {tuple(place)}"
            value = inputs[(start + row, *place)].item()
            raise UnseenError(
                f"The input of {ids[start + row]} is {value} at {where}. Allowed: finite float32 numbers. Fill in or drop such values."
            )
