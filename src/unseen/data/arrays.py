"""Arrays, named arrays of an .npz, and files in MNIST's format."""

import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.decoding import channels_first
from unseen.data.labels import one_each
from unseen.data.precision import EXACT, as_double
from unseen.data.raw import Columns, Raw
from unseen.data.reading import Reading, tally
from unseen.errors import UnseenError

TRAIN_NAMES = (("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y"), ("images", "labels"))
SPLIT_NAMES = ("test", "val", "valid", "validation", "dev")
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NUMBERS = "buif"
FEWEST_ROWS = 20  # below which a feature that counts the rows may be chance
LARGEST_GROWTH = 200  # of what an archive unpacks to over its own size
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, TypeError, AttributeError)


def idx_folder(path: Path) -> Raw:
    """MNIST's layout: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…, plain or .gz."""
    parts: list[Tensor] = []
    for split in ("train", "t10k"):
        files = [sorted(path.glob(f"{split}-{kind}?idx*-ubyte*")) for kind in ("images", "labels")]
        if all(files):
            parts += [idx(files[0][0]), idx(files[1][0])]
        elif split == "train":
            raise UnseenError(f"{path} lacks {split}-images-idx3-ubyte or {split}-labels-idx1-ubyte. Get both files.")
    raw = arrays(*parts)
    others = [
        ("not one of the files of MNIST's format", file.name)
        for file in sorted(path.iterdir())
        if not re.search("idx[13]-ubyte", file.name)
    ]
    return replace(raw, name=path.name, reading=replace(raw.reading, kind="IDX files").skipping(tally(others)))


