"""Rates against their slow twins, what bands are worth in simulated repetitions, and the risk of single records."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

import reference_privacy as slow
from unseen.errors import UnseenError
from unseen.privacy import Shadows, Targets, attack_rates, false_alarms, loss_trace_spread, record_power, risk_classes, roc_curve
from unseen.privacy.moments import priors
from unseen.privacy.rates import Counts, banded, rate_at
from unseen.privacy.records import Power

REPETITIONS = 150


def scene(random, records, targets, separation=1.0, by_record=0.5, by_target=0.0, noise=1.0):
    """Scores whose members are higher, some records far, with what records and targets have in common."""
    inside = random.random((targets, records)) < 0.5
    scores = separation * inside * random.exponential(1, records) + by_record * random.normal(size=records)
    return scores + by_target * random.normal(size=(targets, 1)) + noise * random.normal(size=inside.shape), inside


@pytest.mark.parametrize("digits", [3, 0])
def test_rates_are_those_of_the_curve(digits):
    """Also with ties, which a tossed coin resolves."""
    scores, inside = scene(np.random.default_rng(0), 150, 3)
    scores = scores.round(digits)
    points = slow.roc(scores, inside)
    at = [0.01, 0.05, 0.3, 0.99]
    counts = Counts.of(scores, inside)
    found = rate_at(counts.inside.sum((0, 1)), counts.outside.sum((0, 1)), at)
    for rate, value in zip(at, found, strict=True):
        below = max(point for point in points if point[0] <= rate)
        above = min(point for point in points if point[0] > rate)
        assert value == pytest.approx(below[1] + (rate - below[0]) / (above[0] - below[0]) * (above[1] - below[1]), abs=1e-12)
    assert banded(counts, [], 2, 0.9)[0][0] == pytest.approx(roc_auc_score(inside.ravel(), scores.ravel()))


def test_many_scores_are_counted_between_thresholds():
    scores, inside = scene(np.random.default_rng(1), 20_000, 4)
    found = attack_rates(scores, inside, (0.01, 0.001), repeats=20)
    assert found["auc"].value == pytest.approx(roc_auc_score(inside.ravel(), scores.ravel()), abs=1e-4)
    for rate in (0.01, 0.001):
        threshold = np.quantile(scores[~inside], 1 - rate)
        assert found[f"tpr_at_{rate:g}"].value == pytest.approx((scores[inside] > threshold).mean(), rel=0.02)


def test_a_rate_needs_enough_records_that_were_not_trained_on():
    scores, inside = scene(np.random.default_rng(2), 1000, 2)
    inside[:] = np.arange(1000) < 500
    found = attack_rates(scores, inside, repeats=20)
    assert found["tpr_at_0.01"].value is not None
    assert found["tpr_at_0.001"].value is found["tpr_at_0.001"].low is None
    assert "at least 10,000 records needed" in found["tpr_at_0.001"].reason and "1,000" in found["tpr_at_0.001"].reason
    assert attack_rates(scores[:, 1:], np.roll(inside, 1)[:, 1:], repeats=20)["tpr_at_0.01"].value is None  # 999 of them


@pytest.mark.parametrize(
    ("records", "targets", "options"),
    [
        (600, 8, {"by_record": 1.0, "noise": 0.3}),
        (600, 8, {"by_target": 0.3}),
        (280, 8, {"by_record": 0.7, "by_target": 0.1}),  # barely enough for 1%
        (2500, 1, {}),
    ],
)
def test_bands_hold_the_rates_as_often_as_they_say(records, targets, options):
    random = np.random.default_rng(0)
    many = [scene(random, 20_000, 50, **options) for _ in range(2)]
    outside, inside = np.sort(np.concatenate([s[~m] for s, m in many])), np.sort(np.concatenate([s[m] for s, m in many]))
    true = {"auc": np.searchsorted(outside, inside).mean() / len(outside)}
    true["tpr_at_0.01"] = (inside > np.quantile(outside, 0.99)).mean()
    held = dict.fromkeys(true, 0)
    for repetition in range(REPETITIONS):
        found = attack_rates(*scene(random, records, targets, **options), (0.01,), repeats=100, seed=repetition)
        for name, value in true.items():
            held[name] += found[name].low <= value <= found[name].high
    assert all(0.85 <= count / REPETITIONS <= 0.97 for count in held.values()), held
    assert 0.85 <= sum(held.values()) / (2 * REPETITIONS) <= 0.95, held


def test_the_curve_is_one():
    scores, inside = scene(np.random.default_rng(3), 2000, 4)
    curve = roc_curve(scores, inside)
    false, true, low, high = (np.array(curve[name]) for name in ("false_positive", "true_positive", "low", "high"))
    assert (np.diff(true) >= 0).all() and (low <= true).all() and (true <= high).all() and true[-1] == 1
    assert false[0] == pytest.approx(10 / (~inside).sum()) and (true[:-1] > false[:-1]).all()
    found = attack_rates(scores, inside, (0.05,), repeats=20)["tpr_at_0.05"].value
    assert np.interp(0.05, false, true) == pytest.approx(found, rel=0.05)


def test_scores_that_cannot_be_rated():
    scores, inside = scene(np.random.default_rng(0), 20, 2)
    for message, bad in {
        "All of the 40 pairs": (scores, np.ones_like(inside)),
        "None of the 40 pairs": (scores, np.zeros_like(inside)),
        "2 scores are NaN": (np.where(np.arange(20) == 3, np.nan, scores), inside),
        "both": (scores[0], inside[0]),
    }.items():
        with pytest.raises(UnseenError, match=message):
            attack_rates(*bad)


def gaussians(random, members, records, targets=1):
    """Members' log-odds by Gaussians, the true power at 1% of each record, and targets."""
    level, gain = random.normal(0, 2, records), 3 * random.random(records)
    widths = np.sqrt(1 / random.gamma(4, 0.25, (2, records)))  # without, with
    inside = np.concatenate([np.argsort(random.random((count, records)), 0) < count // 2 for count in (members, targets)])
    odds = level + gain * inside + np.where(inside, widths[1], widths[0]) * random.normal(size=inside.shape)
    power = norm.cdf((gain - norm.isf(0.01) * widths[0]) / widths[1])
    return Shadows(odds[:members], inside[:members]), Targets(odds[members:], inside[members:]), power


@pytest.mark.parametrize("members", [8, 16, 64])
def test_intervals_of_records_hold_their_power(members):
    shadows, _, true = gaussians(np.random.default_rng(0), members, 4000)
    found = record_power(shadows)[0.01]
    assert 0.85 <= ((found.low <= true) & (true <= found.high)).mean() <= 0.95
    assert np.corrcoef(found.value, true)[0, 1] > 0.6


def test_power_is_what_targets_show():
    shadows, targets, _ = gaussians(np.random.default_rng(1), 64, 4000, 40)
    found = false_alarms(shadows, targets)
    assert found[0.01]["false_positive"] == pytest.approx(0.01, rel=0.15)
    assert found[0.001]["false_positive"] == pytest.approx(0.001, rel=0.4)
    assert found[0.01]["true_positive"] == pytest.approx(found[0.01]["power"], abs=0.03)


def test_power_by_record_and_its_slow_twin():
    shadows, _, _ = gaussians(np.random.default_rng(2), 12, 50)
    both, records = priors(shadows), []
    for record in range(50):
        variances, samples = [], slow.sides_of(shadows.log_odds, shadows.inside, record)
        for sample, prior in zip(samples, both, strict=True):
            squares = ((sample - sample.mean()) ** 2).sum()
            variances.append((prior.degrees * prior.variance + squares) / (prior.degrees + len(sample) - 1))
        unit = np.sqrt(np.mean(variances))
        noise = variances[0] / len(samples[0]) + variances[1] / len(samples[1])
        records.append((samples[0].mean() - samples[1].mean(), *variances, unit, noise))
    gaps = [gap / unit for gap, *_, unit, _ in records]
    spread = np.var(gaps) - np.mean([noise / unit**2 for *_, unit, noise in records])
    found = record_power(shadows, (0.05,), block=7)[0.05].value
    for record, (gap, inside, outside, unit, noise) in enumerate(records):
        kept = spread / (spread + noise / unit**2)
        threshold = norm.isf(0.05) * np.sqrt(outside)  # above the mean of those without it
        assert found[record] == pytest.approx(norm.sf(threshold, kept * gap + (1 - kept) * np.mean(gaps) * unit, np.sqrt(inside)))


def test_few_members_do_not_make_noise_look_like_risk():
    true = gaussians(np.random.default_rng(3), 64, 4000)[2].mean()
    for members in (4, 8, 32):
        assert record_power(gaussians(np.random.default_rng(3), members, 4000)[0])[0.01].value.mean() == pytest.approx(true, rel=0.3)


def test_risk_classes_follow_the_interval():
    low, high = np.array([0.6, 0.2, 0.05, 0.0]), np.array([0.9, 0.9, 0.4, 0.05])
    assert risk_classes(Power((low + high) / 2, low, high)) == ["high", "raised", "unclear", "low"]


def test_a_loss_that_moves_has_a_spread():
    random = np.random.default_rng(0)
    losses = random.random((21, 30))
    spread = loss_trace_spread(losses)
    for record in range(30):
        ordered = sorted(losses[:, record])
        assert spread[record] == pytest.approx(ordered[15] - ordered[5])
    with pytest.raises(UnseenError, match="two epochs"):
        loss_trace_spread(losses[:1])
