"""Slow, obvious twins of ``privacy/``: one target, one record and one member after the other, by the papers' formulas."""

import numpy as np
from scipy import stats


def loss_of(odds):
    return float(np.log1p(np.exp(-odds)))


def chance_of(odds):
    return float(1 / (1 + np.exp(-odds)))


def sides_of(log_odds, inside, record, left_out=None):
    """The log-odds of a record by the members with it, and by those without; a target takes one of the other side out with it."""
    count = len(log_odds)
    around = [(record + step) % count for step in range(count)]
    others = [k for k in around if left_out is not None and inside[k, record] != inside[left_out, record]]
    members = [k for k in range(count) if k not in (left_out, *others[:1])]
    return (
        np.array([log_odds[k, record] for k in members if inside[k, record]]),
        np.array([log_odds[k, record] for k in members if not inside[k, record]]),
    )


def pooled_variances(log_odds, inside):
    """Of members with and without a record: squares within records over degrees of freedom."""
    found = []
    for side in (0, 1):
        samples = [sides_of(log_odds, inside, record)[side] for record in range(log_odds.shape[1])]
        found.append(sum(((x - x.mean()) ** 2).sum() for x in samples) / sum(len(x) - 1 for x in samples))
    return found


def lira_online(odds, with_it, without, variances=None):
    variances = variances or (with_it.var(), without.var())
    one = stats.norm.logpdf(odds, with_it.mean(), np.sqrt(variances[0]))
    return one - stats.norm.logpdf(odds, without.mean(), np.sqrt(variances[1]))


def lira_offline(odds, with_it, without, variances=None):
    """The paper's probability, as the quantile of the normal distribution that it stands for; from the end where it keeps its digits."""
    spread = np.sqrt(variances[1]) if variances else without.std()
    above = stats.norm.sf(odds, without.mean(), spread)
    return stats.norm.isf(above) if above < 0.5 else stats.norm.ppf(stats.norm.cdf(odds, without.mean(), spread))


def posterior(sample, prior):
    """Normal-inverse-gamma after a sample, one value after the other: m, kappa, a, b."""
    m, kappa, a, b = prior.mean, prior.strength, prior.degrees / 2, prior.degrees * prior.variance / 2
    for value in sample:
        b += kappa * (value - m) ** 2 / (2 * (kappa + 1))
        m = (kappa * m + value) / (kappa + 1)
        kappa, a = kappa + 1, a + 0.5
    return m, kappa, a, b


def bavaria(odds, with_it, without, priors):
    logs = []
    for sample, prior in zip((with_it, without), priors, strict=True):
        m, kappa, a, b = posterior(sample, prior)
        logs.append(stats.t.logpdf(odds, 2 * a, m, np.sqrt(b * (kappa + 1) / (a * kappa))))
    return logs[0] - logs[1]


def calibrated_loss(odds, with_it, without):
    return np.mean([loss_of(x) for x in without]) - loss_of(odds)


def likelihood(odds, with_it, without, a=None):
    """RMIA's p(x | target) / p(x); a: offline."""
    out = np.mean([chance_of(x) for x in without])
    if a is not None:
        return chance_of(odds) / (0.5 * ((1 + a) * out + 1 - a))
    return chance_of(odds) / (0.5 * (np.mean([chance_of(x) for x in with_it]) + out) if len(with_it) else out)


def rmia(ratio, others, gamma):
    return np.mean([ratio / other > gamma for other in others])


def roc(scores, inside):
    """(false-positive rate, true-positive rate) at every threshold, from the highest."""
    thresholds = [np.inf, *sorted(set(scores.ravel()), reverse=True)]
    return [(float((scores[~inside] >= t).mean()), float((scores[inside] >= t).mean())) for t in thresholds]
