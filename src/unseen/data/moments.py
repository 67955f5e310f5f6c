"""Mean and standard deviation of inputs per channel or feature: all at once, or of one shard after the other."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 4096


@dataclass(frozen=True)
class Moments:
    """What the mean and the variance of inputs follow from; those of two sets add up.

    Args:
        counts: int64 (channels, 256), how often each byte occurs; or None where inputs are no bytes.
        number: of values per channel. mean, squares: float64 (channels,): mean, and sum of squared differences from it.
    """

    counts: Tensor | None
    number: float
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> "Moments":
        """Of inputs (N, channels or features, ...). Bytes are counted, in units of pixel / 255; others take two passes over chunks."""
        if inputs.dtype == torch.uint8:
            counts = torch.stack([torch.bincount(inputs[:, c].flatten(), minlength=256) for c in range(inputs.shape[1])])
            return cls(counts, 0.0, torch.zeros(0), torch.zeros(0))
        axes, shape = [axis for axis in range(inputs.dim()) if axis != 1], (-1,) + (1,) * (inputs.dim() - 2)
        number, chunks = inputs.numel() / inputs.shape[1], torch.split(inputs, CHUNK)
        mean = torch.stack([chunk.double().sum(axes) for chunk in chunks]).sum(0) / number
        squares = [(chunk.double() - mean.view(shape)).square_().sum(axes) for chunk in chunks]
        return cls(None, number, mean, torch.stack(squares).sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        """Of both sets together (Chan, Golub & LeVeque 1979)."""
        if self.counts is not None and other.counts is not None:
            return Moments(self.counts + other.counts, 0.0, self.mean, self.squares)
        number, apart = self.number + other.number, other.mean - self.mean
        squares = self.squares + other.squares + apart.square() * (self.number * other.number / number)
        return Moments(None, number, self.mean + apart * (other.number / number), squares)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Float32 (channels,) each, computed in float64. A constant feature has std 1."""
        mean, variance = (self.mean, self.squares / self.number) if self.counts is None else _of_bytes(self.counts)
        constant = variance.sqrt() <= 1e-9 * mean.abs()  # rounding of the mean leaves a little
        return mean.float(), torch.where(constant, 1.0, variance.sqrt()).float()


def _of_bytes(counts: Tensor) -> tuple[Tensor, Tensor]:
    shares, values = counts.double() / counts[0].sum(), torch.arange(256).double() / 255
    mean = shares @ values
    return mean, (shares * (values - mean[:, None]).square()).sum(1)
