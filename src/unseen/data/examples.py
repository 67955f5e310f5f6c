"""Examples: any data set as inputs, labels and a stable index."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unseen.data.images import Lazy
from unseen.data.reading import Reading
from unseen.errors import UnseenError
from unseen.hashing import uniform

CROP_PADDING = 4


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Examples:
    """N examples, train before held before test.

    Args:
        inputs: (N, ...): images uint8 or float32, channels first; features float32; or ``Lazy``, read per batch. Float64 where float32
            would round differences away (``precision``); a batch is standardised before it is rounded.
        labels: int64 (N,), the given labels.
        index: int64 (N,), position in the whole, unshuffled data set; test goes on after train where a source has both. The join key of all
            tables: unique, and kept by ``select`` and by corruption.
        ids: N stable names: relative path, row (``train/17``, ``row/17``), or the user's column.
        split: N times ``train`` (trained on), ``held`` (of the train split, but not trained on) or ``test``, in this order.
        classes: names of the labels 0, 1, ...
        true_labels: int64 (N,), labels before corruption, where known.
        mean: of the inputs of the train split it was loaded with, float32 (or float64, as inputs): per channel for images (of pixel / 255
            for uint8), per feature for tables. A constant feature has std 1.
        std: see ``mean``.
        name: of the data set.
        texts: N texts, where these are the inputs; ``inputs`` then are their ``text.bags``, with mean 0 and std 1.
        reading: what was read of the source and what was not; empty for examples made by hand.
    """

    inputs: Tensor | Lazy
    labels: Tensor
    index: Tensor
    ids: list[str]
    split: list[str]
    classes: tuple[str, ...]
    true_labels: Tensor | None = None
    mean: Tensor
    std: Tensor
    name: str
    texts: list[str] | None = None
    reading: Reading = field(default_factory=Reading)

    def __len__(self) -> int:
        """How many examples, N."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Name and sizes; the contents would fill the screen."""
        train, held = self.split.count("train"), self.split.count("held")
        counts = f"{train} train, {f'{held} held, ' if held else ''}{len(self) - train - held} test"
        counts += f", shape {self.shape}, {len(self.classes)} classes"
        return f"<Examples {self.name}: {counts}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.inputs.shape if isinstance(self.inputs, Lazy) else tuple(self.inputs.shape[1:])

    @property
    def train(self) -> "Examples":
        """The train split: a view, no copy, where train stands before test."""
        return self._part("train")

    @property
    def test(self) -> "Examples":
        """The test split, possibly empty."""
        return self._part("test")

    def hold(self, trained: Tensor) -> "Examples":
        """Only the train examples with an index in ``trained``, int64, stay train; the others are held: measured, never trained on."""
        stays = torch.isin(self.index.cpu(), trained.cpu()).tolist()
        split = ["held" if part == "train" and not kept else part for part, kept in zip(self.split, stays, strict=True)]
        order = sorted(range(len(split)), key=lambda i: ("train", "held", "test").index(split[i]))
        return replace(self, split=split).select(order)

    def joined(self) -> "Examples":
        """Train and test as one train split, with their index, ids and labels: how test examples get scores of their own."""
        return replace(self, split=["train"] * len(self))

    def _part(self, split: str) -> "Examples":
        return self.select(torch.tensor([part == split for part in self.split], dtype=torch.bool))

    def select(self, positions: Tensor | Sequence[int]) -> "Examples":
        """Some of the examples, with their index, ids, labels and the standardisation of the whole.

        Args: positions, int64 (M,) in the order wanted, or bool (N,).
        """
        chosen = torch.as_tensor(positions).cpu()
        chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen.long()
        places = chosen.tolist()
        return replace(
            self,
            inputs=take(self.inputs, chosen),
            labels=rows(self.labels, chosen),
            index=rows(self.index, chosen),
            ids=[self.ids[i] for i in places],
            split=[self.split[i] for i in places],
            texts=None if self.texts is None else [self.texts[i] for i in places],
            true_labels=None if self.true_labels is None else rows(self.true_labels, chosen),
        )

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples with all tensors on a device; ``Lazy`` inputs are moved batch by batch."""
        return replace(
            self,
            inputs=self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs,
            labels=self.labels.to(device),
            index=self.index.to(device),
            true_labels=None if self.true_labels is None else self.true_labels.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def batch(self, positions: Tensor, augment: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised inputs, labels and index of the examples at these positions, on the device of the labels.

        x = (input − mean) / std. Each example's x depends on nothing but itself and ``augment``.

        Args:
            positions: int64 (B,) in [0, N).
            augment: (seed, epoch) for a random crop, after padding by 4 with zeros, and a horizontal flip of images: a function of (seed,
                epoch, index).

        Returns: x, float32 (B, ...); y, int64 (B,); index, int64 (B,).
        """
        positions = positions.to(self.labels.device)
        index, inputs = self.index[positions], self._raw(positions)
        if augment is not None:
            inputs = crop_and_flip(inputs, index, *augment)
        return self.standardise(inputs), self.labels[positions], index

    def _raw(self, positions: Tensor) -> Tensor:
        if isinstance(self.inputs, Lazy):
            return self.inputs.gather(positions.cpu()).to(self.labels.device)
        return self.inputs.index_select(0, positions)  # many times faster than indexing with a tensor

    def standardise(self, inputs: Tensor) -> Tensor:
        """(inputs − mean) / std of raw inputs (B, ...), uint8 over 255 first: float32 of the same shape."""
        unit, shape = _unit(inputs), (-1,) + (1,) * (inputs.dim() - 2)
        if torch.float64 in (inputs.dtype, self.mean.dtype):  # rounded last: float32 cannot hold these numbers' differences
            return inputs.double().sub(self.mean.view(shape) * unit).div_(self.std.view(shape) * unit).float()
        return inputs.float().sub((self.mean * unit).view(shape)).mul_((1 / (self.std * unit)).view(shape))


