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
    An error from one member is NaN.

    Args:
        values: (members, n).
        member: who learns from which example, bool (members, n); each example has at least one member with it and one without.
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


PRIOR_DEGREES = 4
"""What the other examples' variance counts, in degrees of freedom: as much as five members of the example's own."""
ALIKE = 0.05
"""Share of the examples, on either side in the order of the mean, whose variance an example's is drawn towards."""
FEWEST_ALIKE = 25


def moderated_samples(values: Floats, member: Bools, degrees: float = PRIOR_DEGREES) -> TwoSamples:
    r"""As ``two_samples``, with variances drawn towards those of examples with a similar mean: a conjugate prior by empirical Bayes.

    .. math:: \tilde s^2 = \frac{d_0\, s_0^2 + (k - 1)\, s^2}{d_0 + k - 1}

    (Smyth 2004, section 3), for each side by itself, with :math:`s_0^2` the mean variance of the examples next in the order of the mean
    over all members. Losses have long tails: of few members without an easy example often none has the rare large loss that others have,
    and its own variance is then far too small. The mean of its neighbours' knows of such losses; that of their logarithms, which is usual,
    does not. In the order of the side's own mean, examples whose few members had luck would be among others that had it.

    Args:
        values: (members, n).
        member: who learns from which example, bool (members, n); each example has at least one member with it and one without.
        degrees: d_0.
    """
    means, errors, freedom = [], [], []
    order = np.argsort(values.mean(0), kind="stable")
    for chosen in (member, ~member):
        count = chosen.sum(0)
        mean = np.where(chosen, values, 0).sum(0) / count
        squares = np.where(chosen, (values - mean) ** 2, 0).sum(0)
        own = squares / np.maximum(count - 1, 1)
        variance = (degrees * _of_those_alike(order, own, count > 1) + squares) / (degrees + count - 1)
        means.append(mean)
        errors.append(variance / count)
        freedom.append(degrees + count - 1)
    total = errors[0] + errors[1]
    parts = errors[0] ** 2 / freedom[0] + errors[1] ** 2 / freedom[1]
    return TwoSamples(means[0], means[1], np.sqrt(total), total**2 / np.maximum(parts, 1e-300))


def _of_those_alike(order: NDArray[np.int64], variance: Floats, known: Bools) -> Floats:
    """Mean variance of the examples next in an order, of those whose variance is known; NaN where there are none."""
    width, places = max(FEWEST_ALIKE, round(ALIKE * len(order))), np.arange(len(order))
    first, last = (places - width).clip(0), (places + width + 1).clip(max=len(order))
    sums = [np.cumsum(np.insert(np.where(known, each, 0.0)[order], 0, 0.0)) for each in (variance, np.ones(len(order)))]
    total, count = (sum_[last] - sum_[first] for sum_ in sums)
    result = np.empty(len(order))
    result[order] = total / np.where(count > 0, count, np.nan)
    return result
