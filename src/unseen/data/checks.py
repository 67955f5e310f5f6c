"""Checks of what a source gave: ids, index and numbers that cannot be used are refused by place and value."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.images import Lazy
from unseen.data.labels import one_each
from unseen.data.raw import Raw
from unseen.errors import UnseenError
from unseen.hashing import LARGEST_INDEX

CHUNK = 4096


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
    array = one_each(values)
    if len(array) != count:
        raise UnseenError(f"Got {len(array)} index values for {count} examples. Allowed: one each. Match them.")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        kind = f"{array.dtype}" if array.ndim == 1 else f"rows of {array.shape[1]}"
        raise UnseenError(f"The index is of type {kind}, such as {str(array[0])[:40]}. Allowed: integers, one each. Convert it.")
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


def check_finite(inputs: Tensor | Lazy, ids: list[str], columns: tuple[str, ...]) -> None:
    """Refuse NaN and infinity in held inputs (N, ...), by id and column."""
    if isinstance(inputs, Lazy) or not inputs.is_floating_point():
        return
    for start in range(0, len(inputs), CHUNK):
        wrong = (~torch.isfinite(inputs[start : start + CHUNK].float())).nonzero()  # beyond float32's range, too
        if len(wrong):
            row, *place = wrong[0].tolist()
            where = f"column {columns[place[0]]!r}" if columns else f"position {tuple(place)}"
            value = inputs[(start + row, *place)].item()
            raise UnseenError(
                f"The input of {ids[start + row]} is {value} at {where}. Allowed: finite float32 numbers. Fill in or drop such values."
            )
