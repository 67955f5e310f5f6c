r"""The risk of each record: how often an attacker who knows its distributions would find it in a training set, at a false-alarm rate."""

from dataclasses import dataclass

import numpy as np

from unseen.privacy.moments import BLOCK, SMALLEST_VARIANCE, Prior, blocks, moderated, priors, two_sides
from unseen.privacy.signals import Bools, Floats, Shadows, Targets

NORMAL_90 = 1.6448536269514722  # half the width of a 90% interval, in standard errors
RISKS = ("low", "unclear", "raised", "high")
HIGH, RAISED = 0.5, 0.1
"""High: found more often than not at 1% false alarms. Raised: ten times as often as by chance. Both must hold at the interval's low end."""


@dataclass(frozen=True)
class Power:
    """An attacker's true-positive rate on each record, with the ends of its 90% interval; each float64 (records,)."""

    value: Floats
    low: Floats
    high: Floats


def record_power(shadows: Shadows, at: tuple[float, ...] = (0.01, 0.001), block: int = BLOCK) -> dict[float, Power]:
    r"""The power of the test of one record at a false-positive rate r: do its log-odds exceed those of networks without it?

    .. math:: \text{TPR} = \Phi(d), \quad d = \frac{\delta - z_{1-r}\, \sigma_{out}}{\sigma_{in}}, \quad \delta = \mu_{in} - \mu_{out}

    for Gaussian log-odds of members with and without it (Carlini et al. 2022 find them near enough). So the rate is the record's own: false
    alarms are over networks without it, not over other records. What few members say of one record is drawn towards what all say of the
    others: variances by ``Prior``; the gap, in units of :math:`\sigma = \sqrt{(\sigma_{in}^2 + \sigma_{out}^2)/2}`, by a Gaussian with the
    records' own mean and spread (James & Stein 1961), since noise would otherwise look like risk. The interval is
    :math:`\Phi(d \pm 1.645\, s)` by the delta method, w the share of the gap's own variance v that remains,

    .. math:: s^2 = \Big(w\, v + \frac{z^2 \sigma_{out}^2}{2 \nu_{out}}\Big) \Big/ \sigma_{in}^2 + \frac{d^2}{2 \nu_{in}},
        \quad v = \frac{\sigma_{in}^2}{n_{in}} + \frac{\sigma_{out}^2}{n_{out}}, \quad w = \frac{\tau^2}{\tau^2 + v/\sigma^2}

    Returns ``Power`` by false-positive rate. At .1% and below it is the Gaussian's tail that speaks; see ``false_alarms``.
    """
    from scipy.stats import norm

    sides = [_Sides.of(shadows, part, both) for both in [priors(shadows, block)] for part in blocks(shadows.log_odds.shape[1], block)]
    mean, spread = _gaps(sides)
    found = {}
    for rate in at:
        arguments = [side.argument(mean, spread, float(norm.isf(rate))) for side in sides]
        found[rate] = Power(*norm.cdf(np.concatenate([np.stack([d, d - NORMAL_90 * s, d + NORMAL_90 * s]) for d, s in arguments], 1)))
    return found


