"""Corrupted labels and inputs, as functions from examples to examples.

Labels are changed on the train split only, and ``true_labels`` keeps what they were. Everything is a function
of (seed, index): which examples are picked, and what they become, depends neither on order nor on what
else is in the set, beyond how many are picked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from unseen.data.examples import Examples
from unseen.data.images import Lazy
from unseen.errors import UnseenError
from unseen.hashing import hash64, uniform

# Digits that look alike; for CIFAR-10 the pairs of Patrini et al. 2017, section 5.
LOOKALIKES: dict[str, dict[str, str]] = {
    "mnist": {"4": "9", "7": "1", "3": "8"},
    "digits": {"4": "9", "7": "1", "3": "8"},
    "cifar10": {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"},
}
CHUNK = 1024


@dataclass(frozen=True)
class UpTo:
    """An amount of labels: those whose draw, uniform(index, seed, "pick"), is at most this. So a piece of a set picks as the whole does."""

    draw: float


Amount = int | float | UpTo


def random_labels(examples: Examples, amount: Amount, seed: int = 0, avoid_true: bool = False) -> Examples:
    """Replace labels by uniformly random ones (Zhang et al. 2017; Liu et al. 2021, section 3).

    A new label may be the true one, as in the papers, so with C classes about amount · (1 − 1/C) labels end up
    wrong. With ``avoid_true`` all of them do.

    Args:
        examples: with N train examples.
        amount: how many: an int K in 0..N, or a float in (0, 1] as a share of N (1 is one label, 1.0 is all); or ``UpTo``.
        seed: of the choice and of the labels.
        avoid_true: draw from the other classes only.
    """
    train = _train_positions(examples)
    chosen = _pick(examples, train, amount, seed)
    draws = uniform(examples.index[chosen], seed, "label")
    classes = len(examples.classes)
    if avoid_true:
        true = _true_labels(examples)[chosen]
        new = (draws * (classes - 1)).long()
        new += new >= true
    else:
        new = (draws * classes).long()
    return _relabelled(examples, chosen, new)


def flip_labels(examples: Examples, matrix: Tensor | list[list[float]], seed: int = 0) -> Examples:
    """Class-conditional noise: a label a becomes b with probability matrix[a, b] (Natarajan et al. 2013).

    Args:
        examples: with C classes.
        matrix: (C, C), rows are distributions: not negative, sum 1 to within 1e-6.
        seed: of the draws.
    """
    probabilities = _checked_matrix(matrix, len(examples.classes)).to(examples.labels.device)
    train = _train_positions(examples)
    upto = probabilities.cumsum(1)
    upto[upto >= upto[:, -1:]] = 1.0  # draws stay below 1, so classes of probability 0 at the end are never drawn
    draws = uniform(examples.index[train], seed, "flip")
    new = (draws[:, None] >= upto[examples.labels[train]]).sum(1)
    return _relabelled(examples, train, new)


def asymmetric(examples: Examples, amount: Amount, seed: int = 0, mapping: Mapping[str | int, str | int] | None = None) -> Examples:
    """Flip labels to the class they are mistaken for (Patrini et al. 2017).

    Args:
        examples: with C classes.
        amount: how many, as in ``random_labels``, of the train examples in the classes of the mapping.
        seed: of the choice.
        mapping: from class to class, names or numbers. By default 4→9, 7→1, 3→8 for MNIST and digits; truck→automobile, bird→airplane,
            deer→horse, cat↔dog for CIFAR-10; else each class becomes the next one.
    """
    becomes = _checked_mapping(examples, mapping).to(examples.labels.device)
    train = _train_positions(examples)
    changeable = train[(becomes[examples.labels] != examples.labels)[train]]
    chosen = _pick(examples, changeable, amount, seed)
    return _relabelled(examples, chosen, becomes[examples.labels[chosen]])


def random_pixels(examples: Examples, seed: int = 0) -> Examples:
    """Shuffle the pixels of each image by a permutation of its own, colours moving together (Zhang et al. 2017).

    Train and test alike; mean and std per channel stay what they were. Cost: a sort of H·W numbers per image.
    """
    _require_images(examples)
    return _with_inputs(examples, partial(_own_permutation, seed))


def shuffled_pixels(examples: Examples, seed: int = 0) -> Examples:
    """Shuffle the pixels of all images, train and test, by one permutation, colours together (Zhang et al. 2017)."""
    _require_images(examples)
    return _with_inputs(examples, partial(_one_permutation, seed))


def gaussian_inputs(examples: Examples, seed: int = 0) -> Examples:
    """Replace all inputs, train and test, by Gaussian numbers (Zhang et al. 2017).

    They have the mean and std of the set, per channel or feature, and are float32: images in units of pixel / 255, not
    clipped to what a pixel can be.
    """
    return _with_inputs(examples, partial(_gaussian, seed, examples.mean, examples.std))


def _own_permutation(seed: int, images: Tensor, index: Tensor) -> Tensor:
    places = _stream(index, images.shape[2] * images.shape[3], seed, "own pixels").argsort(1)
    return images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _one_permutation(seed: int, images: Tensor, index: Tensor) -> Tensor:
    pixels = torch.arange(images.shape[2] * images.shape[3], device=images.device)
    return images.flatten(2)[..., hash64(pixels, seed, "one order of pixels").argsort()].view_as(images)


def _gaussian(seed: int, mean: Tensor, std: Tensor, inputs: Tensor, index: Tensor) -> Tensor:
    bits = _stream(index, inputs[0].numel(), seed, "gaussian")
    between = uniform(bits, "gaussian").clamp(2.0**-54, 1 - 2.0**-53)  # 0 and 1 would become infinite
    shape = (-1,) + (1,) * (inputs.dim() - 2)
    standard = torch.special.ndtri(between).view(inputs.shape)
    drawn: Tensor = mean.to(inputs.device).view(shape) + std.to(inputs.device).view(shape) * standard
    return drawn.float()


def _stream(index: Tensor, length: int, *purpose: int | str) -> Tensor:
    """64 random bits for each of ``length`` places of each example: int64 (B, length), different within a row."""
    places = torch.arange(length, device=index.device)
    return hash64(hash64(index, *purpose)[:, None] + places, *purpose, "place")


def _with_inputs(examples: Examples, change: Callable[[Tensor, Tensor], Tensor]) -> Examples:
    """Inputs changed by ``change(inputs, index)``; those that are read per batch change when they are read."""
    inputs = examples.inputs
    if isinstance(inputs, Lazy):
        changed = partial(_read_changed, inputs, examples.index.cpu(), change)
        return replace(examples, inputs=Lazy(changed, torch.arange(len(inputs)), inputs.shape))
    held = torch.empty_like(inputs, dtype=change(inputs[:1], examples.index[:1]).dtype)
    for start in range(0, len(inputs), CHUNK):
        chunk = slice(start, start + CHUNK)
        held[chunk] = change(inputs[chunk], examples.index[chunk])
    return replace(examples, inputs=held)


def _read_changed(inputs: Lazy, index: Tensor, change: Callable[[Tensor, Tensor], Tensor], positions: Tensor) -> Tensor:
    return change(inputs.gather(positions), index[positions])


def _require_images(examples: Examples) -> None:
    if len(examples.shape) != 3:
        raise UnseenError(f"Inputs have shape {examples.shape}: no pixels to shuffle. Allowed: images. Use gaussian_inputs for tables.")


def _train_positions(examples: Examples) -> Tensor:
    train = torch.tensor([split == "train" for split in examples.split], dtype=torch.bool)
    return train.nonzero()[:, 0].to(examples.labels.device)


def _true_labels(examples: Examples) -> Tensor:
    """Labels before any corruption: noise upon noise keeps the first."""
    return examples.labels if examples.true_labels is None else examples.true_labels


def _relabelled(examples: Examples, positions: Tensor, new: Tensor) -> Examples:
    labels = examples.labels.clone()
    labels[positions] = new
    return replace(examples, labels=labels, true_labels=_true_labels(examples))


def _pick(examples: Examples, candidates: Tensor, amount: Amount, seed: int) -> Tensor:
    """The candidates with the smallest uniform(index, seed, "pick"), so that a larger amount picks these and more."""
    draws = uniform(examples.index[candidates], seed, "pick")
    if isinstance(amount, UpTo):
        return candidates[draws <= amount.draw]
    return candidates[draws.argsort(stable=True)[: count_of(amount, len(candidates))]]


def count_of(amount: int | float, available: int) -> int:
    """How many of the available examples an amount is. Raises UnseenError for one that is out of range."""
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    if whole and 0 <= amount <= available:
        return int(amount)
    if isinstance(amount, float) and 0 < amount <= 1:
        return round(amount * available)
    raise UnseenError(
        f"The amount of labels to change is {amount!r}. Allowed: an integer from 0 to {available}, how many, or a "
        "float above 0 and up to 1.0, which share. Choose one."
    )


def _checked_matrix(matrix: Tensor | list[list[float]], classes: int) -> Tensor:
    probabilities = torch.as_tensor(matrix, dtype=torch.float64)
    if probabilities.shape != (classes, classes):
        shape = tuple(probabilities.shape)
        raise UnseenError(f"The matrix has shape {shape}. Allowed: ({classes}, {classes}). Give a row per true class.")
    sums = probabilities.sum(1)
    wrong = ~((probabilities >= 0).all(1) & ((sums - 1).abs() <= 1e-6))  # a NaN fails both
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UnseenError(
            f"Row {row} of the matrix is {probabilities[row].tolist()}, of sum {sums[row]:.6g}. Allowed: numbers of at "
            "least 0 that sum to 1. Divide each row by its sum."
        )
    return probabilities / sums[:, None]


def _checked_mapping(examples: Examples, mapping: Mapping[str | int, str | int] | None) -> Tensor:
    """What each class becomes: int64 (C,)."""
    count = len(examples.classes)
    if mapping is None and examples.name not in LOOKALIKES:
        return (torch.arange(count) + 1) % count
    becomes = torch.arange(count)
    for source, target in (mapping or LOOKALIKES[examples.name]).items():
        becomes[_class(examples, source)] = _class(examples, target)
    return becomes


def _class(examples: Examples, name: str | int) -> int:
    if isinstance(name, str) and name in examples.classes:
        return examples.classes.index(name)
    if isinstance(name, int) and 0 <= name < len(examples.classes):
        return name
    raise UnseenError(
        f"No class {name!r}. Allowed: {', '.join(examples.classes)}, or 0 to {len(examples.classes) - 1}. Correct the mapping."
    )
