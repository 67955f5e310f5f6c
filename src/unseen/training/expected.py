"""Memorization as one half of the members is led to expect it of the other: their difference alone is true and noisy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.training.samples import two_samples

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

FEWEST_MEMBERS = 32
"""Half of them must rank the examples by themselves; of 16 the expected rank was no better than the mean unseen loss (LOG.md)."""
FEWEST_EXAMPLES = 200
SPLITS = 4
"""Ways to halve the members; each half is the other's target."""
TINY = 1e-4  # nats, so that a loss of 0 has a logarithm


def expected_rank(later: Floats, last: Floats, member: Bools, orders: NDArray[np.int64]) -> Floats | None:
    r"""The share of the examples that are expected to be memorized less, given all that the members say of each.

    The difference of the losses without an example and with it is its memorization, without bias, and is noisy. Their levels are less
    noisy, and biased. So the members are halved: what one half says of an example, :math:`x_i^A`, is regressed on the rank of the other
    half's difference, :math:`r_i^B`, whose noise it does not share, and

    .. math:: \text{memorization\_rank}_i = \hat E[r^B \mid x^A = x_i]

    at what all members say, the mean over both directions of ``SPLITS`` halvings, and of that the rank. x are logarithms: of the mean
    losses with, without and over all members, at the end and over the later epochs, and of the deviation of the latter over members; and
    the mean logarithm of the loss without. The regression is additive: a quadratic spline of each, by ridge regression, its penalty by
    leave-one-out. It is regression to the mean by empirical Bayes (Robbins 1956) with more than one witness.

    Args:
        later: loss of each example by each member, nats, mean over the later epochs: (members, n).
        last: the same at the end.
        member: who learned from what, bool (members, n); each example has at least one member with it and one without.
        orders: int64 (members,), by which order of batches each was trained. Halves share no order, as members of one err together.

    Returns:
        (n,), from 0 to 1, high = memorized. None with fewer than ``FEWEST_MEMBERS`` members or ``FEWEST_EXAMPLES`` examples.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer, SplineTransformer

    if len(member) < FEWEST_MEMBERS or member.shape[1] < FEWEST_EXAMPLES:
        return None
    everyone, found = statements(later, last, member), np.zeros(member.shape[1])
    for half in halves(orders):
        for one, other in ((half, ~half), (~half, half)):
            kept = np.logical_and.reduce([member[rows].any(0) & ~member[rows].all(0) for rows in (one, other)])
            model = make_pipeline(
                QuantileTransformer(n_quantiles=200, random_state=0), SplineTransformer(5, degree=2), RidgeCV(np.logspace(-2, 4, 13))
            )
            model.fit(statements(later[one][:, kept], last[one][:, kept], member[one][:, kept]), ranks(last[other], member[other], kept))
            found += model.predict(everyone)
    return as_ranks(found)


def halves(orders: NDArray[np.int64]) -> list[Bools]:
    """``SPLITS`` random halves of the members, bool (members,) each, of whole orders of batches where there are several."""
    random = np.random.default_rng(0)
    units = orders if len(np.unique(orders)) > 1 else np.arange(len(orders))
    names = np.unique(units)
    return [np.isin(units, random.permutation(names)[: len(names) // 2]) for _ in range(SPLITS)]


def statements(later: Floats, last: Floats, member: Bools) -> Floats:
    """What some members say of each example: (n, 8)."""
    inside, outside = member / np.maximum(member.sum(0), 1), ~member / np.maximum((~member).sum(0), 1)
    means = [(losses * chosen).sum(0) for losses in (later, last) for chosen in (inside, outside, 1 / len(member))]
    geometric = (np.log(last + TINY) * outside).sum(0)
    return np.stack([*(np.log(mean + TINY) for mean in (*means, later.std(0))), geometric], 1)


def ranks(last: Floats, member: Bools, kept: Bools) -> Floats:
    """Rank of the difference of the losses without and with an example, of the examples kept, from 0 to 1: (kept,)."""
    return as_ranks(two_samples(last[:, kept], member[:, kept]).gap)


def as_ranks(values: Floats) -> Floats:
    """The share of the values below each, those that equal it counting half: (n,), between 0 and 1."""
    from scipy.stats import rankdata

    result: Floats = (rankdata(values) - 0.5) / len(values)
    return result
