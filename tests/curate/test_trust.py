"""How right a list says it is, against how right it is: on scores whose truth is known."""

import numpy as np
import pytest
import torch

from unseen.curate.binormal import Mixture
from unseen.curate.mirrored import Mirrored, mirrored
from unseen.curate.trust import against_labels, between, planted_auroc, planted_errors, pooled, trust_in
from unseen.errors import UnseenError
from unseen.training import fit_head


def scored(share, pairs=None, count=3000, classes=5, apart=1.3, seed=0):
    """Gaussian classes, a share of labels wrong (at random, or from one class to another), scored by the head."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, classes, (count,), generator=generator)
    features = apart * torch.randn(classes, 12, generator=torch.Generator().manual_seed(1))[true] + torch.randn(
        count, 12, generator=generator
    )
    given = true.clone()
    candidates = torch.arange(count) if pairs is None else torch.isin(true, torch.tensor(list(pairs))).nonzero()[:, 0]
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[: round(share * count)]]
    if pairs is None:
        given[chosen] = (true[chosen] + torch.randint(1, classes, (len(chosen),), generator=generator)) % classes
    else:
        given[chosen] = torch.tensor([pairs[int(label)] for label in true[chosen]])
    _, found = fit_head(features, given, classes)
    return found.probabilities().numpy(), given.numpy(), (given != true).numpy()


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_totals_and_heads_of_lists_are_near_the_truth(share):
    probabilities, labels, wrong = scored(share)
    trust = trust_in(probabilities, labels, repeats=0)
    assert trust.says
    assert trust.total == pytest.approx(wrong.sum(), rel=0.3)
    for count in (20, 50, int(wrong.sum())):
        assert trust.in_first(trust.order, count)[0] / count == pytest.approx(wrong[trust.order[:count]].mean(), abs=0.15)


def test_clean_labels_are_called_clean():
    probabilities, labels, _ = scored(0)
    trust = trust_in(probabilities, labels, repeats=0)
    assert trust.total < 0.01 * len(labels)
    assert trust.stop(trust.order) < 20


def test_a_habit_is_found_and_ranks_better_than_log_odds():
    probabilities, labels, wrong = scored(0.06, {0: 1, 2: 3})
    trust = trust_in(probabilities, labels, repeats=0)
    count = int(wrong.sum())
    by_odds = wrong[np.argsort(-trust.against)[:count]].mean()
    assert wrong[trust.order[:count]].mean() > by_odds
    assert trust.total == pytest.approx(count, rel=0.35)


def test_the_interval_holds_the_truth_and_the_stop_is_where_half_are_wrong():
    probabilities, labels, wrong = scored(0.1)
    trust = trust_in(probabilities, labels, repeats=10)
    assert trust.total_low < wrong.sum() < trust.total_high
    stop = trust.stop(trust.order)
    assert wrong[trust.order[:stop]].mean() > 0.5 > wrong[trust.order[stop : 2 * stop]].mean()
    said = trust.sentence(trust.order)
    assert f"Stop after {stop:,}" in said and f"of {len(labels):,} labels are wrong" in said


def test_near_chance_nothing_is_said():
    probabilities, labels, _ = scored(0.1, apart=0.0)
    trust = trust_in(probabilities, labels, repeats=0)
    assert not trust.says
    assert np.isnan(trust.in_first(trust.order, 20)[0])
    assert trust.stop(trust.order) == 0
    assert "Nothing can be said" in trust.sentence(trust.order)


def test_the_score_of_a_planted_error_is_that_of_training_with_it():
    """The leave-one-out prediction of an example does not depend on its own label."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(200, 6, generator=generator), torch.randint(0, 3, (200,), generator=generator)
    planted = labels.clone()
    planted[11] = (labels[11] + 1) % 3
    before, after = (fit_head(features, given, 3, 10.0)[1].unseen for given in (labels, planted))
    assert torch.allclose(before[11], after[11], atol=1e-10)
    assert not torch.allclose(before[12], after[12], atol=1e-10)


