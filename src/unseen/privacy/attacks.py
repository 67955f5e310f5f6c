r"""Attacks that tell members from others by the log-odds of the given label alone.

Each score is high for a record that the target probably trained on. In all of them :math:`\phi` is the target's log-odds of the record's
given label, L its loss, p its probability; in and out are the members that trained on the record and those that did not. Where each
member is a target, it is left out of a record's means and variances; only numbers that are pooled over all records hold it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unseen.errors import UnseenError
from unseen.privacy.moments import BLOCK, SMALLEST_VARIANCE, Moments, Prior, blocks, priors, two_sides
from unseen.privacy.signals import Bools, Floats, Shadows, Targets

MANY_MEMBERS = 64
"""From so many members on LiRA takes each record's own variance (Carlini et al. 2022, section VI); below, one for all records."""
MOST_POPULATION = 20_000
"""Records to compare with in RMIA: its scores are shares of them, and so have steps of 1 / 20,000."""
Variance = Literal["auto", "record", "pooled"]


@dataclass(frozen=True)
class Knowledge:
    """What an attacker has of a block of records.

    Attributes:
        own: the targets' log-odds, float64 (targets, records).
        odds, losses, chances: moments of the members' log-odds, losses (nats) and probabilities, each (in, out).
        priors: of log-odds, over all records, (in, out). pooled: whether LiRA takes one variance for all records.
        likelihoods: RMIA's likelihood ratios of the population, sorted, by target: online and offline.
        gamma, offline_a: RMIA's.
    """

    own: Floats
    odds: tuple[Moments, Moments]
    losses: tuple[Moments, Moments]
    chances: tuple[Moments, Moments]
    priors: tuple[Prior, Prior]
    pooled: bool
    likelihoods: tuple[list[Floats], list[Floats]]
    gamma: float
    offline_a: float


def lira_online(known: Knowledge) -> Floats:
    r"""Likelihood ratio of two Gaussians (Carlini et al., *Membership Inference Attacks From First Principles*, 2022, algorithm 1).

    .. math:: \log N(\phi; \mu_{in}, \sigma_{in}^2) - \log N(\phi; \mu_{out}, \sigma_{out}^2)

    Variances are of the record's members, divided by their number as in the authors' code, or pooled: one for all records, the mean of
    those within records. (The authors' code takes the spread of all records' log-odds at once for the latter, which holds the differences
    between records too.)
    """
    inside, outside = (_log_normal(known.own, known.odds[side].mean, _variance(known, side)) for side in (0, 1))
    return inside - outside


def lira_offline(known: Knowledge) -> Floats:
    r"""How far the log-odds are above those of members without the record (Carlini et al. 2022, equation 4).

    .. math:: (\phi - \mu_{out}) / \sigma_{out}

    The paper's score is the normal distribution function of it, which ranks alike and loses its digits at the end that matters.
    """
    return (known.own - known.odds[1].mean) / np.sqrt(_variance(known, 1))


def bavaria(known: Knowledge) -> Floats:
    r"""Likelihood ratio of two Student's t: Gaussians whose mean and variance have a conjugate prior (BaVarIA-t, Brännvall 2026).

    .. math:: \log t_{2a_n}\Big(\phi; m_n, \frac{b_n (\kappa_n + 1)}{a_n \kappa_n}\Big)_{in} - \text{the same}_{out}

    with the normal-inverse-gamma posterior :math:`\kappa_n = \kappa_0 + n`, :math:`m_n = (\kappa_0 m_0 + n \bar\phi)/\kappa_n`,
    :math:`a_n = (\nu_0 + n)/2`, :math:`b_n = (\nu_0 s_0^2 + S + \kappa_0 n (\bar\phi - m_0)^2/\kappa_n)/2`, S the sum of squares around
    :math:`\bar\phi`. The prior is that of ``Prior``, by empirical Bayes over the records; the paper may choose its parameters otherwise.
    """
    inside, outside = (_log_predictive(known.own, known.odds[side], known.priors[side]) for side in (0, 1))
    return inside - outside


def rmia_online(known: Knowledge) -> Floats:
    r"""Share of other records that a record's likelihood ratio dominates (Zarifzadeh et al. 2024, equations 2 to 4).

    .. math:: \Pr_z\Big[\frac{p(x \mid \theta)}{p(x)} \Big/ \frac{p(z \mid \theta)}{p(z)} > \gamma\Big], \quad
        p(x) = \tfrac12 (\bar p_{in}(x) + \bar p_{out}(x))

    z: the population, never trained on by any, for which p(z) is the mean of all members; without one, the target's own other records.
    For one target it ranks as the likelihood ratio itself: z and gamma make targets comparable.
    """
    return _dominated(known, known.likelihoods[0], _likelihood(known.own, known.chances, None))


