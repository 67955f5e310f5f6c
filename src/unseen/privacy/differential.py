r"""Differential privacy as a check: what an attack that succeeded says of epsilon, with confidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError
from unseen.privacy.signals import Bools, Floats

FEWEST_TRIALS = 20
"""On either side: with fewer no attack, however good, shows an epsilon above 1."""


def epsilon_lower_bound(scores: Floats, inside: Bools, delta: float = 1e-5, confidence: float = 0.95) -> float:
    r"""What epsilon training must at least have, since an attack did so well: below a true (epsilon, delta), but for 1 - confidence.

    A mechanism that is (epsilon, delta)-private allows no test of one record more than (Kairouz, Oh & Viswanath 2015)

    .. math:: \text{TPR} \le e^\epsilon\, \text{FPR} + \delta, \quad \text{TNR} \le e^\epsilon\, \text{FNR} + \delta

    The rates are replaced by their ends by Clopper & Pearson (1934), each at (1 - confidence) / 2, as Jagielski, Ullman & Oprea (2020) do.
    The threshold is chosen on every other trial, and the bound is of the rest.

    Args:
        scores: (trials,), high = member: of one record under networks that were each trained by themselves, with or without it.
        inside: bool (trials,), which of them trained on it.
        delta: of the privacy that is checked.
        confidence: probability that the bound holds.

    Returns:
        The bound, at least 0. It grows with the trials: a perfect attack on n + n trials shows about log(n / 3.7) at 95%.

    Raises:
        UnseenError: for shapes that differ, NaN, too few trials of a side, and a delta or confidence outside of 0 to 1.
    """
    _check(scores, inside, delta, confidence)
    halves = [_every_other(inside, first) for first in (0, 1)]
    chosen, kept = ((scores[half], inside[half]) for half in halves)
    bounds = [_bound(*chosen, threshold, delta, confidence) for threshold in np.unique(chosen[0])]
    threshold = np.unique(chosen[0])[int(np.argmax(bounds))]
    return max(0.0, _bound(*kept, threshold, delta, confidence))


def _check(scores: Floats, inside: Bools, delta: float, confidence: float) -> None:
    if scores.ndim != 1 or scores.shape != inside.shape or np.isnan(scores).any():
        raise UnseenError(f"Scores {scores.shape} and membership {inside.shape} must be (trials,), both, and no score NaN.")
    if not 0 <= delta < 1 or not 0 < confidence < 1:
        raise UnseenError(f"delta is {delta:g} and confidence {confidence:g}. delta must be from 0 to below 1, confidence between 0 and 1.")
    if (fewest := min(int(inside.sum()), int((~inside).sum()))) < FEWEST_TRIALS:
        raise UnseenError(
            f"There are {int(inside.sum())} trials with the record and {int((~inside).sum())} without it ({fewest} at the least); at least "
            f"{FEWEST_TRIALS} of each are needed. Train more networks."
        )


def _every_other(inside: Bools, first: int) -> NDArray[np.int64]:
    """Every other trial of either side, so that both halves have some of both."""
    return np.concatenate([np.flatnonzero(side)[first::2] for side in (inside, ~inside)])


def _bound(scores: Floats, inside: Bools, threshold: Any, delta: float, confidence: float) -> float:
    called = scores >= threshold
    rates = [_ends(int((called & side).sum()), int(side.sum()), 1 - confidence) for side in (inside, ~inside)]
    true_low, false_high = rates[0][0], rates[1][1]
    pairs = ((true_low, false_high), (1 - false_high, 1 - true_low))
    return max(float(np.log((good - delta) / bad)) if good > delta and bad > 0 else -np.inf for good, bad in pairs)


def _ends(hits: int, trials: int, error: float) -> tuple[float, float]:
    """Clopper & Pearson's interval of a share, each end at ``error`` / 2."""
    from scipy.stats import beta

    low = 0.0 if hits == 0 else float(beta.ppf(error / 2, hits, trials - hits + 1))
    return low, 1.0 if hits == trials else float(beta.ppf(1 - error / 2, hits + 1, trials - hits))
