"""Mean and standard deviation of inputs per channel or feature: all at once, or of one shard after the other."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

CHUNK = 4096
LARGEST_ERROR = 1e-3  # of rounding, in standard deviations
ROUNDING = 2.0**-24  # of a float32, relative


@dataclass(frozen=True)
class Moments:
    """What the mean and the variance of inputs follow from; those of two sets add up.

    Args:
        counts: int64 (channels, 256), how often each byte occurs; or None where inputs are no bytes.
        number: of values per channel.
        mean: float64 (channels,): mean, and sum of squared differences from it.
        squares: see ``mean``.
        low: float64 (channels,): the smallest and the largest value.
        high: see ``low``.
    """

    counts: Tensor | None
    number: float
    mean: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> "Moments":
        """Of inputs (N, channels or features, ...). Bytes are counted, in units of pixel / 255; others take two passes over chunks."""
        if inputs.dtype == torch.uint8:
            counts = torch.stack([torch.bincount(inputs[:, c].flatten(), minlength=256) for c in range(inputs.shape[1])])
            return cls(counts, 0.0, *[torch.zeros(0)] * 4)
        axes, shape = [axis for axis in range(inputs.dim()) if axis != 1], (-1,) + (1,) * (inputs.dim() - 2)
        number, chunks = inputs.numel() / max(inputs.shape[1], 1), torch.split(inputs, CHUNK)
        mean = torch.stack([chunk.double().sum(axes) for chunk in chunks]).sum(0) / number
        squares = [(chunk.double() - mean.view(shape)).square_().sum(axes) for chunk in chunks]
        low, high = (torch.stack([edge(chunk, axes).double() for chunk in chunks]) for edge in (torch.amin, torch.amax))
        return cls(None, number, mean, torch.stack(squares).sum(0), low.amin(0), high.amax(0))

    def __add__(self, other: "Moments") -> "Moments":
        """Of both sets together (Chan, Golub & LeVeque 1979)."""
        if self.counts is not None and other.counts is not None:
            return replace(self, counts=self.counts + other.counts)
        number, apart = self.number + other.number, other.mean - self.mean
        squares = self.squares + other.squares + apart.square() * (self.number * other.number / number)
        low, high = torch.minimum(self.low, other.low), torch.maximum(self.high, other.high)
        return Moments(None, number, self.mean + apart * (other.number / number), squares, low, high)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """(channels,) each, computed in float64: float32, or float64 where the inputs need it.

        A constant feature has std 1.
        """
        if self.counts is not None:
            mean, variance = _of_bytes(self.counts)
            constant = variance.sqrt() <= 1e-9 * mean.abs()  # rounding of the mean leaves a little
            return mean.float(), torch.where(constant, 1.0, variance.sqrt()).float()
        std = (self.squares / self.number).sqrt()
        std = torch.where((self.low == self.high) | (std == 0), 1.0, std)
        mean = torch.where(self.low == self.high, self.low, self.mean)
        return (mean, std) if self.needs_double else (mean.float(), std.float())

    @property
    def needs_double(self) -> bool:
        """Whether float32 would change some feature by more than a thousandth of its standard deviation."""
        if self.counts is not None:
            return False
        largest, std = torch.maximum(self.low.abs(), self.high.abs()), (self.squares / self.number).sqrt()
        return bool(((largest * ROUNDING > LARGEST_ERROR * std) & (self.high > self.low)).any())


def _of_bytes(counts: Tensor) -> tuple[Tensor, Tensor]:
    shares, values = counts.double() / counts[0].sum(), torch.arange(256).double() / 255
    mean = shares @ values
    return mean, (shares * (values - mean[:, None]).square()).sum(1)