@dataclass(frozen=True)
class _Sides:
    """Of a block of records: the gap of means; moderated variances and degrees of freedom, in and out; the variance of the gap."""

    gap: Floats
    variances: tuple[Floats, Floats]
    degrees: tuple[Floats, Floats]
    noise: Floats

    @classmethod
    def of(cls, shadows: Shadows, part: slice, both: tuple[Prior, Prior]) -> "_Sides":
        sides = two_sides(shadows.log_odds[:, part].astype(np.float64), shadows.inside[:, part], False)
        moderate = [moderated(side, prior) for side, prior in zip(sides, both, strict=True)]
        inside, outside = (np.maximum(variance, SMALLEST_VARIANCE)[0] for variance, _ in moderate)
        noise = inside / sides[0].count[0] + outside / sides[1].count[0]
        return cls((sides[0].mean - sides[1].mean)[0], (inside, outside), (moderate[0][1][0], moderate[1][1][0]), noise)

    @property
    def unit(self) -> Floats:
        """Variance that gaps are measured in."""
        return (self.variances[0] + self.variances[1]) / 2

    def argument(self, mean: float, spread: float, z: float) -> tuple[Floats, Floats]:
        """The argument d and its standard error. mean, spread: of the records' true gaps, in units, the second a variance."""
        (inside, outside), (free_in, free_out) = self.variances, self.degrees
        kept = spread / (spread + self.noise / self.unit)
        gap = kept * self.gap + (1 - kept) * mean * np.sqrt(self.unit)
        value = (gap - z * np.sqrt(outside)) / np.sqrt(inside)
        return value, np.sqrt((kept * self.noise + z * z * outside / (2 * free_out)) / inside + value**2 / (2 * free_in))


def _gaps(sides: list[_Sides]) -> tuple[float, float]:
    """Mean of the records' gaps, in units, and their variance beyond chance."""
    gaps = np.concatenate([side.gap / np.sqrt(side.unit) for side in sides])
    chance = np.concatenate([side.noise / side.unit for side in sides])
    return float(gaps.mean()), max(float(gaps.var() - chance.mean()), SMALLEST_VARIANCE)


def members_memorization(shadows: Shadows, block: int = BLOCK) -> Floats:
    """Mean loss of the members without each record minus that of those with it, nats, float64 (records,); high = memorized."""
    sides = [
        two_sides(np.logaddexp(0, -shadows.log_odds[:, part].astype(np.float64)), shadows.inside[:, part], False)
        for part in blocks(shadows.log_odds.shape[1], block)
    ]
    return np.concatenate([(outside.mean - inside.mean)[0] for inside, outside in sides])


def risk_classes(power: Power) -> list[str]:
    """One of ``RISKS`` by the power at a false-positive rate of 1%.

    high: the interval's low end is ``HIGH`` or more; raised: it is ``RAISED`` or more; low: the high end is below ``RAISED``; unclear: the
    interval holds both sides of it, more members would tell.
    """
    highest = np.select([power.low >= HIGH, power.low >= RAISED, power.high < RAISED], [3, 2, 0], 1)
    return [RISKS[place] for place in highest]


def false_alarms(
    shadows: Shadows, targets: Targets, at: tuple[float, ...] = (0.01, 0.001), block: int = BLOCK
) -> dict[float, dict[str, float]]:
    """Whether log-odds are Gaussian enough for ``record_power``: the tests of all records, on targets that were not among the members.

    A test calls a record a member where the target's log-odds pass the quantile of Student's t that Gaussian log-odds of as many members
    without the record would pass at the stated rate.

    Returns, by the stated false-positive rate: false_positive, the share of pairs of a target and a record that it did not train on that
    are called members; true_positive, of those that it did; and power, the mean that ``record_power`` states for these.
    """
    from scipy.special import stdtrit

    both, powers = priors(shadows, block), record_power(shadows, at, block)
    called: dict[float, list[Bools]] = {rate: [] for rate in at}
    for part in blocks(shadows.log_odds.shape[1], block):
        outside = two_sides(shadows.log_odds[:, part].astype(np.float64), shadows.inside[:, part], False)[1]
        variance, degrees = moderated(outside, both[1])
        spread = np.sqrt(np.maximum(variance, SMALLEST_VARIANCE) * (1 + 1 / outside.count))
        for rate in at:
            called[rate].append(targets.log_odds[:, part] > outside.mean + stdtrit(degrees, 1 - rate) * spread)
    found = {}
    for rate, parts in called.items():
        hits, of = np.concatenate(parts, 1), targets.inside
        mean = float(np.average(powers[rate].value, weights=of.sum(0)))
        found[rate] = {"false_positive": float(hits[~of].mean()), "true_positive": float(hits[of].mean()), "power": mean}
    return found
