"""Duplicates, leaks and outliers against all pairs one by one."""

import pytest
import torch

from unseen.curate.doubles import directions, exact_pairs, groups, near_pairs, nearest_distance, strangeness
from unseen.data import load
from unseen.errors import UnseenError


def with_doubles(count=300, dimensions=200):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, dimensions, generator=generator)
    features[100] = features[7]
    features[200] = features[7] + 0.1 * torch.randn(dimensions, generator=generator)
    features[201] = features[50] + 0.3 * torch.randn(dimensions, generator=generator)
    return features


def naive_pairs(features, near):
    rows = directions(features)
    return {(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows)) if float(rows[i] @ rows[j]) >= near}


@pytest.mark.parametrize("near", [0.8, 0.9, 0.97])
def test_near_pairs_are_those_of_all_pairs(near):
    features = with_doubles()
    found = near_pairs(features, near)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == naive_pairs(features, near)
    assert torch.equal(found.cosine, found.cosine.sort(descending=True).values)
    assert (found.first[0], found.second[0]) == (7, 100)


def test_tiles_do_not_matter(monkeypatch):
    features = with_doubles()
    whole = near_pairs(features)
    monkeypatch.setattr("unseen.curate.doubles.ROWS", 64)
    monkeypatch.setattr("unseen.curate.doubles.COLUMNS", 32)
    tiled = near_pairs(features)
    assert set(zip(tiled.first.tolist(), tiled.second.tolist(), strict=True)) == set(
        zip(whole.first.tolist(), whole.second.tolist(), strict=True)
    )


def test_exact_doubles_and_groups():
    features = with_doubles()
    found = near_pairs(features, 0.9)
    examples = load((features.numpy(), torch.arange(300).numpy() % 2), test_fraction=0.0).train
    exact = found.keep(exact_pairs(found, examples, examples))
    assert (exact.first.tolist(), exact.second.tolist()) == ([7], [100])
    numbers = groups(found, 300)
    assert numbers[7] == numbers[100] == numbers[200] != numbers[50] == numbers[201]


def test_leaks_are_pairs_of_train_and_test():
    train = with_doubles()[:99]
    test = torch.cat([torch.randn(20, 200, generator=torch.Generator().manual_seed(5)), train[[3, 60]] * 1.0])
    found = near_pairs(train, 0.95, test)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == {(3, 20), (60, 21)}


def test_outliers_are_strange():
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(4, 30, generator=generator)
    features = centres.repeat(50, 1) + torch.randn(200, 30, generator=generator)
    features[5] = -2 * centres.sum(0)
    assert strangeness(features).argmax() == 5


def test_garbage_is_strange_though_its_like_is_near():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 400, generator=generator)
    features[:5] *= 2
    found = strangeness(features)
    assert set(found.argsort(descending=True)[:5].tolist()) == set(range(5)) and (found[:5] > 1.5).all()
    assert (found[5:] > 1.5).double().mean() < 0.05


def test_distances_to_the_nearest_one_by_one(monkeypatch):
    monkeypatch.setattr("unseen.curate.doubles.ROWS", 32)
    rows = torch.randn(100, 7, generator=torch.Generator().manual_seed(0))
    for row, found in enumerate(nearest_distance(rows, 4)):
        others = sorted(float((rows[row] - rows[other]).norm()) for other in range(100) if other != row)
        assert float(found) == pytest.approx(sum(others[:4]) / 4, rel=1e-4)


def test_bad_input_is_refused():
    features = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    with pytest.raises(UnseenError, match=r"near is 0.2"):
        near_pairs(features, 0.2)
    features[4, 1] = torch.inf
    with pytest.raises(UnseenError, match="row 4"):
        near_pairs(features)
    assert len(near_pairs(torch.eye(3), 0.9)) == 0