def rmia_offline(known: Knowledge) -> Floats:
    r"""As ``rmia_online``, without members that trained on the record (Zarifzadeh et al. 2024, section 3 and appendix B.2).

    .. math:: p(x) = \tfrac12 \big((1 + a)\, \bar p_{out}(x) + 1 - a\big)

    for which a says how members move: p_in is about a p_out + 1 - a.
    """
    return _dominated(known, known.likelihoods[1], _likelihood(known.own, known.chances, known.offline_a))


def calibrated_loss(known: Knowledge) -> Floats:
    r"""The loss against that of members without the record: its difficulty (Watson et al., *On the Importance of Difficulty
    Calibration*, 2022).

    .. math:: \bar L_{out} - L
    """
    return known.losses[1].mean - _loss(known.own)


def plain_loss(known: Knowledge) -> Floats:
    r"""The loss alone, :math:`-L` (Yeom et al. 2018): what needs no member."""
    return -_loss(known.own)


ATTACKS: dict[str, Callable[[Knowledge], Floats]] = {
    attack.__name__: attack for attack in (lira_online, lira_offline, bavaria, rmia_online, rmia_offline, calibrated_loss, plain_loss)
}
"""By the name of their column."""


def attack_scores(
    shadows: Shadows,
    targets: Targets | None = None,
    *,
    attacks: Sequence[str] = tuple(ATTACKS),
    variance: Variance = "auto",
    gamma: float = 1.0,
    offline_a: float | None = None,
    block: int = BLOCK,
) -> Iterator[tuple[slice, dict[str, Floats]]]:
    """Score every record under every target, some records at a time: memory is that of the tables and a block.

    Args:
        shadows: the members' log-odds and membership.
        targets: whom to attack; None: each member by the others.
        attacks: names of ``ATTACKS``.
        variance: LiRA's: "record", "pooled", or by the number of members ("auto", see ``MANY_MEMBERS``).
        gamma: RMIA's, at least 1 by its paper, 1 in its code.
        offline_a: RMIA's, between 0 and 1; None: from the members, the least squares of 1 - p_in = a (1 - p_out) over records.
        block: records at a time.

    Yields:
        A slice of the records, and float32 (targets, that many) by attack; high = member. A few passes over the members' table in all.

    Raises:
        UnseenError: for unknown attacks and values that are not allowed, and where leaving a member out leaves too few.
    """
    if unknown := [name for name in attacks if name not in ATTACKS]:
        raise UnseenError(f"There is no attack {unknown[0]!r}. The attacks are {', '.join(ATTACKS)}.")
    if not gamma > 0 or (offline_a is not None and not 0 <= offline_a <= 1):
        raise UnseenError(f"gamma is {gamma:g} and offline_a {offline_a}: gamma must be above 0, offline_a from 0 to 1.")
    _check_targets(shadows, targets)
    both = priors(shadows, block)
    slope = fitted_a(shadows, block) if offline_a is None else offline_a
    pooled = len(shadows.log_odds) < MANY_MEMBERS if variance == "auto" else variance == "pooled"
    likelihoods = _population(shadows, targets, slope)
    for part in blocks(shadows.log_odds.shape[1], block):
        own = (shadows if targets is None else targets).log_odds[:, part].astype(np.float64)
        odds, losses, chances = _sides(shadows.log_odds[:, part], shadows.inside[:, part], targets is None, part.start)
        known = Knowledge(own, odds, losses, chances, both, pooled, likelihoods, gamma, slope)
        yield part, {name: ATTACKS[name](known).astype(np.float32) for name in attacks}


def _check_targets(shadows: Shadows, targets: Targets | None) -> None:
    if targets is None:
        count = shadows.inside.sum(0)
        if min(count.min(), (len(shadows.inside) - count).min()) < 3:
            raise UnseenError(
                f"Each of {len(shadows.inside)} members is a target for the others, and a record needs two with and two without it beside "
                "the target. Train 6 members or more, or held-out targets."
            )
    elif targets.log_odds.shape[1] != shadows.log_odds.shape[1]:
        raise UnseenError(f"The targets have {targets.log_odds.shape[1]} records, the members {shadows.log_odds.shape[1]}.")


