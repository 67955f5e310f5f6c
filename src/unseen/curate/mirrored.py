r"""How many labels of two classes are wrong.

An error planted in two classes is the mirror image of the label that it takes the place of: its log-odds are those of the given label with
the other sign. So planted errors say nothing that the given labels do not, and what tells wrong labels from hard ones is how often a label
stands against the prediction, the surer that is. With m = \|t\| of the log-odds t against the label,

.. math:: P(t > 0 \mid m) = ε + (1 - 2 ε)\, σ(-c\, m),

ε of the labels being wrong whatever m, and the share of the others that is truly against the prediction falling with it: c corrects the
scale of the probabilities. Both are the likeliest (anchors as of Liu & Tao 2016, smoothed by the logistic curve).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unseen.curate.binormal import OVERLAP, auroc

Floats = NDArray[np.float64]

SHARES, SLOPES = (0.005, 0.05, 0.2), (0.5, 1.5)  # where the search begins
BOUNDS = ((-9.0, -0.2), (-3.0, 4.0))  # of logit ε and log c


@dataclass(frozen=True)
class Mirrored:
    """The fitted curve.

    Args:
        share: ε.
        slope: c.
        overlap: of given labels and planted errors, their mirror images: one minus the AUROC.
    """

    share: float
    slope: float
    overlap: float

    def wrong(self, against: Floats) -> Floats:
        """Probability that labels with these log-odds against them are wrong, by Bayes' theorem."""
        from scipy.special import expit

        hard = expit(-self.slope * np.abs(against))
        stands_against = self.share + (1 - 2 * self.share) * hard
        return np.asarray(np.where(against > 0, self.share * (1 - hard) / stands_against, self.share * hard / (1 - stands_against)))

    def with_fewer(self, part: float) -> "Mirrored":
        """As ``Mixture.with_fewer``."""
        return replace(self, share=max(self.share - part * OVERLAP * self.overlap, 0.0))


def mirrored(against: Floats) -> Mirrored:
    """Fit ε and c to the log-odds against the given labels, (n,)."""
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    size = float(np.median(np.abs(against))) or 1.0
    distance, is_against = np.abs(against) / size, against > 0

    def misfit(values: Floats) -> float:
        share = expit(values[0])
        chance = np.clip(share + (1 - 2 * share) * expit(-np.exp(values[1]) * distance), 1e-12, 1 - 1e-12)
        return -float(np.where(is_against, np.log(chance), np.log1p(-chance)).sum())

    starts = [np.array([logit(share), slope]) for share in SHARES for slope in SLOPES]
    best = min((minimize(misfit, start, method="L-BFGS-B", bounds=BOUNDS) for start in starts), key=lambda found: found.fun)
    return Mirrored(float(expit(best.x[0])), float(np.exp(best.x[1])) / size, 1 - auroc(against, -against))
