"""Members with a record and members without it, as counts, means and squares: all that the attacks need of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.privacy.signals import Bools, Floats, Shadows

LARGEST_PRIOR = 1e4
"""Degrees of freedom: where variances differ no more than chance has it, the prior is as good as certain."""
SMALLEST_VARIANCE = 1e-6
"""Of log-odds, whose steps are 0.008 in float16: records that all networks know to the end have no other spread."""
BLOCK = 8192
"""Records at a time: 64 members of them in float64 are 4 MiB, which stays in a cache."""


@dataclass(frozen=True)
class Moments:
    """Of the members on one side of each record.

    Attributes:
        count, mean: of the members. squares: sum of their squared differences from the mean. Each float64 (1, records), or (members,
            records) where each member is left out in turn.
    """

    count: Floats
    mean: Floats
    squares: Floats

    @property
    def variance(self) -> Floats:
        """Mean of the squared differences, as LiRA's authors take it; NaN of no member."""
        return self.squares / np.where(self.count > 0, self.count, np.nan)


def two_sides(values: Floats, inside: Bools, leave_one_out: bool, first: int = 0) -> tuple[Moments, Moments]:
    """Moments of the members with each record and of those without.

    Where each member is left out in turn, one of the other side is left out with it: the first from member (record modulo members) on.
    Else the sides' counts would tell the attack whether the target trained on the record, since members share records out evenly.

    Args:
        values: (members, records).
        inside: bool, the same shape.
        leave_one_out: whether each member is left out in turn; then row k is of all members but k.
        first: the number of the first of these records among all.
    """
    centre = values.mean(0, keepdims=True, dtype=np.float64)
    centred = values - centre
    return _side(centred, centre, inside, leave_one_out, first), _side(centred, centre, ~inside, leave_one_out, first)


def _side(centred: Floats, centre: Floats, chosen: Bools, leave_one_out: bool, first: int) -> Moments:
    own = centred * chosen
    count, total, squares = chosen.sum(0, keepdims=True).astype(np.float64), own.sum(0, keepdims=True), (own * own).sum(0, keepdims=True)
    if leave_one_out:
        gone = np.where(chosen, centred, _companions(centred, chosen, first))
        some = count > 0
        count, total, squares = np.broadcast_to(count - some, gone.shape), total - some * gone, squares - some * gone * gone
    mean = total / np.maximum(count, 1)
    return Moments(count, np.where(count > 0, mean + centre, np.nan), np.maximum(squares - count * mean * mean, 0))


def _companions(centred: Floats, chosen: Bools, first: int) -> Floats:
    """Of each record the value of the first chosen member from (record modulo members) on, (1, records)."""
    members, records = chosen.shape
    after = (np.arange(members)[:, None] - first - np.arange(records)) % members
    return np.take_along_axis(centred, np.where(chosen, after, members).argmin(0)[None], 0)


@dataclass(frozen=True)
class Prior:
    r"""A conjugate prior of a record's mean and variance on one side, normal-inverse-gamma, by empirical Bayes over the records.

    .. math:: \sigma^2 \sim \text{InvGamma}(\nu_0/2,\; \nu_0 s_0^2/2), \quad \mu \mid \sigma^2 \sim N(m_0,\; \sigma^2/\kappa_0)

    Variance: Smyth (2004), *Linear models and empirical Bayes methods*, section 6.2, from mean and spread of the log-variances. Mean:
    m_0 is the mean of the records' means, kappa_0 the variance within records over that between their means.

    Attributes:
        mean, strength: m_0 and kappa_0. degrees, variance: nu_0 and s_0^2.
        pooled: variance within records, all taken as equal: sum of squares over degrees of freedom.
    """

    mean: float
    strength: float
    degrees: float
    variance: float
    pooled: float


def priors(shadows: Shadows, block: int = BLOCK) -> tuple[Prior, Prior]:
    """The priors of members with a record and of members without, from one pass over the records."""
    sums: list[list[Floats]] = [[], []]
    for part in blocks(shadows.log_odds.shape[1], block):
        both = two_sides(shadows.log_odds[:, part].astype(np.float64), shadows.inside[:, part], False)
        for side, moments in enumerate(both):
            sums[side].append(_sums(moments))
    inside, outside = (_prior(np.sum(each, axis=0)) for each in sums)
    return inside, outside


def _sums(moments: Moments) -> Floats:
    """What ``_prior`` needs, added up over records."""
    from scipy.special import digamma, polygamma

    count, squares, mean = moments.count[0], moments.squares[0], moments.mean[0]
    half = (count - 1) / 2
    spread = squares / (2 * half) > SMALLEST_VARIANCE
    numbers = np.arange(int(count.max()) + 1)
    tables = [np.where(numbers > 1, function(np.maximum(numbers - 1, 1) / 2), 0) for function in (digamma, lambda x: polygamma(1, x))]
    first, second = (table[count.astype(int)] for table in tables)
    logs = np.log(squares[spread] / (2 * half[spread])) - first[spread] + np.log(half[spread])
    within = squares / (2 * half) / count  # of the mean, by chance
    own = [len(mean), mean.sum(), (mean**2).sum(), within.sum(), squares.sum(), (2 * half).sum()]
    return np.array([*own, len(logs), logs.sum(), (logs**2).sum(), second[spread].sum()])


def _prior(sums: Floats) -> Prior:
    from scipy.special import digamma

    records, total, of_squares, chance, squares, degrees, varied, logs, of_logs, expected = (float(value) for value in sums)
    mean, pooled = total / records, max(squares / degrees, SMALLEST_VARIANCE)
    between = max(of_squares / records - mean**2 - chance / records, SMALLEST_VARIANCE)
    if varied < 2:
        return Prior(mean, pooled / between, LARGEST_PRIOR, pooled, pooled)
    excess = (of_logs - logs**2 / varied) / (varied - 1) - expected / varied
    prior = min(2 * inverse_trigamma(excess), LARGEST_PRIOR) if excess > 0 else LARGEST_PRIOR
    variance = float(np.exp(logs / varied + digamma(prior / 2) - np.log(prior / 2)))
    return Prior(mean, pooled / between, prior, max(variance, SMALLEST_VARIANCE), pooled)


def inverse_trigamma(value: float) -> float:
    """The x at which the trigamma function is ``value`` > 0, by Newton's method on its reciprocal (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def blocks(records: int, block: int = BLOCK) -> Iterator[slice]:
    """Records in parts that fit in a cache."""
    return (slice(first, min(first + block, records)) for first in range(0, records, block))


def moderated(moments: Moments, prior: Prior) -> tuple[NDArray[Any], NDArray[Any]]:
    """A record's variance drawn towards that of the others, and its degrees of freedom (Smyth 2004, section 3)."""
    degrees = prior.degrees + np.maximum(moments.count - 1, 0)
    return (prior.degrees * prior.variance + moments.squares) / degrees, degrees
