"""The names that people give to splits, in any usual case and spelling."""

import re
from typing import Literal

Split = Literal["train", "test", "val"]

NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), "val"),
}
FILLERS = frozenset(
    ("set", "sets", "data", "dataset", "seg", "split", "images", "image", "imgs", "img", "pictures", "photos", "files", "folder")
)
ORDER: tuple[Split, ...] = ("train", "test", "val")
"""Train stands first, then test, then validation: so the positions of those that were read before all splits were stay."""


def split_of(name: str) -> Split | None:
    """Which split a folder, a file's stem or a value of a column names, or None.

    >>> [split_of(name) for name in ("Training", "seg_test", "valSet", "DEV", "test images", "trainer", "cat")]
    ['train', 'test', 'val', 'val', 'test', None, None]
    """
    words = [word for word in re.findall(r"[^\W\d_]+", name.lower()) if word not in FILLERS]
    if words == ["train", "val"]:
        return "train"
    return NAMES.get(_unglued(words[0])) if len(words) == 1 else None


def split_of_file(stem: str) -> Split | None:
    """Which split a file's name begins with, as the hub writes it: ``train-00000-of-00001``, ``validation``.

    >>> split_of_file("validation-00000-of-00002"), split_of_file("my_test"), split_of_file("prices")
    ('val', 'test', None)
    """
    words = [word for word in re.findall(r"[^\W\d_]+", stem.lower()) if word not in (*FILLERS, "of")]
    found = {NAMES[word] for word in map(_unglued, words) if word in NAMES}
    return found.pop() if len(found) == 1 else None


def _unglued(word: str) -> str:
    """``trainset`` and ``testimages`` without what is glued to them."""
    for filler in FILLERS:
        if word.endswith(filler) and word.removesuffix(filler) in NAMES:
            return word.removesuffix(filler)
    return word
