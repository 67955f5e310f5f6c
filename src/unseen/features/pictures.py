"""What a picture looks like without any weights: whitened patches of the user's own pictures, histograms of gradients, colours.

Each is averaged over the picture and its mirror image. Measured (LOG.md): patches, gradients and colours together are the best
label-free input of a linear head on photographs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unseen.hashing import uniform

SIDE = 32  # pictures are brought to this height and width
PATCH = 6  # height and width of a patch (Coates & Ng 2011)
FILTERS = 256  # with 512: +.01 accuracy, three times the time of the head
THRESHOLD = 1.0  # of a filter's response, in standard deviations
PATCHES = 100_000  # that whiten and from which the filters are drawn
SMALLEST_VARIANCE = 10.0  # of a patch's 0..255 values, added: flat patches are not blown up
SMALLEST_EIGENVALUE = 0.1  # of whitening, added
BINS, CELL, CLIP = 9, 8, 0.2  # Dalal & Triggs 2005
COLOURS = 8
ROWS = 64


def resized(pixels: Tensor, side: int) -> Tensor:
    """Pictures (B, C, height, width) of 0..255 as float32 (B, C, side, side)."""
    pixels = pixels.float()
    if tuple(pixels.shape[2:]) == (side, side):
        return pixels
    return functional.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)


@dataclass(frozen=True, eq=False)
class Patches:
    """How strongly each filter answers in each quarter of a picture (Coates & Ng 2011, "The importance of encoding versus training").

    A patch p becomes (p − mean) / √(variance + 10), is whitened (ZCA) and compared with filters, which are patches too, drawn at random:
    max(0, ⟨filter, p⟩ − threshold), the mean of each quarter, and its square root.

    Args:
        filters: whitening times filters, (C · 36, filters).
        offset: the threshold of each, (filters,).
    """

    filters: Tensor
    offset: Tensor

    @classmethod
    def learned(cls, pixels: Tensor, seed: int = 0, filters: int = FILTERS) -> "Patches":
        """Filters of random patches of these pictures (n, C, side, side); no label is looked at."""
        drawn = normalised(random_patches(pixels, seed))
        mean = drawn.mean(0)
        covariance = (drawn - mean).double().T @ (drawn - mean).double() / len(drawn)
        values, vectors = torch.linalg.eigh(covariance)
        whiten = ((vectors * (values + SMALLEST_EIGENVALUE).rsqrt()) @ vectors.T).float()
        chosen = (drawn[uniform(torch.arange(len(drawn)), seed, "filters").argsort()[:filters]] - mean) @ whiten
        directions = whiten @ functional.normalize(chosen, dim=1).T
        return cls(directions, mean @ directions + THRESHOLD)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 4 · filters), at least 0."""
        return torch.cat([self._quarters(some) for some in pixels.split(ROWS)]).clamp_min(0).sqrt()

    def _quarters(self, pixels: Tensor) -> Tensor:
        patches = pixels.unfold(2, PATCH, 1).unfold(3, PATCH, 1)
        height, width = patches.shape[2:4]
        flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        fast = torch.bfloat16 if is_fast_in_bf16() else torch.float32
        answers = (normalised(flat).to(fast) @ self.filters.to(fast)).sub_(self.offset.to(fast)).relu_()
        answers = answers.view(len(pixels), height, width, -1)
        rows, columns = halves(height), halves(width)
        return torch.cat([answers[:, down, right].mean((1, 2), dtype=torch.float32) for down in rows for right in columns], 1)


def halves(length: int) -> tuple[slice, slice]:
    """The first and the last half; the middle of an odd length is in both."""
    half = (length + 1) // 2
    return slice(0, half), slice(length - half, length)


def normalised(patches: Tensor) -> Tensor:
    """(p − mean) / √(variance + 10) of each row."""
    centred = patches - patches.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / max(patches.shape[1] - 1, 1)
    return centred * (variance + SMALLEST_VARIANCE).rsqrt()


def random_patches(pixels: Tensor, seed: int) -> Tensor:
    """Patches at random places of random pictures: (100,000, C · 36)."""

    def draw(limit: int, what: str) -> Tensor:
        return (uniform(torch.arange(PATCHES), seed, "patches", what) * limit).long()

    height, width = pixels.shape[2:]
    picture, top, left = draw(len(pixels), "picture"), draw(height - PATCH + 1, "row"), draw(width - PATCH + 1, "column")
    along = torch.arange(PATCH)
    rows, columns = (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]
    return pixels[picture[:, None, None], :, rows, columns].permute(0, 3, 1, 2).flatten(1)


class Gradients:
    """Histograms of gradient directions in cells of 8 × 8 pixels, in blocks of 2 × 2 (Dalal & Triggs 2005), and 8 × 8 colours.

    As scikit-image's ``hog`` with its L2-Hys norm on the square roots of the pixels; for a batch, and shared between neighbouring bins.
    """

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, blocks · 36 + C · 64)."""
        colours = functional.adaptive_avg_pool2d(pixels / 255, COLOURS).flatten(1)
        return torch.cat([blocks(directions(pixels)), colours], 1)


def directions(pixels: Tensor) -> Tensor:
    """Strength of the gradient in each of 9 directions at each pixel: (B, 9, height, width)."""
    roots = pixels.div(255).clamp_min(0).sqrt()
    down, right = torch.zeros_like(roots), torch.zeros_like(roots)
    down[:, :, 1:-1] = roots[:, :, 2:] - roots[:, :, :-2]
    right[:, :, :, 1:-1] = roots[:, :, :, 2:] - roots[:, :, :, :-2]
    strength = (down.square() + right.square()).sqrt()
    strongest = strength.argmax(1, keepdim=True)  # channel
    down, right, strength = (values.gather(1, strongest) for values in (down, right, strength))
    angle = torch.atan2(down, right).remainder(math.pi) / math.pi * BINS
    lower = angle.floor()
    share, bins = angle - lower, lower.long()
    found = torch.zeros(len(pixels), BINS, *pixels.shape[2:])
    return found.scatter_add_(1, bins % BINS, strength * (1 - share)).scatter_add_(1, (bins + 1) % BINS, strength * share)


def blocks(strengths: Tensor) -> Tensor:
    """Cells, joined to overlapping blocks of 2 × 2 that are scaled to norm 1, clipped at .2 and scaled again: (B, blocks · 36)."""
    cells = functional.avg_pool2d(strengths, CELL)
    joined = cells.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    return _unit(_unit(joined).clamp_max(CLIP)).flatten(1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + 1e-4).sqrt()


def is_fast_in_bf16() -> bool:
    """Whether this processor has instructions for bf16 matrix products."""
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.backends.mkldnn.is_available() and has_instructions)
