"""Where examples come from: named sets, folders, arrays, map-style data sets; tables and the hub in ``frames``."""

import gzip
import math
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from unseen.data.frames import TEST_SPLITS, Columns, Raw, Table, csv, declared_classes, hub, parquet, parquet_splits, split_mask, table
from unseen.data.images import Pictures, channels_first
from unseen.errors import UnseenError, needs

DIGITS = tuple(str(digit) for digit in range(10))
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = {"mnist": DIGITS, "fashion-mnist": FASHION, "cifar10": CIFAR10}
NAMES = ("digits", *CLASSES)
KINDS = "an image folder, a .csv, .tsv, .parquet or .npz file, or hf:owner/name"

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
NPZ_NAMES: tuple[tuple[tuple[str, str], tuple[str, str] | None], ...] = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("x", "y"), None),
    (("images", "labels"), None),
)
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NUMBERS = "buif"
LARGEST_GROWTH = 200  # of what an archive unpacks to over its own size
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, TypeError, AttributeError)


def read(data: object, data_dir: str | Path | None, columns: Columns) -> Raw:
    """Read a data set of any supported kind; see ``unseen.data.load``."""
    datasets = sys.modules.get("datasets")  # an object of that package cannot exist before its import
    if isinstance(data, str | Path):
        return _read_text(str(data), data_dir, columns)
    if datasets is not None and isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return hub(data, "hub", columns)
    if isinstance(data, Table):
        return table(data.frame, data.name, columns, classes=declared_classes(data.metadata))
    if isinstance(data, tuple) and len(data) == 2 and all(_is_map_style(part) for part in data):
        return map_style(data)
    if isinstance(data, tuple):
        return arrays(*data)
    if _is_map_style(data):
        return map_style((data,))
    raise UnseenError(
        f"Cannot load a {type(data).__name__}. Allowed: {', '.join(NAMES)}, {KINDS}, a datasets.Dataset, a torch data "
        "set of (x, y) with a length, or a tuple (x_train, y_train[, x_test, y_test]). Convert it to one of these."
    )


def data_folder(data_dir: str | Path | None) -> Path:
    """Where named sets lie: ``data_dir``, else the environment's UNSEEN_DATA, else ./data."""
    return Path(data_dir or os.environ.get("UNSEEN_DATA") or "data")


def download_command(name: str, data_dir: str | Path | None) -> str:
    """What a user types to get a named set."""
    return f"unseen download {name} --data-dir {data_folder(data_dir)}"


def _read_text(data: str, data_dir: str | Path | None, columns: Columns) -> Raw:
    path = Path(data)
    if data == "digits":
        return digits()
    if data in CLASSES:
        return _named(data, data_dir, columns)
    if data.startswith("hf:"):
        return _from_hub(data.removeprefix("hf:"), columns)
    if data and path.is_dir():
        return folder(path, columns)
    if not data or not path.exists():
        raise UnseenError(
            f"No data set {data!r}: neither a known name nor an existing path. Allowed: {', '.join(NAMES)}, {KINDS}. "
            f"To get MNIST: {download_command('mnist', data_dir)}"
        )
    readers: dict[str, Callable[[Path, Columns], Raw]] = {".npz": npz, ".csv": csv, ".tsv": csv, ".parquet": parquet}
    if path.suffix not in readers:
        raise UnseenError(f"{path} ends in {path.suffix!r}. Allowed: {', '.join(readers)}, or a folder. Convert it.")
    return readers[path.suffix](path, columns)


def _named(name: str, data_dir: str | Path | None, columns: Columns) -> Raw:
    path = data_folder(data_dir) / name
    if not any(path.glob("**/train*")):  # files of a train split, in any layout
        raise UnseenError(
            f"Data set {name!r} is not in {path} (looked in --data-dir, else UNSEEN_DATA, else ./data). "
            f"Get it with: {download_command(name, data_dir)}"
        )
    return replace(folder(path, columns), name=name, classes=CLASSES[name])