def crop_and_flip(images: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
    """Shift by up to 4 pixels each way, zeros coming in, and mirror half of the images.

    The usual CIFAR augmentation (He et al. 2016, section 4.2), as a function of (seed, epoch, index). Args: images (B, C, H, W), index
    int64 (B,).

    Returns:
        The shape and type of ``images``.
    """
    if images.dim() != 4:
        raise UnseenError(f"Inputs have shape {tuple(images.shape[1:])}. Augmentation needs images. Turn it off.")
    height, width = images.shape[2:]
    offsets = 2 * CROP_PADDING + 1
    down, right = ((uniform(index, seed, way, epoch) * offsets).long()[:, None] for way in ("crop down", "crop right"))
    flipped = uniform(index, seed, "flip", epoch)[:, None] < 0.5
    rows = torch.arange(height, device=images.device) + down
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flipped, width - 1 - columns, columns) + right
    places = rows[:, :, None] * (width + 2 * CROP_PADDING) + columns[:, None, :]
    padded = functional.pad(images, (CROP_PADDING,) * 4).flatten(2)
    return padded.gather(2, places.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _unit(inputs: Tensor) -> float:
    return 255.0 if inputs.dtype == torch.uint8 else 1.0


def take(inputs: Tensor | Lazy, positions: Tensor) -> Tensor | Lazy:
    """Inputs at these positions; of ``Lazy`` ones nothing is read."""
    return inputs.select(positions) if isinstance(inputs, Lazy) else rows(inputs, positions)


def rows(values: Tensor, positions: Tensor) -> Tensor:
    """Rows of a tensor: a view where they are neighbours in order, else a copy."""
    first = int(positions[0]) if len(positions) else 0
    if torch.equal(positions, torch.arange(first, first + len(positions))):
        return values[first : first + len(positions)]
    return values.index_select(0, positions.to(values.device))


def joined(parts: Sequence[Examples]) -> Examples:
    """Parts of one data set as one, in order; the standardisation is that of the first."""
    if len(parts) == 1:
        return parts[0]
    names = ["inputs", "labels", "index", *([] if parts[0].true_labels is None else ["true_labels"])]
    columns: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    columns |= {name: [value for part in parts for value in getattr(part, name)] for name in ("ids", "split")}
    return replace(parts[0], **columns)
