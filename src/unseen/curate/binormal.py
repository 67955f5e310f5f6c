"""The mixture of right and wrong labels that ``trust`` fits: both normal on the axis on which planted errors are standard normal."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOWEST, HIGHEST, BINS = -1.5, 2.2, 50  # the range that is fitted, in standard deviations of the planted errors
SPREAD = 0.2  # prior deviation of the log of the spread of right labels: 0 is that of the planted errors
STARTS = ((0.005, 2.5), (0.03, 1.0), (0.1, 2.5), (0.25, 1.5))
BOUNDS = ((-9.0, 0.4), (-2.0, 2.0), (-1.0, 1.0))  # of logit ε, log distance, log spread
OVERLAP = 0.2  # times the overlap: the share of right labels that may look wrong, see LOG.md


@dataclass(frozen=True, eq=False)
class Mixture:
    """The fitted mixture: the edges of its bins of t, the probability of being wrong in each, ε, and ``overlap`` of given and planted."""

    edges: Floats
    chances: Floats
    share: float
    likelihood: float
    overlap: float

    def wrong(self, against: Floats) -> Floats:
        """Probability that labels with these log-odds against them are wrong; 0 below the range that is fitted."""
        places = np.searchsorted(self.edges, against, side="right") - 1
        return np.where(places < 0, 0.0, self.chances[places.clip(0, len(self.chances) - 1)])

    def with_fewer(self, part: float) -> "Mixture":
        """The same with a smaller ε, where this ``part`` of the right labels that may look wrong do: ``OVERLAP`` times the overlap."""
        share = max(self.share - part * OVERLAP * self.overlap, 0.0)
        chances = self.chances * share / self.share  # of being wrong, but for a factor
        return replace(self, share=share, chances=chances / (chances + (1 - self.chances) * (1 - share) / (1 - self.share)))


def mixture(given: Floats, planted: Floats, weights: Floats, by_chance: float, fixed: float | None = None) -> Mixture:
    """Fit ε, and where right labels lie, to the log-odds against the given labels.

    Args:
        given: log-odds against the given labels, (n,).
        planted: log-odds against the planted errors, (m,).
        weights: of the planted errors, (m,).
        by_chance: share of wrong labels that planting makes right, κ / ε.
        fixed: the share of wrong labels ε; None: it is fitted too.
    """
    from scipy.optimize import minimize
    from scipy.special import ndtr

    edges, marks = _bins(planted, weights)
    counts = np.histogram(given, np.append(edges, np.inf))[0]
    planted_share = np.diff(ndtr(marks))

    def parts(values: Floats) -> tuple[float, Floats, Floats]:
        share, apart, spread = 1 / (1 + np.exp(-values[0])), np.exp(values[1]), np.exp(values[2])
        right = -np.diff(ndtr(-(marks + apart) / spread))
        lucky = share * by_chance
        return share, right, np.maximum((planted_share - lucky * right) / (1 - lucky), 1e-12)

    def misfit(values: Floats) -> float:
        share, right, wrong = parts(values)
        expected = len(given) * ((1 - share) * right + share * wrong) + 1e-9
        return float(-(counts * np.log(expected) - expected).sum() + 0.5 * (values[2] / SPREAD) ** 2)

    shares = STARTS if fixed is None else tuple((fixed, apart) for _, apart in STARTS[:2])
    starts = [np.array([np.log(share / (1 - share)), np.log(apart), 0.0]) for share, apart in shares]
    bounds = BOUNDS if fixed is None else ((starts[0][0],) * 2, *BOUNDS[1:])
    best = min((minimize(misfit, start, method="L-BFGS-B", bounds=bounds) for start in starts), key=lambda found: found.fun)
    share, right, wrong = parts(best.x)
    ratio = np.minimum.accumulate(right / wrong)  # the more against a label, the likelier it is wrong
    chances = share / (share + (1 - share) * ratio)
    return Mixture(edges, chances, float(share), -float(best.fun), 1 - auroc(given, planted))


def _bins(planted: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Edges of bins of t, and the same as quantiles of a standard normal that the planted errors follow; the last bin is open."""
    from scipy.special import ndtr, ndtri

    order = planted.argsort()
    values, sums = planted[order], weights[order].cumsum()
    wanted = ndtr(np.linspace(LOWEST, HIGHEST, BINS))
    edges = np.unique(values[np.searchsorted(sums / sums[-1], wanted).clip(0, len(values) - 1)])
    below = np.concatenate([[0.0], sums])[np.searchsorted(values, edges)] / sums[-1]
    return edges, np.append(ndtri(below.clip(1e-9, 1 - 1e-9)), np.inf)


def auroc(given: Floats, planted: Floats) -> float:
    """How often a planted error's log-odds are larger than a given label's; ties count half."""
    given = np.sort(given)
    below = np.searchsorted(given, planted, side="left") + np.searchsorted(given, planted, side="right")
    return float(below.mean() / 2 / len(given))
