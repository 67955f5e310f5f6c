"""Labels of any kind as classes: integers, texts, whole floats, one-hot and soft rows; quantities and several labels each are refused."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.errors import UnseenError

MOST_NUMBERS = 20  # different numbers with fractions that can be classes, such as stars from 0.5 to 5
MOST_CLASSES = 0.8  # classes over examples: above it, most examples have a class of their own
TOLERANCE = 1e-3  # by which a row of probabilities may miss 1
QUANTITY = "A quantity (regression) has no classes: name another target with --target, or cut it into classes."


@dataclass(frozen=True)
class Labels:
    """codes: int64 (N,), counting into ``classes``; notes: sentences on what was taken for what."""

    codes: Tensor
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def encode_labels(values: Any, declared: tuple[str, ...] | None, ids: list[str], name: str | None = None) -> Labels:
    """Labels as int64 (N,), the names of the classes, and what was done.

    Integers, and floats that are whole numbers, count into ``declared`` classes; texts are looked up in them. Without them the sorted
    different values are the classes, texts that are all numbers by their size. Rows of one-hot or soft labels, (N, classes), become the
    class of their largest value.

    Raises:
        UnseenError: , by the example, for a label that is none of these: a quantity, several labels, none.
    """
    array, notes = _flat(one_each(values), ids)
    array, said = _whole(array, ids, name)
    notes += said
    kinds = {type(value) for value in array} if array.dtype.kind == "O" else set()
    if array.dtype.kind not in "iubUT" and kinds != {str}:
        wrong = next((i for i, value in enumerate(array) if not isinstance(value, str | int | np.integer)), 0)
        raise _label_error(ids[wrong], array[wrong], "integers or texts, one class each", "Convert the labels.")
    if array.dtype.kind in "iu" and declared:
        wrong_ones = np.flatnonzero((array < 0) | (array >= len(declared)))
        if len(wrong_ones):
            allowed = f"0 to {len(declared) - 1}, for the classes {_few(declared)}"
            raise _label_error(ids[wrong_ones[0]], array[wrong_ones[0]], allowed, "Correct or drop it.")
        return Labels(torch.from_numpy(array.astype(np.int64)), declared, notes)
    found, codes = np.unique(array, return_inverse=True)
    names = [str(value) for value in found]
    _refuse_quantities(names, len(array), name)
    order = list(declared) if declared else sorted(names, key=class_order(names))
    for other in set(names) - set(order):
        wrong = int(np.flatnonzero(codes == names.index(other))[0])
        raise _label_error(ids[wrong], other, _few(order), "Correct or drop it.")
    places = {place_name: place for place, place_name in enumerate(order)}
    tensor = torch.tensor([places[place_name] for place_name in names])[torch.from_numpy(codes)]
    return Labels(tensor, tuple(order), (*notes, *_alike(names)))


def one_each(values: Any) -> Any:
    """The values as an array (N,), or (N, classes) of numbers; of objects where each is more than one, to be refused by place."""
    try:
        array = np.asarray(values)
    except ValueError:  # of different lengths
        array = None
    if array is not None and (array.ndim == 1 or (array.ndim == 2 and array.dtype.kind in "biuf")):
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    each = list(values) if array is None or array.ndim else [values]
    found = np.empty(len(each), dtype=object)
    for place, value in enumerate(each):
        found[place] = value
    return found


def _flat(array: Any, ids: list[str]) -> tuple[Any, tuple[str, ...]]:
    """Rows of one-hot or soft labels as the place of their largest value."""
    if array.ndim == 1:
        if array.dtype.kind == "O" and len(array) and all(isinstance(value, list | tuple | np.ndarray) for value in array):
            raise _several(ids[0], array[0])
        return array, ()
    numbers = array.astype(np.float64)
    sums, is_share = numbers.sum(1), ((numbers >= 0) & (numbers <= 1)).all(1)
    if not is_share.all():
        place = int(np.flatnonzero(~is_share)[0])
        raise UnseenError(
            f"Labels have shape {array.shape}, and that of {_id(ids, place)} is {numbers[place].tolist()}. Allowed: (N,), one class each, "
            "or rows of shares that sum to 1. Take the argmax of scores."
        )
    wrong = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if len(wrong):
        raise _several(_id(ids, int(wrong[0])), numbers[wrong[0]].tolist())
    if ((numbers == 0) | (numbers == 1)).all():
        return numbers.argmax(1), (f"Labels are one-hot, {array.shape[1]} wide: each is the class of its 1.",)
    ties = int(((numbers == numbers.max(1, keepdims=True)).sum(1) > 1).sum())
    said = f" In {ties:,} of them several are largest: the first counts." if ties else ""
    return numbers.argmax(1), (f"Labels are shares of {array.shape[1]} classes: each is the class of the largest share.{said}",)


def _id(ids: list[str], place: int) -> str:
    return ids[place] if place < len(ids) else f"row {place}"


def _several(example: str, value: object) -> UnseenError:
    return UnseenError(
        f"The label of {example} is {value!r}: none or several classes (multi-label). Allowed: integers or texts, one class each. "
        "Score one class at a time, as present or absent."
    )


def _whole(array: Any, ids: list[str], name: str | None) -> tuple[Any, tuple[str, ...]]:
    """Floats that are whole numbers as integers; floats with fractions are refused as what they are."""
    if array.dtype.kind == "O" and len(array) and all(isinstance(value, float | int | np.integer | np.floating) for value in array):
        array = np.asarray([math.nan if value is None else value for value in array])
    if array.dtype.kind != "f":
        return array, ()
    array = array.astype(np.float64, copy=False)
    wrong = np.flatnonzero(~np.isfinite(array) | (array != np.trunc(array)) | (np.abs(array) > 2**53))
    if len(wrong):
        different = len(np.unique(array))
        step = "Convert the labels."
        if np.isfinite(array).all() and different > 2:
            step = f"{_called(name)} has {different:,} different numbers. {QUANTITY}"
        raise _label_error(ids[wrong[0]], array[wrong[0]].item(), "integers or texts, one class each", step)
    return array.astype(np.int64), ("Labels are floats that are whole numbers: they are read as integers.",)


def _refuse_quantities(names: list[str], count: int, name: str | None) -> None:
    """A text target that is numbers with fractions, most of them different, is a quantity."""
    if len(names) > MOST_NUMBERS and all(map(_is_number, names)) and any(float(value) % 1 for value in names):
        raise UnseenError(
            f"{_called(name)} has {len(names):,} different numbers in {count:,} rows, such as {names[0]}. Allowed: classes. {QUANTITY}"
        )


def _called(name: str | None) -> str:
    return f"The target {name!r}" if name else "The target"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _alike(names: list[str]) -> tuple[str, ...]:
    """A note where classes differ in capitals or blanks alone."""
    seen: dict[str, str] = {}
    for one in names:
        other = seen.setdefault(" ".join(one.split()).casefold(), one)
        if other != one:
            return (f"The classes {other!r} and {one!r} differ in capitals or blanks alone; they are two classes.",)
    return ()


def class_order(names: Sequence[str]) -> Callable[[str], Any]:
    """What classes are sorted by: texts that are all numbers by their size, then as texts."""
    if all(len(name) < 300 and name.removeprefix("-").isdecimal() for name in names):
        return lambda name: (int(name), name)
    if all(map(_is_number, names)):
        return lambda name: (float(name), name)
    return str


def _label_error(example: str, value: object, allowed: str, step: str) -> UnseenError:
    kind = type(value).__name__
    return UnseenError(f"The label of {example} is {value!r}, of type {kind}. Allowed: {allowed}. {step}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def check_classes(train_labels: Tensor, classes: tuple[str, ...], limit: int | None, name: str | None = None) -> None:
    """A classifier needs two classes, and more than one example for most of them."""
    counts = torch.bincount(train_labels, minlength=len(classes)) if len(train_labels) else torch.zeros(len(classes), dtype=torch.int64)
    found = [classes[place] for place in counts.nonzero()[:, 0].tolist()]
    count = len(train_labels)
    if len(found) < 2:
        step = f"The limit is {limit}: raise it" if limit else "Add a class, or name another target"
        raise UnseenError(f"The {count} train examples have the classes [{_few(found)}]. Allowed: two or more. {step}.")
    if count > 2 and (len(found) == count or len(found) > max(MOST_NUMBERS, MOST_CLASSES * count)):
        numbers = all(map(_is_number, found))
        step = QUANTITY if numbers else "A name or an id of each example is no class: name another target with --target."
        every = f"Each of the {count:,} training examples has a class of its own"
        what = every if len(found) == count else f"{_called(name)} has {len(found):,} classes in {count:,} train examples"
        raise UnseenError(
            f"{what} ({found[0]!r}, {found[1]!r}, …), so hardly any can be learned from others. Allowed: several examples each. "
            + (f"The limit is {limit}: raise it." if limit else f"{_called(name)} may be another column. {step}")
        )
