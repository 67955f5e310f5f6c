r"""The risk of each record: how often an attacker who knows its distributions would find it in a training set, at a false-alarm rate."""

from dataclasses import dataclass

import numpy as np

from unseen.privacy.moments import BLOCK, SMALLEST_VARIANCE, Moments, Prior, blocks, moderated, priors, two_sides
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

    .. math:: \text{TPR} = \Phi\Big(\frac{\mu_{in} - \mu_{out} - z_{1-r}\, \sigma_{out}}{\sigma_{in}}\Big)

    for Gaussian log-odds of members with and without it (Carlini et al. 2022 find them near enough), whose variances are drawn towards
    those of the other records (``Prior``). So the rate is the record's own: false alarms are over networks without it, not over other
    records. The interval is :math:`\Phi(d \pm 1.645\, s)`, by the delta method, d the argument above,

    .. math:: s^2 = \Big(\frac{\sigma_{in}^2}{n_{in}} + \frac{\sigma_{out}^2}{n_{out}}
        + \frac{z^2 \sigma_{out}^2}{2 \nu_{out}}\Big) \Big/ \sigma_{in}^2 + \frac{d^2}{2 \nu_{in}}

    Returns ``Power`` by false-positive rate. At .1% and below it is the Gaussian's tail that speaks; see ``false_alarms``.
    """
    from scipy.stats import norm

    both = priors(shadows, block)
    found: dict[float, list[Floats]] = {rate: [] for rate in at}
    for part in blocks(shadows.log_odds.shape[1], block):
        sides = two_sides(shadows.log_odds[:, part].astype(np.float64), shadows.inside[:, part], False)
        for rate in at:
            value, error = _argument(sides, both, float(norm.isf(rate)))
            found[rate].append(norm.cdf(np.stack([value, value - NORMAL_90 * error, value + NORMAL_90 * error])))
    return {rate: Power(*np.concatenate(parts, 1)) for rate, parts in found.items()}


def _argument(sides: tuple[Moments, Moments], both: tuple[Prior, Prior], z: float) -> tuple[Floats, Floats]:
    inside, outside = sides
    (var_in, free_in), (var_out, free_out) = (moderated(side, prior) for side, prior in zip(sides, both, strict=True))
    var_in, var_out = np.maximum(var_in, SMALLEST_VARIANCE), np.maximum(var_out, SMALLEST_VARIANCE)
    value = (inside.mean - outside.mean - z * np.sqrt(var_out)) / np.sqrt(var_in)
    noise = var_in / inside.count + var_out / outside.count + z * z * var_out / (2 * free_out)
    return value[0], np.sqrt(noise / var_in + value**2 / (2 * free_in))[0]


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
