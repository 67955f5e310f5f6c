"""Numbers that float32 would round away: which inputs need float64, and how the others become float32.

A sensor near 1,000,000 with differences of 0.01 has no difference left in float32. So inputs stay float64 until they are standardised
where rounding would change a feature by more than a thousandth of its standard deviation, and are float32 everywhere else.
"""

import numpy as np
import torch
from torch import Tensor

from unseen.data.moments import Moments

EXACT = 2**53  # whole numbers up to it are exact in float64
SAFE_RATIO = 8.0  # the largest number over the range below which no feature of a million examples needs a closer look


def narrowed(inputs: Tensor) -> Tensor:
    """Float64 inputs (N, ...) as float32 where that loses nothing; any others as they are."""
    if inputs.dtype != torch.float64 or not len(inputs):
        return inputs
    axes = [axis for axis in range(inputs.dim()) if axis != 1]
    low, high = inputs.amin(axes), inputs.amax(axes)
    if bool((torch.maximum(low.abs(), high.abs()) <= SAFE_RATIO * (high - low)).all()):
        return inputs.float()
    finite = bool(torch.isfinite(low).all() and torch.isfinite(high).all())
    return inputs if finite and Moments.of(inputs).needs_double else inputs.float()


def as_double(column: np.ndarray) -> tuple[np.ndarray, int]:  # type: ignore[type-arg]
    """Numbers (N,) as float64, and what was subtracted from them first: the smallest of whole numbers beyond 2^53, else 0."""
    if column.dtype.kind in "iu" and len(column) and max(abs(int(column.min())), abs(int(column.max()))) > EXACT:
        least = int(column.min())
        if int(column.max()) - least <= EXACT:
            return (column - column.dtype.type(least)).astype(np.float64), least
    return column.astype(np.float64, copy=False), 0
