"""What a ridge head needs of its examples: sums that add up over chunks and over processes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unseen.errors import UnseenError

ROWS = 8192
Chunk = tuple[Tensor, Tensor]
Total = Callable[[Tensor], Tensor]
"""Adds a tensor of all processes; every process calls it in the same order."""


def alone(value: Tensor) -> Tensor:
    """The ``Total`` of one process."""
    return value


@dataclass(frozen=True, eq=False)
class Sums:
    """What a ridge head needs of its examples: sums that add up over chunks and processes, float64.

    Args:
        count: examples.
        features: Σ x, (d,).
        labels: Σ y, (classes,), how many there are of each class.
        gram: Σ x x', (d, d).
        cross: Σ x y', (d, classes). All of features less ``shift``, (d,), the mean of the first chunk: no digits are lost to large means.
    """

    count: int
    features: Tensor
    labels: Tensor
    gram: Tensor
    cross: Tensor
    shift: Tensor

    @classmethod
    def empty(cls, dimensions: int, classes: int, shift: Tensor | None = None) -> "Sums":
        """The sums of no examples. Processes whose sums will be added give the same ``shift``."""
        start = torch.zeros(dimensions, dtype=torch.float64) if shift is None else shift.double()
        gram, cross = start.new_zeros(dimensions, dimensions), start.new_zeros(dimensions, classes)
        return cls(0, start.new_zeros(dimensions), start.new_zeros(classes), gram, cross, start)

    def add(self, features: Tensor, labels: Tensor) -> "Sums":
        """With these examples too: features (m, d), labels int64 (m,). Raises UnseenError for a NaN or a label out of range."""
        check(features, labels, len(self.shift), len(self.labels))
        start = self if self.count else replace(self, shift=features[:ROWS].double().mean(0) if not self.shift.any() else self.shift)
        total, gram, cross = start.features.clone(), start.gram.clone(), start.cross.clone()
        for rows, some in zip(features.split(ROWS), labels.split(ROWS), strict=True):
            x = rows.double() - start.shift
            total += x.sum(0)
            gram.addmm_(x.T, x)
            cross.index_add_(1, some, x.T)
        counts = start.labels + torch.bincount(labels, minlength=len(start.labels))
        return replace(start, count=start.count + len(labels), features=total, labels=counts, gram=gram, cross=cross)

    def __add__(self, other: "Sums") -> "Sums":
        """The sums of both: exact also where their shifts differ."""
        if not (self.count and other.count):
            return self if self.count else other
        moved = other.moved(self.shift)
        names = ("count", "features", "labels", "gram", "cross")
        return replace(self, **{name: getattr(self, name) + getattr(moved, name) for name in names})

    def over(self, total: "Total") -> "Sums":
        """The sums of all processes, which have the same shift."""
        names = ("features", "labels", "gram", "cross")
        count = int(total(torch.tensor([self.count], dtype=torch.float64)))
        return replace(self, count=count, **{name: total(getattr(self, name)) for name in names})

    def moved(self, shift: Tensor) -> "Sums":
        """The sums of the same examples less another shift."""
        by = self.shift - shift
        outer = torch.outer(self.features, by)
        gram = self.gram + outer + outer.T + self.count * torch.outer(by, by)
        return replace(
            self, features=self.features + self.count * by, gram=gram, cross=self.cross + torch.outer(by, self.labels), shift=shift
        )


class Rows:
    """Rows of many chunks in few large tensors: small ones that stay, made between large ones that go, would keep the memory of those.

    Measured: 10^7 examples took 5 GiB so.
    """

    def __init__(self) -> None:
        self.blocks: list[Chunk] = []
        self.filled = 0

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Copy rows (m, d) and their labels (m,)."""
        while len(labels):
            if not self.blocks or self.filled == ROWS:
                self.blocks.append((features.new_empty(ROWS, features.shape[1]), labels.new_empty(ROWS)))
                self.filled = 0
            end = min(ROWS, self.filled + len(labels))
            count, place = end - self.filled, slice(self.filled, end)
            self.blocks[-1][0][place], self.blocks[-1][1][place] = features[:count], labels[:count]
            features, labels, self.filled = features[count:], labels[count:], end

    def chunks(self) -> list[Chunk]:
        """All of them, up to 8,192 a time, in order."""
        ends = [ROWS] * (len(self.blocks) - 1) + [self.filled]
        return [(features[:end], labels[:end]) for (features, labels), end in zip(self.blocks, ends, strict=False)]


def checked(sums: Sums | None) -> Sums:
    """The same. Raises UnseenError for fewer than two examples."""
    if sums is None or sums.count < 2:
        raise UnseenError(f"The head got {sums.count if sums else 0} examples. It needs 2 or more. Give more data.")
    return sums


def check(features: Tensor, labels: Tensor, dimensions: int, classes: int) -> None:
    """Refuse what would make the head silently wrong."""
    if features.dim() != 2 or features.shape[1] != dimensions or len(features) != len(labels):
        raise UnseenError(
            f"Features have shape {tuple(features.shape)} for {len(labels)} labels. Allowed: ({len(labels)}, {dimensions}), a row for each "
            "label. Make all chunks with the same extractor."
        )
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise UnseenError(f"Labels go from {int(labels.min())} to {int(labels.max())}. Allowed: 0 to {classes - 1}. Encode them.")
    if not bool(torch.isfinite(features.sum())) and not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features).all(1)).nonzero()[0])
        raise UnseenError(f"The features of row {row} hold a NaN or an infinite number. Allowed: finite numbers. Look at that example.")
