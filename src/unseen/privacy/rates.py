r"""How well an attack tells members from others: ROC, its area, true-positive rates at small false-positive rates, with bands.

All pairs of a target and a record share one threshold. A rate is stated only where enough pairs are of records that the target never saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.privacy.signals import Bools, Floats

FALSE_POSITIVES = 10
"""A rate at a false-positive rate r needs this many over r records that were not trained on, so that its threshold rests on 10 of them."""
AT = (0.01, 0.001, 0.0001)
GROUPS = 100
"""Records are drawn in so many groups: the variance is as if they were drawn alone, and the cost does not depend on their number."""
THRESHOLDS = 600
SMALLEST = 1e-4
"""False-positive rate at which a drawn ROC begins."""


@dataclass(frozen=True)
class Rate:
    """A number with the ends of its 90% band, or None and why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Counts:
    """Pairs of target and record by score, as counts between thresholds.

    Attributes:
        inside, outside: float64 (groups of records, targets, 2 thresholds + 1): pairs that were trained on, and that were not, from the
            highest scores down: above the first threshold, at it, between it and the second, at that, and so on.
    """

    inside: Floats
    outside: Floats

    @classmethod
    def of(cls, scores: Floats, inside: Bools, seed: int = 0) -> "Counts":
        """Count.

        Args:
            scores: (targets, records), high = member.
            inside: bool, the same shape.
            seed: of the groups of records.

        Raises:
            UnseenError: for NaN, for shapes that differ, and where all pairs are members or none is.
        """
        _check(scores, inside)
        edges = _thresholds(scores[~inside])
        groups = np.random.default_rng(key(seed, "groups")).permutation(scores.shape[1]) % GROUPS
        bins = 2 * len(edges) + 1
        tables = np.zeros((2, GROUPS, len(scores), bins))
        for target, (row, member) in enumerate(zip(scores, inside, strict=True)):
            above, above_or_at = (len(edges) - np.searchsorted(edges[::-1], row, side) for side in ("right", "left"))
            flat = (member * GROUPS + groups) * bins + above + above_or_at
            tables[:, :, target] = np.bincount(flat, minlength=2 * GROUPS * bins).reshape(2, GROUPS, -1)
        return cls(tables[1], tables[0])


def _check(scores: Floats, inside: Bools) -> None:
    if scores.ndim != 2 or scores.shape != inside.shape:
        raise UnseenError(f"Scores {scores.shape} and membership {inside.shape} must be (targets, records), both.")
    if np.isnan(scores).any():
        raise UnseenError(f"{int(np.isnan(scores).sum())} scores are NaN.")
    if inside.all() or not inside.any():
        whole = "All" if inside.all() else "None"
        raise UnseenError(f"{whole} of the {inside.size} pairs of target and record are members. Rates need some of both.")


def _thresholds(outside: Floats) -> Floats:
    """Scores of records that were not trained on, from the highest: all where they are few, else closer together at the top."""
    ordered = np.sort(outside)[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), THRESHOLDS).round().astype(int)) - 1
    return np.unique(ordered if len(ordered) <= THRESHOLDS else ordered[ranks])[::-1]


def area(inside: Floats, outside: Floats) -> Floats:
    """Area under the ROC of counts (..., bins) from the highest scores down, by trapezia; ties count half."""
    false, true = _cumulated(outside), _cumulated(inside)
    return np.asarray((np.diff(false, axis=-1) * (true[..., 1:] + true[..., :-1]) / 2).sum(-1))


def rate_at(inside: Floats, outside: Floats, at: Sequence[float]) -> Floats:
    """True-positive rates at false-positive rates, (..., rates); between two thresholds the attacker tosses a coin."""
    false, true = _cumulated(outside), _cumulated(inside)
    shape = false.shape[:-1]
    rows = zip(false.reshape(-1, false.shape[-1]), true.reshape(-1, true.shape[-1]), strict=True)
    return np.array([_upper_interpolation(at, *row) for row in rows]).reshape(*shape, len(at))


def _upper_interpolation(at: Sequence[float], false: Floats, true: Floats) -> Floats:
    """Linear; where several true-positive rates share a false-positive rate, from the highest."""
    after = np.searchsorted(false, at, "right").clip(1, len(false) - 1)
    width = false[after] - false[after - 1]
    share = np.where(width > 0, (np.asarray(at) - false[after - 1]) / np.where(width > 0, width, 1), 1)
    return np.asarray(true[after - 1] + share.clip(0, 1) * (true[after] - true[after - 1]))


def _cumulated(counts: Floats) -> Floats:
    sums = np.concatenate([np.zeros((*counts.shape[:-1], 1)), np.cumsum(counts, -1)], -1)
    return np.asarray(sums / np.maximum(sums[..., -1:], 1e-300))


