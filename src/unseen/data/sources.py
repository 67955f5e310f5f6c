"""Where examples come from: named sets, folders, arrays, map-style data sets; tables and the hub in ``frames``."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unseen.data.arrays import arrays, npz
from unseen.data.dialect import is_csv
from unseen.data.frames import csv, declared_classes, parquet, table
from unseen.data.hub import HUB, from_hub, hub
from unseen.data.layouts import folder
from unseen.data.raw import Columns, Raw, Table
from unseen.data.reading import Reading
from unseen.data.torchsets import map_style
from unseen.errors import UnseenError, needs

if TYPE_CHECKING:
    import polars as pl

DIGITS = tuple(str(digit) for digit in range(10))
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = {"mnist": DIGITS, "fashion-mnist": FASHION, "cifar10": CIFAR10}
NAMES = ("digits", *CLASSES)
KINDS = "an image folder, a .csv, .tsv, .parquet or .npz file, or hf:owner/name[@revision]"


def read(data: object, data_dir: str | Path | None, columns: Columns) -> Raw:
    """Read a data set of any supported kind; see ``unseen.data.load``."""
    datasets = sys.modules.get("datasets")  # an object of that package cannot exist before its import
    if isinstance(data, str | Path):
        return _read_text(str(data), data_dir, columns)
    if (frame := as_polars(data)) is not None:
        return table(frame, "frame", columns, reading=Reading(kind="data frame", found=len(frame), unit="rows"))
    if datasets is not None and isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return hub(data, "hub", columns)
    if isinstance(data, Table):
        return table(data.frame, data.name, columns, classes=declared_classes(data.metadata))
    if isinstance(data, tuple | list) and len(data) > 1 and all(_is_map_style(part) for part in data):  # random_split gives a list
        return map_style(data)
    if isinstance(data, tuple):
        return arrays(*data)
    if _is_map_style(data):
        return map_style((data,))
    raise UnseenError(
        f"Cannot load a {type(data).__name__}. Allowed: a name such as digits, a path, a pandas or Polars frame, a datasets.Dataset, a "
        "torch data set of (x, y) with a length, or a tuple (x_train, y_train[, x_test, y_test]). Convert it to one of these."
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
    if data.startswith(HUB):
        return from_hub(data.removeprefix(HUB), columns)
    if data and path.is_dir():
        return folder(path, columns)
    if not data or not path.exists():
        raise UnseenError(
            f"No data set {data!r}: neither a known name nor an existing path. Allowed: {', '.join(NAMES)}, {KINDS}. "
            f"To get MNIST: {download_command('mnist', data_dir)}"
        )
    readers: dict[str, Callable[[Path, Columns], Raw]] = {".npz": npz, ".csv": csv, ".tsv": csv, ".parquet": parquet}
    if is_csv(path):
        return csv(path, columns)
    if path.suffix.lower() not in readers:
        raise UnseenError(f"{path} ends in {path.suffix!r}. Allowed: {', '.join(readers)}, or a folder. Convert it.")
    return readers[path.suffix.lower()](path, columns)


def as_polars(data: object) -> "pl.DataFrame | None":
    """A Polars or pandas data frame as a Polars one; None for anything else. A pandas index is no column."""
    polars, pandas = sys.modules.get("polars"), sys.modules.get("pandas")  # their objects cannot exist before their import
    if polars is not None and isinstance(data, polars.LazyFrame):
        data = data.collect()
    if polars is not None and isinstance(data, polars.DataFrame):
        found: pl.DataFrame = data
        return found
    if pandas is None or not isinstance(data, pandas.DataFrame):
        return None
    from polars import from_pandas

    named = data.rename(columns=str)
    if len(set(named.columns)) < len(named.columns):
        raise UnseenError("The data frame has several columns of one name. Allowed: different names. Rename them.")
    try:
        return from_pandas(named)
    except ImportError as error:
        raise needs("hub", error) from error
    except Exception as error:  # pyarrow raises what it likes on columns of mixed objects
        raise UnseenError(
            f"Cannot read the data frame: {error}. Allowed: columns of numbers, texts or dates. Convert the others."
        ) from error


def _named(name: str, data_dir: str | Path | None, columns: Columns) -> Raw:
    path = data_folder(data_dir) / name
    if not any(path.glob("**/train*")):  # files of a train split, in any layout
        raise UnseenError(
            f"Data set {name!r} is not in {path} (looked in --data-dir, else UNSEEN_DATA, else ./data). "
            f"Get it with: {download_command(name, data_dir)}"
        )
    return replace(folder(path, columns), name=name, classes=CLASSES[name])


def digits() -> Raw:
    """Scikit-learn's 1,797 handwritten digits, 8 × 8; their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(np.round(pixels * (255 / 16)).astype(np.uint8))
    return Raw("digits", images.view(-1, 1, 8, 8), labels, classes=DIGITS, reading=Reading(kind="scikit-learn's digits", found=len(labels)))


def _is_map_style(data: object) -> bool:
    plain = isinstance(data, list | tuple | dict | str | Path | Tensor) or hasattr(data, "__array__")
    return not plain and hasattr(data, "__getitem__") and hasattr(data, "__len__")
