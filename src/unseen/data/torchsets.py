"""Map-style data sets of PyTorch: pairs (x, y) by number."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from unseen.data.arrays import as_labels
from unseen.data.images import Pictures
from unseen.data.raw import Raw
from unseen.data.reading import Reading
from unseen.errors import UnseenError


def map_style(parts: Sequence[Any]) -> Raw:
    """Torch data sets of (x, y): train, or train and test. Works on torchvision's by their attributes.

    ``.classes`` names the classes and ``.targets`` gives the labels; without it all examples are read once more
    for theirs. Transforms apply, so a random one makes inputs that differ from read to read: leave it out.
    """
    sizes = [len(part) for part in parts]
    whole: ConcatDataset[Any] = ConcatDataset(parts)
    names = [f"{split}[{i}]" for split, size in zip(("train", *["test"] * len(parts)), sizes, strict=False) for i in range(size)]
    classes = _classes_of(parts[0])
    return Raw(
        name=type(parts[0]).__name__.lower(),
        inputs=Pictures(partial(_pick_inputs, whole), names, has_headers=False),
        labels=as_labels([label for part in parts for label in _labels_of(part)]),
        test=torch.arange(sum(sizes)) >= sizes[0] if len(parts) > 1 else None,
        classes=tuple(str(name) for name in classes) if classes else None,
        reading=Reading(kind="torch data set", found=sum(sizes)),
    )


def _classes_of(dataset: Any) -> Any:
    """Names of the classes that a data set tells, or the one that it is a part of."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return getattr(dataset, "classes", None)


def _labels_of(dataset: Any) -> list[Any]:
    declared = getattr(dataset, "targets", None)
    if declared is None or getattr(dataset, "target_transform", None) or len(declared) != len(dataset):
        declared = [_pair(dataset[i])[1] for i in range(len(dataset))]
    return [label.tolist() if isinstance(label, Tensor | np.generic | np.ndarray) else label for label in declared]


def _pair(item: object) -> Sequence[Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UnseenError(f"The data set gives {type(item).__name__}s. Allowed: pairs (x, y). Wrap it to give pairs.")
    return item


def _pick_inputs(dataset: "ConcatDataset[Any]", positions: list[int]) -> list[Any]:
    return [_pair(dataset[position])[0] for position in positions]
