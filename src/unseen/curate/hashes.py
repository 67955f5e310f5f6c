"""Copies of pictures that were made lighter or smaller, turned grey, or saved again: their features move, their hashes hardly do."""

import torch
from torch import Tensor
from torch.nn import functional as F

from unseen.curate.doubles import Pairs, inputs_at, pairs_above
from unseen.data import Examples

SIZE = 32  # of the grey picture whose waves are taken
WAVES = 8  # of each direction, the slowest
BITS = WAVES * WAVES - 1
APART = 4  # bits of 63: of 50 million pairs of CIFAR-10 ten are so near, and 97% of changed copies (LOG.md)
SMALLEST = 16  # pixels: a smaller picture says too little
ROWS = 1024
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


def can_hash(examples: Examples) -> bool:
    """Whether they are pictures in colour of at least 16 pixels; grey ones are often drawings and digits, whose hashes are alike."""
    shape = examples.shape
    return len(shape) == 3 and shape[0] == len(GREY) and min(shape[1:]) >= SMALLEST


def picture_hashes(examples: Examples) -> Tensor:
    """The perceptual hash of each picture (pHash, Zauner 2010): float32 (n, 63) of norm 1; zeros for a picture of one colour.

    The picture becomes 32 x 32 grey pixels. Each of its 8 x 8 slowest cosine waves, but the constant, is above their median or not.

    Args:
        examples: of which ``can_hash`` is true.
    """
    parts = (hashed(inputs_at(examples, rows)) for rows in torch.arange(len(examples)).split(ROWS))
    return torch.cat([torch.zeros(0, BITS), *parts])


def changed_copies(features: Tensor, hashes: Tensor, others: Tensor | None = None, other_hashes: Tensor | None = None) -> Pairs:
    """Pairs of pictures whose hashes differ in at most 4 of 63 bits, with the cosines of their features: see ``near_pairs``."""
    return pairs_above(hashes, 1 - 2 * (APART + 0.5) / BITS, features, other_hashes, others)


def hashed(pixels: Tensor) -> Tensor:
    """The hashes of pictures (n, 3, height, width)."""
    grey = (pixels.float() * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    small = F.interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)[:, 0]
    places = torch.arange(SIZE, dtype=torch.float64) + 0.5
    waves = torch.cos(torch.pi / SIZE * torch.arange(WAVES)[:, None] * places).float()
    slow = (waves @ small @ waves.T).flatten(1)[:, 1:]
    signs = torch.where(slow > slow.median(1, keepdim=True).values, 1.0, -1.0) / BITS**0.5
    return torch.where(small.flatten(1).std(1, keepdim=True) > 0, signs, 0.0)