def test_between_is_the_log_ratio_of_two_probabilities():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    against = against_labels(probabilities, np.zeros(200, np.int64))
    assert np.allclose(between(against, 2, 1), np.log(probabilities[:, 2] / probabilities[:, 1]))


def test_bad_input_is_refused():
    probabilities, labels, _ = scored(0.1)
    with pytest.raises(UnseenError, match="at least 100"):
        trust_in(probabilities[:50], labels[:50])
    with pytest.raises(UnseenError, match="Probabilities have shape"):
        trust_in(probabilities[:, 0], labels)
    probabilities[3, 1] = np.nan
    with pytest.raises(UnseenError, match="NaN"):
        trust_in(probabilities, labels)


@pytest.mark.parametrize(("count", "classes"), [(150, 5), (3000, 300)])
def test_planted_errors_are_every_other_class_and_their_auroc_is_that_of_sorting(count, classes):
    """Of 3,000 examples and 300 classes every fourth planted error is looked at; values repeat, so that there are ties."""
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    against, labels = random.normal(size=(count, classes)).round(1), random.integers(classes, size=count)
    planted = np.ones(against.shape, bool)
    planted[np.arange(count), labels] = False
    step = max(1, int(planted.sum()) // 200_000)
    some = planted_errors(against, labels)
    assert some.tolist() == against[planted][::step].tolist()
    given = against[~planted]
    slow = roc_auc_score(np.repeat([1, 0], [len(some), count]), np.concatenate([some, given]))
    assert planted_auroc(against, labels) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
def test_two_classes_are_told_by_how_often_labels_stand_against_sure_predictions(share):
    draw = np.random.default_rng(0)
    odds = draw.normal(0, 3, 20_000)  # of the class 1, in truth
    true = draw.random(20_000) < 1 / (1 + np.exp(-odds))
    wrong = draw.random(20_000) < share
    against = np.where(true ^ wrong, -odds, odds) / 2  # the scale is not known
    found = mirrored(against)
    assert found.share == pytest.approx(share, abs=0.01) and found.slope == pytest.approx(2, rel=0.15)
    chances = found.wrong(against)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 1.01)):
        some = (chances >= low) & (chances < high)
        if some.sum() > 100:
            assert chances[some].mean() == pytest.approx(wrong[some].mean(), abs=0.05)


def test_totals_of_two_classes():
    probabilities, labels, wrong = scored(0.1, classes=2, apart=0.6)
    trust = trust_in(probabilities, labels, repeats=5)
    assert trust.total == pytest.approx(wrong.sum(), rel=0.3)
    assert trust.total_low < wrong.sum() < trust.total_high


def test_what_is_fitted_to_two_classes_is_their_curve_and_to_more_the_mixture():
    two, three = (scored(0.1, classes=classes, apart=0.8) for classes in (2, 3))
    curve, fitted = (pooled(against_labels(probabilities, labels), labels) for probabilities, labels, _ in (two, three))
    assert isinstance(curve, Mirrored) and isinstance(fitted, Mixture)
    assert curve.share == pytest.approx(two[2].mean(), rel=0.3) and fitted.share == pytest.approx(three[2].mean(), rel=0.3)


@pytest.mark.parametrize("classes", [2, 4])
def test_with_fewer_wrong_labels_fewer_are_called_wrong(classes):
    probabilities, labels, _ = scored(0.1, classes=classes, apart=0.8)
    against = against_labels(probabilities, labels)
    found, given = pooled(against, labels), against[np.arange(len(labels)), labels]
    assert np.allclose(found.with_fewer(0).wrong(given), found.wrong(given))
    sums = [found.with_fewer(part).wrong(given).sum() for part in (0, 0.5, 1, 1e9)]
    assert sums[0] > sums[1] > sums[2] > sums[3] == 0
    assert found.overlap == pytest.approx(1 - planted_auroc(against, labels))
