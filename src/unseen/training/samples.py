"""What members with an example and members without it say of it, and what the difference is worth."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
LOST = 0.01  # share of the inputs' sum of squares that the estimator's members do without


class TwoSamples(NamedTuple):
    """Members with an example against members without it; each (n,)."""

    seen: Floats
    unseen: Floats
    standard_error: Floats
    degrees: Floats

    @property
    def gap(self) -> Floats:
        """The mean without the example minus the mean with it."""
        difference: Floats = self.unseen - self.seen
        return difference


def two_samples(values: Floats, member: Bools) -> TwoSamples:
    """Means over the members that learn from an example and over the others, and what their difference is worth.

    standard_error = sqrt(var_seen / k_seen + var_unseen / k_unseen), degrees of freedom by Welch (1947) and Satterthwaite (1946).
    Args: values (members, n). member: bool, the same shape, at least one of each per example. An error from one member is NaN.
    """
    means, errors, degrees = [], [], []
    for chosen in (member, ~member):
        count = chosen.sum(0)
        mean = np.where(chosen, values, 0).sum(0) / count
        squares = np.where(chosen, (values - mean) ** 2, 0).sum(0)
        means.append(mean)
        errors.append(squares / np.where(count > 1, (count - 1) * count, np.nan))
        degrees.append(count - 1)
    total = errors[0] + errors[1]
    parts = errors[0] ** 2 / np.maximum(degrees[0], 1) + errors[1] ** 2 / np.maximum(degrees[1], 1)
    return TwoSamples(means[0], means[1], np.sqrt(total), total**2 / np.maximum(parts, 1e-300))