def fitted_a(shadows: Shadows, block: int = BLOCK) -> float:
    """RMIA's a by least squares through the members: 1 - p_in = a (1 - p_out), over all records; between 0 and 1."""
    above = below = 0.0
    for part in blocks(shadows.log_odds.shape[1], block):
        inside, outside = two_sides(_chance(shadows.log_odds[:, part].astype(np.float64)), shadows.inside[:, part], False)
        above += float(((1 - inside.mean) * (1 - outside.mean)).sum())
        below += float(((1 - outside.mean) ** 2).sum())
    return min(max(above / below, 0.0), 1.0) if below > 0 else 1.0


def _sides(log_odds: Floats, inside: Bools, leave_one_out: bool, first: int) -> list[tuple[Moments, Moments]]:
    values = log_odds.astype(np.float64)
    losses = _loss(values)
    return [two_sides(each, inside, leave_one_out, first) for each in (values, losses, np.exp(-losses))]


def _population(shadows: Shadows, targets: Targets | None, slope: float) -> tuple[list[Floats], list[Floats]]:
    """The likelihood ratios of the records to compare with, sorted, a list over targets: online, offline."""
    whom, few = (shadows if targets is None else targets), slice(0, MOST_POPULATION)
    if shadows.population is not None and whom.population is not None:
        log_odds, own = shadows.population[:, few], whom.population[:, few]
        inside, seen = np.zeros(log_odds.shape, np.bool_), np.zeros(own.shape, np.bool_)
    else:
        every = -(-shadows.log_odds.shape[1] // MOST_POPULATION)
        log_odds, inside = shadows.log_odds[:, ::every], shadows.inside[:, ::every]
        own, seen = whom.log_odds[:, ::every], whom.inside[:, ::every]
    if not log_odds.shape[1]:
        raise UnseenError("RMIA has no records to compare with: the population is empty. Give population=None.")
    chances = two_sides(_chance(log_odds.astype(np.float64)), inside, targets is None)
    both = [_likelihood(own.astype(np.float64), chances, a) for a in (None, slope)]
    kept = [~row if not row.all() else row for row in seen]  # a target that trained on all is compared with these
    online, offline = ([np.sort(row[chosen]) for row, chosen in zip(ratios, kept, strict=True)] for ratios in both)
    return online, offline


def _likelihood(own: Floats, chances: tuple[Moments, Moments], slope: float | None) -> Floats:
    """p(x | target) / p(x), (targets, records); slope: RMIA's a, None for online."""
    inside, outside = (side.mean for side in chances)
    online = np.where(np.isnan(inside), outside, (inside + outside) / 2)
    expected = online if slope is None else ((1 + slope) * outside + 1 - slope) / 2
    return _chance(own) / np.maximum(expected, 1e-300)


def _dominated(known: Knowledge, ratios: list[Floats], own: Floats) -> Floats:
    shares = [np.searchsorted(others, row / known.gamma, "left") / len(others) for others, row in zip(ratios, own, strict=True)]
    return np.stack(shares)


def _variance(known: Knowledge, side: int) -> Floats:
    if known.pooled:
        return np.array(known.priors[side].pooled)
    return np.maximum(known.odds[side].variance, SMALLEST_VARIANCE)


def _log_normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    return -0.5 * (np.log(variance) + (x - mean) ** 2 / variance)  # without log(2 pi) / 2, which both sides have


def _log_predictive(x: Floats, moments: Moments, prior: Prior) -> Floats:
    from scipy.special import gammaln

    count = moments.count
    strength, degrees = prior.strength + count, prior.degrees + count
    mean = (prior.strength * prior.mean + count * moments.mean) / strength
    pull = prior.strength * count * (moments.mean - prior.mean) ** 2 / strength
    scale = (prior.degrees * prior.variance + moments.squares + pull) / degrees * (strength + 1) / strength
    numbers = prior.degrees + np.arange(int(count.max()) + 1)
    constants = gammaln((numbers + 1) / 2) - gammaln(numbers / 2) - 0.5 * np.log(numbers * np.pi)
    logs = constants[count.astype(int)] - 0.5 * np.log(scale) - (degrees + 1) / 2 * np.log1p((x - mean) ** 2 / (degrees * scale))
    return np.asarray(logs)


def _loss(log_odds: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, -log_odds))


def _chance(log_odds: Floats) -> Floats:
    return np.asarray(np.exp(-_loss(log_odds)))