def idx(path: Path) -> Tensor:
    """One IDX file, plain or gzipped: two zeros, type, number of dimensions, sizes, values, all big-endian."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise UnseenError(f"{path} is truncated or damaged: {error}. Get the file again.") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise UnseenError(f"{path} is not an IDX file: it begins with {data[:4]!r}. Get the file again.")
    start, kind = 4 + 4 * data[3], np.dtype(IDX_TYPES[data[2]])
    sizes = [int.from_bytes(data[place : place + 4], "big") for place in range(4, start, 4)]
    expected = start + math.prod(sizes) * kind.itemsize
    if len(data) != expected:
        raise UnseenError(f"{path} is truncated or damaged: {len(data)} bytes, not {expected}. Get the file again.")
    return torch.from_numpy(np.frombuffer(data, kind, offset=start).reshape(sizes).astype(kind.newbyteorder("=")))


def npz(path: Path, columns: Columns) -> Raw:
    """NumPy arrays by name (see NPZ_NAMES); ``index`` and an id array may stand beside them."""
    try:
        _refuse_bombs(path)
        with np.load(path, allow_pickle=False) as file:
            found = {name.lower(): file[name] for name in file.files}
    except UnseenError:
        raise
    except (ValueError, OSError, EOFError, MemoryError, SyntaxError, NotImplementedError, RuntimeError, *ZIP_ERRORS) as error:
        raise UnseenError(f"Cannot read {path}: {error}. Allowed: arrays of numbers or text. Save it again.") from error
    train = next((pair for pair in TRAIN_NAMES if set(pair) <= set(found)), None)
    if train is None or (columns.id and columns.id.lower() not in found):
        allowed = " or ".join(" and ".join(pair) for pair in TRAIN_NAMES)
        raise UnseenError(
            f"{path} holds {', '.join(found) or 'nothing'}. Allowed: {allowed}, and the id array where one is named. "
            "Save it under such names."
        )
    names = [*train, *_other_splits(train, found)]
    ids = [str(value) for value in found[columns.id.lower()]] if columns.id else None
    raw = splits_of_arrays([found[name] for name in names])
    others = [name for name in found if name not in (*names, "index", (columns.id or "").lower())]
    reading = replace(raw.reading, kind="named arrays").skipping(
        tally([("not named as inputs, labels, index or ids", name) for name in others], "arrays")
    )
    return replace(raw, name=path.stem, index=found.get("index"), ids=ids, reading=reading)


def _other_splits(train: tuple[str, str], found: dict[str, Any]) -> list[str]:
    """The names of the inputs and labels of every other split: test first, then validation."""
    names = [[name.replace("train", split) for name in train] for split in SPLIT_NAMES if "train" in train[0]]
    return [name for pair in names if set(pair) <= set(found) for name in pair]


def _refuse_bombs(path: Path) -> None:
    """Raise UnseenError for an archive that says it unpacks to far more than it is."""
    with zipfile.ZipFile(path) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
    if unpacked > max(LARGEST_GROWTH * path.stat().st_size, 2**26):
        raise UnseenError(
            f"Cannot read {path}: {path.stat().st_size} bytes that unpack to {unpacked}. Save it with numpy.savez if that is right."
        )


def arrays(*parts: Any) -> Raw:
    """(x_train, y_train) or (x_train, y_train, x_test, y_test)."""
    if len(parts) not in (2, 4):
        raise UnseenError(f"Got a tuple of {len(parts)}. Allowed: (x_train, y_train[, x_test, y_test]). Pass 2 or 4.")
    return splits_of_arrays(parts)


def splits_of_arrays(parts: Sequence[Any]) -> Raw:
    """Inputs and labels of train, then of every other split."""
    numbers, note = _exact([_as_array(x) for x in parts[::2]])
    inputs, labels = [as_inputs(x) for x in numbers], [as_labels(y) for y in parts[1::2]]
    for x, y in zip(inputs, labels, strict=True):
        if len(x) != len(y):
            raise UnseenError(f"Got {len(x)} inputs and {len(y)} labels. Allowed: one label each. Check the pairs.")
    if other := [x for x in inputs if x.shape[1:] != inputs[0].shape[1:]]:
        shapes = f"{tuple(inputs[0].shape[1:])} in train, {tuple(other[0].shape[1:])} in test"
        raise UnseenError(f"Inputs have shape {shapes}. Allowed: the same in both. Reshape one of them.")
    reading = Reading(kind="arrays", found=sum(map(len, labels))).noting(note).suspecting(*_ascending(inputs[0]))
    if len(inputs) == 1:
        return Raw("arrays", inputs[0], labels[0], reading=reading)
    whole = torch.cat([x.float() if inputs[0].is_floating_point() and x.dtype == torch.uint8 else x for x in inputs])
    return Raw("arrays", whole, _joined(labels), torch.arange(len(whole)) >= len(inputs[0]), reading=reading)


def _joined(labels: list[Any]) -> Any:
    """Labels of train and test; of numbers and texts as what each is, so that they are refused by place."""
    kinds = {label.dtype.kind in "OUST" for label in labels}
    return np.concatenate([label.astype(object) if len(kinds) > 1 else label for label in labels])


def _ascending(inputs: Tensor) -> list[str]:
    """A sentence for each feature that counts the rows: the same step from every row to the next."""
    if inputs.dim() != 2 or len(inputs) < FEWEST_ROWS:
        return []
    few = inputs[:FEWEST_ROWS].double().diff(dim=0)
    found = ((few == few[:1]) & (few != 0)).all(0).nonzero()[:, 0].tolist()
    steps = {place: inputs[:, place].double().diff() for place in found}
    return [
        f"Feature {place} ascends with the row in equal steps, as a row number does."
        for place, step in steps.items()
        if bool((step == step[0]).all())
    ]


def _exact(parts: list[np.ndarray[Any, Any]]) -> tuple[list[np.ndarray[Any, Any]], str]:
    """Features that are whole numbers beyond 2^53 less their smallest, so that float64 holds them; others as they are."""
    if any(part.dtype.kind not in "iu" or part.ndim != 2 or part.dtype.itemsize < 8 or not part.size for part in parts):
        return parts, ""
    if all(part.shape[1:] != parts[0].shape[1:] for part in parts[1:]) and len(parts) > 1:
        return parts, ""
    whole = np.concatenate(parts)
    if max(abs(int(whole.min())), abs(int(whole.max()))) <= EXACT:
        return parts, ""
    columns = [as_double(whole[:, place]) for place in range(whole.shape[1])]
    moved = [place for place, (_, least) in enumerate(columns) if least]
    exact = np.stack([values for values, _ in columns], 1)
    names = f"Feature {moved[0]}" + (f" and {len(moved) - 1} more" if len(moved) > 1 else "") if moved else ""
    note = f"{names}: the smallest is subtracted first, as the numbers are beyond 2^53." if moved else ""
    return np.split(exact, np.cumsum([len(part) for part in parts])[:-1]), note


def _as_array(x: Any) -> np.ndarray[Any, Any]:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        small = x.is_floating_point() and x.dtype not in (torch.float32, torch.float64)
        plain: np.ndarray[Any, Any] = (x.float() if small else x).numpy()
        return plain  # NumPy has no bfloat16
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise UnseenError(f"Inputs are no array: {error}. Allowed: one shape for all. Pad or cut them.") from error
    if array.dtype.kind not in NUMBERS:
        advice = "Encode objects first."
        if array.dtype.kind in "UT":
            advice = 'Give texts as a frame, polars.DataFrame({"text": texts, "label": labels}), with text="text".'
        raise UnseenError(f"Inputs have dtype {array.dtype}. Allowed: numbers. {advice}")
    return array


def as_inputs(array: np.ndarray[Any, Any]) -> Tensor:
    """Numbers as a tensor; images of integers that fit in a byte become uint8."""
    fits = array.ndim > 2 and array.dtype.kind != "f" and array.size and array.min() >= 0 and array.max() <= 255
    if fits:
        array = array.astype(np.uint8, copy=False)
    elif array.dtype.kind == "f":
        array = array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)
    elif array.dtype.kind == "b" or array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    else:
        array = array.astype(np.float64)
    return channels_first(torch.from_numpy(array if array.flags.writeable else array.copy()))


def as_labels(y: Any) -> np.ndarray[Any, Any]:
    """Labels as an array: (N,), or (N, classes) of one-hot or soft ones."""
    if isinstance(y, list) and len({isinstance(label, str) for label in y}) > 1:
        y = np.array(y, dtype=object)  # else NumPy would write NaN and numbers among texts as texts
    if isinstance(y, Tensor):
        y = y.detach().cpu()
        y = (y.float() if y.dtype == torch.bfloat16 else y).numpy()
    found: np.ndarray[Any, Any] = one_each(y)
    if found.ndim == 1 and found.dtype.kind == "O" and len(found) and getattr(found[0], "ndim", 0) > 0:
        raise UnseenError(f"Labels have shape {(len(found), *found[0].shape)}. Allowed: (N,), one class each. Take the argmax of scores.")
    return found