def attack_rates(
    scores: Floats, inside: Bools, at: Sequence[float] = AT, repeats: int = 200, level: float = 0.9, seed: int = 0
) -> dict[str, Rate]:
    r"""The area under the ROC, and true-positive rates at false-positive rates, with bands over records and targets.

    The variance is that of two-way clusters (Cameron, Gelbach & Miller 2011), each part by the bootstrap: of groups of records, of
    targets, and of their pairs, which the first two both hold,

    .. math:: V = V_{records} + \max(V_{targets} - V_{pairs},\; 0)

    with t quantiles by Satterthwaite's degrees of freedom, on the log-odds of the rate. With one target the band is over records alone.

    Args:
        scores: (targets, records), high = member.
        inside: bool, the same shape: who trained on what.
        at: false-positive rates.
        repeats: of the bootstrap.
        level: of the bands.
        seed: of groups and repeats.

    Returns:
        ``Rate`` by name: auc, and tpr_at_0.01 and so on; without a value, and with the reason, where fewer than ``FALSE_POSITIVES`` / rate
        pairs are of records that the target did not train on.

    Raises:
        UnseenError: as ``Counts.of``.
    """
    counts = Counts.of(scores, inside, seed)
    enough = [rate for rate in at if round(rate * (~inside).sum(), 6) >= FALSE_POSITIVES]
    values, lows, highs = banded(counts, enough, repeats, level, seed)
    found = dict(zip(["auc", *enough], map(Rate, values.tolist(), lows.tolist(), highs.tolist()), strict=True))
    missing = {rate: Rate(None, None, None, _too_few(rate, int((~inside).sum()))) for rate in at if rate not in enough}
    return {"auc": found["auc"]} | {f"tpr_at_{rate:g}": (found | missing)[rate] for rate in at}


def _too_few(rate: float, count: int) -> str:
    needed = round(FALSE_POSITIVES / rate)
    return f"at least {needed:,} records needed that the targets did not train on, over all targets; there are {count:,}"


def roc_curve(scores: Floats, inside: Bools, points: int = 60, repeats: int = 200, seed: int = 0) -> dict[str, list[float]]:
    """The ROC as lists, for a figure with logarithmic axes: false_positive, true_positive, low and high (90%).

    It begins where the first ``FALSE_POSITIVES`` records that were not trained on are passed. Args as ``attack_rates``.
    """
    first = max(SMALLEST, FALSE_POSITIVES / (~inside).sum())
    grid = np.geomspace(min(first, 0.5), 1, points)
    values, lows, highs = banded(Counts.of(scores, inside, seed), grid.tolist(), repeats, 0.9, seed)
    names = ("false_positive", "true_positive", "low", "high")
    return dict(zip(names, (each.tolist() for each in (grid, values[1:], lows[1:], highs[1:])), strict=True))


def banded(counts: Counts, at: Sequence[float], repeats: int, level: float, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Values of the area and of the rates ``at``, and the low and high ends of their bands: each (1 + rates,)."""
    groups, targets, bins = counts.inside.shape
    random = np.random.default_rng(key(seed, "bands"))
    values = _all(counts.inside.sum((0, 1)), counts.outside.sum((0, 1)), at)
    by_group = _spread(counts.inside.sum(1), counts.outside.sum(1), at, repeats, random)
    if targets == 1:
        return values, *_ends(values, by_group, np.full(len(values), groups - 1.0), counts, level)
    by_target = _spread(counts.inside.sum(0), counts.outside.sum(0), at, repeats, random)
    by_pair = _spread(counts.inside.reshape(-1, bins), counts.outside.reshape(-1, bins), at, repeats, random)
    between = np.maximum(by_target - by_pair, 0)
    variance = by_group + between
    degrees = variance**2 / np.maximum(between**2 / (targets - 1) + by_group**2 / (groups - 1), 1e-300)
    return values, *_ends(values, variance, degrees, counts, level)


def _all(inside: Floats, outside: Floats, at: Sequence[float]) -> Floats:
    return np.concatenate([area(inside, outside)[..., None], rate_at(inside, outside, at)], -1)


def _spread(inside: Floats, outside: Floats, at: Sequence[float], repeats: int, random: np.random.Generator) -> Floats:
    """Bootstrap variance over the rows of counts (clusters, bins)."""
    clusters = len(inside)
    draws = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=repeats).astype(np.float64)
    found = _all(draws @ inside, draws @ outside, at)
    return np.asarray(found.var(0, ddof=1)) * clusters / (clusters - 1)


def _ends(values: Floats, variance: Floats, degrees: Floats, counts: Counts, level: float) -> tuple[Floats, Floats]:
    from scipy.special import expit, logit
    from scipy.stats import t

    pairs = counts.inside.sum()
    inner: NDArray[Any] = (values * pairs + 0.5) / (pairs + 1)  # rates of 0 and 1 have log-odds too
    least = inner * (1 - inner) / pairs
    error = np.sqrt(np.maximum(variance, least)) / (inner * (1 - inner))
    width = t.ppf((1 + level) / 2, np.maximum(degrees, 1)) * error
    return np.minimum(expit(logit(inner) - width), values), np.maximum(expit(logit(inner) + width), values)