def _from_hub(name: str, columns: Columns) -> Raw:
    try:
        import datasets
    except ImportError as error:
        raise needs("hub", error) from error
    try:
        dataset = datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnseenError(
            f"Cannot load hf:{name}: {error}. Check the id at https://huggingface.co/datasets and the connection, or "
            "load it yourself and pass the datasets.DatasetDict."
        ) from error
    return hub(dataset, name, columns)


def digits() -> Raw:
    """Scikit-learn's 1,797 handwritten digits, 8 × 8; their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(np.round(pixels * (255 / 16)).astype(np.uint8))
    return Raw("digits", images.view(-1, 1, 8, 8), labels, classes=DIGITS)


def folder(path: Path, columns: Columns) -> Raw:
    """A folder of IDX files, of parquet files (the hub's train-*.parquet and test-*.parquet, or any), or of images."""
    if any(path.glob("*idx3-ubyte*")):
        return idx_folder(path)
    train, test = parquet_files(path)
    return parquet_splits(path.name, train, test, columns) if train else image_folder(path)


def parquet_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The parquet files of a folder, by name: those of the train split and of the test split, or all of them as the first."""
    for files in ("{}*.parquet", "*/{}*.parquet"):
        if train := sorted(path.glob(files.format("train"))):
            return train, sorted(path.glob(files.format("test")))
    return sorted(path.glob("*.parquet")), []


def idx_folder(path: Path) -> Raw:
    """MNIST's layout: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…, plain or .gz."""
    parts: list[Tensor] = []
    for split in ("train", "t10k"):
        files = [sorted(path.glob(f"{split}-{kind}?idx*-ubyte*")) for kind in ("images", "labels")]
        if all(files):
            parts += [idx(files[0][0]), idx(files[1][0])]
        elif split == "train":
            raise UnseenError(f"{path} lacks {split}-images-idx3-ubyte or {split}-labels-idx1-ubyte. Get both files.")
    return replace(arrays(*parts), name=path.name)


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


def image_folder(path: Path) -> Raw:
    """A folder per class, or train/ and test/ (or val/) with a folder per class each; ids are relative paths."""
    has_train = (path / "train").is_dir()
    test = next((path / name for name in TEST_SPLITS if has_train and (path / name).is_dir()), None)
    train_files = _class_files(path / "train" if has_train else path)
    files = train_files + (_class_files(test) if test else [])
    paths = [file for file, _ in files]
    return Raw(
        name=path.resolve().name,
        inputs=Pictures(partial(_pick, paths), [str(file) for file in paths]),
        labels=[label for _, label in files],
        test=split_mask(len(files), len(train_files)) if test else None,
        ids=[file.relative_to(path).as_posix() for file in paths],
    )


def _class_files(path: Path) -> list[tuple[Path, str]]:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise UnseenError(f"{path} has no class folders. Allowed: {path}/CLASS/image.png. Make one folder per class.")
    files = []
    for entry in folders:
        images = sorted(file for file in entry.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            allowed = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UnseenError(f"The class folder {entry} holds no images. Allowed: {allowed}. Fill it or delete it.")
        files += [(file, entry.name) for file in images]
    return files


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
    known = [(train, test) for train, test in NPZ_NAMES if set(train) <= set(found)]
    if not known or (columns.id and columns.id.lower() not in found):
        allowed = " or ".join(" and ".join(train) for train, _ in NPZ_NAMES)
        raise UnseenError(
            f"{path} holds {', '.join(found) or 'nothing'}. Allowed: {allowed}, and the id array where one is named. "
            "Save it under such names."
        )
    train, test = known[0]
    names = train + (test if test and set(test) <= set(found) else ())
    ids = [str(value) for value in found[columns.id.lower()]] if columns.id else None
    return replace(arrays(*(found[name] for name in names)), name=path.stem, index=found.get("index"), ids=ids)


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
    inputs, labels = [_as_inputs(x) for x in parts[::2]], [_as_labels(y) for y in parts[1::2]]
    for x, y in zip(inputs, labels, strict=True):
        if len(x) != len(y):
            raise UnseenError(f"Got {len(x)} inputs and {len(y)} labels. Allowed: one label each. Check the pairs.")
    if inputs[0].shape[1:] != inputs[-1].shape[1:]:
        shapes = f"{tuple(inputs[0].shape[1:])} in train, {tuple(inputs[-1].shape[1:])} in test"
        raise UnseenError(f"Inputs have shape {shapes}. Allowed: the same in both. Reshape one of them.")
    if len(inputs) == 1:
        return Raw("arrays", inputs[0], labels[0])
    whole = torch.cat([x.float() if inputs[0].is_floating_point() else x for x in inputs])
    return Raw("arrays", whole, np.concatenate(labels), split_mask(len(whole), len(inputs[0])))


def _as_inputs(x: Any) -> Tensor:
    """Numbers as a tensor; images of integers that fit in a byte become uint8."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        array = x.float().numpy() if x.is_floating_point() else x.numpy()
    else:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise UnseenError(f"Inputs are no array: {error}. Allowed: one shape for all. Pad or cut them.") from error
    if array.dtype.kind not in NUMBERS:
        raise UnseenError(f"Inputs have dtype {array.dtype}. Allowed: numbers. Encode text and objects first.")
    fits = array.ndim > 2 and array.dtype.kind != "f" and array.size and array.min() >= 0 and array.max() <= 255
    array = array.astype(np.uint8 if fits else np.float32, copy=False)
    return channels_first(torch.from_numpy(array if array.flags.writeable else array.copy()))


def _as_labels(y: Any) -> np.ndarray[Any, Any]:
    if isinstance(y, list) and len({isinstance(label, str) for label in y}) > 1:
        y = np.array(y, dtype=object)  # else NumPy would write NaN and numbers among texts as texts
    array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UnseenError(f"Labels have shape {array.shape}. Allowed: (N,), one class each. Take the argmax of scores.")
    return array


def map_style(parts: Sequence[Any]) -> Raw:
    """Torch data sets of (x, y): train, or train and test. Works on torchvision's by their attributes.

    ``.classes`` names the classes and ``.targets`` gives the labels; without it all examples are read once more
    for theirs. Transforms apply, so a random one makes inputs that differ from read to read: leave it out.
    """
    sizes = [len(part) for part in parts]
    whole: ConcatDataset[Any] = ConcatDataset(parts)
    names = [f"{split}[{i}]" for split, size in zip(("train", "test"), sizes, strict=False) for i in range(size)]
    classes = getattr(parts[0], "classes", None)
    return Raw(
        name=type(parts[0]).__name__.lower(),
        inputs=Pictures(partial(_pick_inputs, whole), names, has_headers=False),
        labels=_as_labels([label for part in parts for label in _labels_of(part)]),
        test=split_mask(sum(sizes), sizes[0]) if len(parts) > 1 else None,
        classes=tuple(str(name) for name in classes) if classes else None,
    )


def _labels_of(dataset: Any) -> list[Any]:
    declared = getattr(dataset, "targets", None)
    if declared is None or getattr(dataset, "target_transform", None) or len(declared) != len(dataset):
        declared = [_pair(dataset[i])[1] for i in range(len(dataset))]
    return [label.item() if isinstance(label, Tensor | np.generic) else label for label in declared]


def _pair(item: object) -> Sequence[Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UnseenError(f"The data set gives {type(item).__name__}s. Allowed: pairs (x, y). Wrap it to give pairs.")
    return item


def _is_map_style(data: object) -> bool:
    plain = isinstance(data, list | tuple | dict | str | Path | Tensor) or hasattr(data, "__array__")
    return not plain and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _pick(items: list[Any], positions: list[int]) -> list[Any]:
    return [items[position] for position in positions]


def _pick_inputs(dataset: "ConcatDataset[Any]", positions: list[int]) -> list[Any]:
    return [_pair(dataset[position])[0] for position in positions]
