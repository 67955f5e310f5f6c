"""Attacks against their slow twins, and what must hold of any attack."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import reference_privacy as slow
from unseen.errors import UnseenError
from unseen.privacy import ATTACKS, Shadows, Targets, attack_scores, fitted_a, log_odds_of_logits, log_odds_of_losses
from unseen.privacy.moments import inverse_trigamma, priors

EFFECT = 2.0


def world(members, records, seed=0, effect=EFFECT, others=50, targets=4):
    """Members, and targets apart, whose own records are more certain by about ``effect``; some records are harder than others."""
    random = np.random.default_rng(seed)
    halves = [np.argsort(random.random((count, records)), 0) < count // 2 for count in (members, targets)]
    inside = np.concatenate(halves)
    level, own = random.normal(2, 2, records), effect * random.exponential(1, records)
    width = np.exp(random.normal(0, 0.4, records))
    log_odds = level + own * inside + width * random.normal(size=inside.shape)
    population = random.normal(2, 2, others) + random.normal(size=(len(inside), others))
    return Shadows(*part(log_odds, inside, population, slice(0, members))), Targets(
        *part(log_odds, inside, population, slice(members, None))
    )


def part(*tables_and_rows):
    *tables, rows = tables_and_rows
    return [table[rows] for table in tables]


def tables(of):
    return of.log_odds, of.inside, of.population


def collected(*arguments, **options):
    parts = [scores for _, scores in attack_scores(*arguments, **options)]
    return {name: np.concatenate([scores[name] for scores in parts], 1) for name in parts[0]}


@pytest.mark.parametrize("variance", ["record", "pooled"])
@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("population", [True, False])
def test_attacks_are_those_of_the_papers(held_out, variance, population):
    shadows, targets = world(10, 30)
    if not population:
        shadows, targets = Shadows(shadows.log_odds, shadows.inside), Targets(targets.log_odds, targets.inside)
    gamma, a = 1.2, 0.4
    found = collected(shadows, targets if held_out else None, variance=variance, gamma=gamma, offline_a=a, block=7)
    prior = priors(shadows)
    pooled = slow.pooled_variances(shadows.log_odds, shadows.inside) if variance == "pooled" else None
    whom = targets if held_out else shadows
    for target in range(len(whom.log_odds)):
        left_out = None if held_out else target
        sides = [slow.sides_of(shadows.log_odds, shadows.inside, record, left_out) for record in range(30)]
        if population:
            rest = [np.delete(shadows.population[:, z], [] if held_out else target) for z in range(50)]
            others = {n: [slow.likelihood(whom.population[target, z], [], rest[z], n) for z in range(50)] for n in (None, a)}
        else:
            unseen = [z for z in range(30) if not whom.inside[target, z]]
            others = {n: [slow.likelihood(whom.log_odds[target, z], *sides[z], n) for z in unseen] for n in (None, a)}
        for record in range(30):
            odds, both = whom.log_odds[target, record], sides[record]
            wanted = {
                "lira_online": slow.lira_online(odds, *both, pooled),
                "lira_offline": slow.lira_offline(odds, *both, pooled),
                "bavaria": slow.bavaria(odds, *both, prior),
                "rmia_online": slow.rmia(slow.likelihood(odds, *both), others[None], gamma),
                "rmia_offline": slow.rmia(slow.likelihood(odds, *both, a), others[a], gamma),
                "calibrated_loss": slow.calibrated_loss(odds, *both),
                "plain_loss": -slow.loss_of(odds),
            }
            assert set(wanted) == set(ATTACKS)
            for name, value in wanted.items():
                assert found[name][target, record] == pytest.approx(value, rel=1e-6, abs=1e-6), name


def test_every_attack_finds_members_and_those_with_members_find_more():
    shadows, targets = world(64, 2000, targets=8)
    found = {name: roc_auc_score(targets.inside.ravel(), scores.ravel()) for name, scores in collected(shadows, targets).items()}
    assert min(found.values()) > 0.55
    assert min(found["lira_online"], found["bavaria"]) > found["plain_loss"] + 0.1
    assert found["lira_online"] > found["lira_offline"]


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("members", [8, 24])
def test_nothing_is_found_where_nothing_was_learned(held_out, members):
    """Also not from the number of other members that trained on a record, which leaving a target out gives away."""
    shadows, targets = world(members, 4000, effect=0.0, targets=8)
    found = collected(shadows, targets if held_out else None)
    inside = (targets if held_out else shadows).inside
    for name, scores in found.items():
        assert roc_auc_score(inside.ravel(), scores.ravel()) == pytest.approx(0.5, abs=0.012), name


def test_a_prior_helps_few_members_and_does_no_harm_to_many():
    areas = {}
    for members in (6, 64):
        shadows, targets = world(members, 3000, targets=8)
        for variance in ("record", "pooled"):
            found = collected(shadows, targets, variance=variance, attacks=("lira_online", "bavaria"))
            for name, scores in found.items():
                areas[members, variance, name] = roc_auc_score(targets.inside.ravel(), scores.ravel())
    assert areas[6, "record", "bavaria"] > areas[6, "record", "lira_online"] + 0.02
    assert areas[64, "record", "bavaria"] > areas[64, "record", "lira_online"] - 0.005
    assert areas[64, "record", "bavaria"] > areas[64, "pooled", "lira_online"]


def test_blocks_types_and_a_target_alone_change_nothing():
    shadows, targets = world(16, 100)
    whole = collected(shadows, targets, block=1000)
    for name, scores in collected(shadows, targets, block=9).items():
        assert np.allclose(scores, whole[name], rtol=1e-5, atol=1e-6)
    alone = collected(shadows, Targets(*part(*tables(targets), slice(2, 3))))
    half = collected(Shadows(shadows.log_odds.astype(np.float16), shadows.inside, shadows.population.astype(np.float16)), targets)
    for name, scores in whole.items():
        assert np.allclose(alone[name][0], scores[2])
        assert np.corrcoef(half[name].ravel(), scores.ravel())[0, 1] > 0.999


def test_records_that_all_know_to_the_end_are_no_division_by_zero():
    shadows, targets = world(16, 100)
    shadows.log_odds[:, :5], targets.log_odds[:, :5] = 16.625, 16.625
    assert all(np.isfinite(scores).all() for scores in collected(shadows, targets).values())


def test_the_prior_is_that_of_the_records():
    random = np.random.default_rng(0)
    variance = 3.0 * 8 / random.chisquare(8, 20_000)
    mean = 1.5 + np.sqrt(variance / 0.25) * random.normal(size=20_000)
    values = mean + np.sqrt(variance) * random.normal(size=(12, 20_000))
    inside = np.arange(12)[:, None] < np.full(20_000, 6)
    for prior in priors(Shadows(values, inside)):
        assert prior.degrees == pytest.approx(8, rel=0.1) and prior.variance == pytest.approx(3, rel=0.05)
        assert prior.mean == pytest.approx(1.5, abs=0.1) and prior.strength == pytest.approx(0.25, rel=0.1)
        assert prior.pooled == pytest.approx(variance.mean(), rel=0.03)


@pytest.mark.parametrize("value", [1e-4, 0.3, 1.0, 50.0])
def test_inverse_trigamma(value):
    from scipy.special import polygamma

    assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-6)


def test_offline_a_says_how_members_move():
    random = np.random.default_rng(0)
    inside = np.arange(8)[:, None] < np.full(500, 4)
    out = random.uniform(0.05, 0.9, 500)
    chance = np.where(inside, 1 - 0.3 * (1 - out), out)
    assert fitted_a(Shadows(np.log(chance / (1 - chance)), inside)) == pytest.approx(0.3)


def test_log_odds_are_those_of_softmax():
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 5, (200, 7)), random.integers(0, 7, 200)
    chance = torch.tensor(logits).softmax(1).numpy()[np.arange(200), labels]
    wanted = np.log(chance / (1 - chance)).clip(None, 16.7)
    assert np.allclose(log_odds_of_logits(logits, labels, 7), wanted, atol=0.1)
    assert np.allclose(log_odds_of_logits(logits, labels, 7)[wanted < 10], wanted[wanted < 10])
    losses = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none").numpy()
    assert np.allclose(log_odds_of_losses(losses)[wanted < 10], wanted[wanted < 10])
    assert np.isfinite(log_odds_of_losses(np.array([0.0, 1e-30, 400.0]))).all()


def refused(message, call):
    with pytest.raises(UnseenError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_bad_inputs_have_their_own_line():
    shadows = world(10, 30)[0]
    odds, inside = shadows.log_odds, shadows.inside
    labels = np.arange(30) % 10
    spoiled = odds.copy()
    spoiled[3, 4] = np.nan
    refused("3 members; at least 4", lambda: Shadows(odds[:3], inside[:3]))
    refused("in all of the 10 members", lambda: Shadows(odds, np.ones_like(inside)))
    refused("in fewer than two", lambda: Shadows(odds, np.zeros_like(inside)))
    refused("must be .members, records., both", lambda: Shadows(odds, inside[:, :3]))
    refused("a member .number 3. are NaN or infinite for 1 of 30", lambda: Shadows(spoiled, inside))
    refused("a target .number 3. are NaN", lambda: Targets(spoiled, inside))
    refused(r"\(9, 30\); there are 10 members", lambda: Shadows(odds, inside, odds[:9]))
    refused("6 members or more", lambda: next(attack_scores(Shadows(*[x[:4] for x in (odds, np.arange(4)[:, None] < np.full(30, 2))]))))
    refused("3 records, the members 30", lambda: next(attack_scores(shadows, Targets(odds[:, :3], inside[:, :3]))))
    refused("no attack 'lyra'", lambda: next(attack_scores(shadows, attacks=("lyra",))))
    refused("gamma is 0", lambda: next(attack_scores(shadows, gamma=0)))
    refused("offline_a 2", lambda: next(attack_scores(shadows, offline_a=2)))
    refused("the target has 9 classes".capitalize(), lambda: log_odds_of_logits(np.zeros((30, 9)), labels, 10))
    refused("not finite for 1 of 30 records, first for 4", lambda: log_odds_of_logits(_with_nan(30, 10), labels, 10))
    refused(r"shape \(29, 10\)", lambda: log_odds_of_logits(np.zeros((29, 10)), labels, 10))
    refused("a class of its own", lambda: log_odds_of_logits(np.zeros((30, 30)), np.arange(30), 30))


def _with_nan(records, classes):
    logits = np.zeros((records, classes))
    logits[4, 2] = np.nan
    return logits
