"""The ridge head against training again without each example."""

import pytest
import torch

from unseen.errors import UnseenError
from unseen.training import Sums, fit_head, fit_in_chunks, relabelled
from unseen.training.head import SCALES, losses_by_scale, one_hot, press, solve
from unseen.training.sums import Rows


def planted(count=120, dimensions=9, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    centres = torch.randn(classes, dimensions, generator=generator)
    features = centres[labels] + 1.5 * torch.randn(count, dimensions, generator=generator)
    return 7 + 3 * features, labels


def naive_scores(features, labels, classes, ridge, deviation, query):
    """A ridge with a free intercept by the normal equations, on features over fixed deviations."""
    x = features.double() / deviation
    mean, y = x.mean(0), one_hot(labels, classes)
    weights = torch.linalg.solve((x - mean).T @ (x - mean) + ridge * torch.eye(x.shape[1]).double(), (x - mean).T @ (y - y.mean(0)))
    return (query.double() / deviation - mean) @ weights + y.mean(0)


def deviation_of(features):
    return features.double().std(0, correction=0)


@pytest.mark.parametrize("ridge", [0.01, 5.0, 300.0])
def test_leave_one_out_is_training_again_without_each(ridge):
    features, labels = planted()
    _, found = fit_head(features, labels, 3, ridge)
    everyone = torch.arange(len(labels))
    for row in range(0, len(labels), 7):
        kept = everyone != row
        scores = naive_scores(features[kept], labels[kept], 3, ridge, deviation_of(features), features[row])
        assert torch.allclose(found.unseen[row], scores, atol=1e-5)
    assert torch.allclose(found.seen, naive_scores(features, labels, 3, ridge, deviation_of(features), features), atol=1e-5)


def test_influence_is_training_again_without_each():
    features, labels = planted(60)
    queries, query_labels = planted(5, seed=1)
    head, found = fit_head(features, labels, 3, 2.0)
    influence = head.influence(features, labels, queries, query_labels)
    own = head.influence(features, labels, features, labels).diagonal()
    assert torch.allclose(own, found.memorization, atol=1e-8)
    losses = lambda scores: torch.nn.functional.cross_entropy(scores * head.scale, query_labels, reduction="none")
    for row in (0, 17, 59):
        kept = torch.arange(60) != row
        without = naive_scores(features[kept], labels[kept], 3, 2.0, deviation_of(features), queries)
        assert torch.allclose(influence[row], losses(without) - losses(head.scores(queries)), atol=1e-5)


def test_the_hat_matrix_gives_the_fitted_scores():
    features, labels = planted()
    head, found = fit_head(features, labels, 3)
    assert torch.allclose(head.hat(features, features) @ one_hot(labels, 3), found.seen)
    assert torch.allclose(head.hat(features, features).diagonal(), found.leverage)


def test_sums_add_up_over_chunks_and_processes():
    features, labels = planted()
    whole = Sums.empty(9, 3).add(features, labels)
    shifted = Sums.empty(9, 3, torch.full((9,), 100.0)).add(features[40:], labels[40:])
    parts = Sums.empty(9, 3).add(features[:40], labels[:40]) + shifted
    for name in ("count", "features", "labels", "gram", "cross"):
        assert torch.allclose(torch.as_tensor(getattr(parts.moved(whole.shift), name)), torch.as_tensor(getattr(whole, name))), name
    chunked = fit_in_chunks(zip(features.split(17), labels.split(17), strict=True), 3, 120)
    head, found = fit_head(features, labels, 3)
    assert chunked.ridge == pytest.approx(head.ridge)
    assert torch.allclose(chunked.predict(features[:30], labels[:30]).unseen, found.unseen[:30], atol=1e-8)


def test_rows_stay_in_order_in_few_tensors(monkeypatch):
    monkeypatch.setattr("unseen.training.sums.ROWS", 50)
    features, labels = planted()
    rows = Rows()
    for part in zip(features.split(17), labels.split(17), strict=True):
        rows.add(*part)
    kept = rows.chunks()
    assert [len(part[1]) for part in kept] == [50, 50, 20] and Rows().chunks() == []
    assert torch.equal(torch.cat([part[0] for part in kept]), features) and torch.equal(torch.cat([part[1] for part in kept]), labels)


def test_other_labels_need_no_other_eigenproblem():
    features, labels = planted()
    head, _ = fit_head(features, labels, 3)
    other = labels.roll(1)
    again, found = relabelled(head, head.coordinates(features), other)
    expected, twin = fit_head(features, other, 3)
    assert again.ridge == pytest.approx(expected.ridge)
    assert torch.allclose(found.unseen, twin.unseen, atol=1e-8)
    assert torch.allclose(again.scores(features), expected.scores(features), atol=1e-8)


def test_ridge_and_scale_of_data_sorted_by_class(monkeypatch):
    features, labels = planted(600)
    order = labels.argsort()
    monkeypatch.setattr("unseen.training.head.CHOICE_ROWS", 200)
    chunks = zip(features[order].split(50), labels[order].split(50), strict=True)
    chosen, (whole, _) = fit_in_chunks(chunks, 3, 600), fit_head(features, labels, 3)
    assert chosen.scale == pytest.approx(whole.scale, rel=0.3)
    assert chosen.ridge == pytest.approx(whole.ridge, rel=10)


def test_large_means_lose_no_digits():
    features, labels = planted()
    _, found = fit_head(features.double(), labels, 3, 1.0)
    _, moved = fit_head(features.double() + 1e6, labels, 3, 1.0)
    assert torch.allclose(found.unseen, moved.unseen, atol=1e-6)


def test_units_do_not_matter_and_constants_are_left_out():
    features, labels = planted()
    scaled = torch.cat([features * torch.logspace(-3, 3, 9), torch.full((len(labels), 1), 3.0)], 1)
    _, found = fit_head(features, labels, 3, 1.0)
    _, other = fit_head(scaled, labels, 3, 1.0)
    assert torch.allclose(found.unseen, other.unseen, atol=1e-4)


def test_the_ridge_has_the_least_squared_residual():
    features, labels = planted()
    head, found = fit_head(features, labels, 3)
    ridges = [head.ridge / 3, head.ridge, head.ridge * 3]
    squares = press(head, ridges, features, labels)
    assert squares.argmin() == 1
    assert squares[1] == pytest.approx(float((one_hot(labels, 3) - found.unseen).square().sum()))
    assert SCALES[int(losses_by_scale(found.unseen, labels).argmin())] == head.scale


def test_wrong_labels_are_memorized_and_found():
    features, labels = planted(400, classes=4)
    given = labels.clone()
    given[:40] = (given[:40] + 1) % 4
    _, found = fit_head(features, given, 4)
    assert found.memorization[:40].mean() > 1.5 * found.memorization[40:].mean()
    assert found.loss("unseen")[:40].mean() > 2 * found.loss("unseen")[40:].mean()
    assert (found.loss("unseen") > found.loss("seen")).double().mean() > 0.95
    assert torch.allclose(found.probabilities().sum(1), torch.ones(400).double())


def test_bad_features_are_refused():
    features, labels = planted()
    broken = features.clone()
    broken[3, 2] = torch.nan
    with pytest.raises(UnseenError, match="row 3 hold a NaN"):
        fit_head(broken, labels, 3)
    with pytest.raises(UnseenError, match="Allowed: 0 to 1"):
        fit_head(features, labels, 2)
    with pytest.raises(UnseenError, match="a row for each"):
        fit_head(features[:-1], labels, 3)
    with pytest.raises(UnseenError, match="2 or more"):
        fit_head(features[:1], labels[:1], 3)
    with pytest.raises(UnseenError, match="same extractor"):
        fit_in_chunks([(features, labels), (features[:, :4], labels)], 3, 240)


def test_constant_features_give_the_shares_of_the_classes():
    labels = torch.tensor([0, 0, 0, 1])
    _, found = fit_head(torch.ones(4, 3), labels, 2)
    assert torch.allclose(found.seen, torch.tensor([[0.75, 0.25]]).double().expand(4, 2))
    assert torch.allclose(found.unseen[3], torch.tensor([1.0, 0.0]).double())
    assert solve(Sums.empty(3, 2).add(torch.ones(4, 3), labels)).ridge == 1.0
