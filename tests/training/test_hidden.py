"""A head on a network's own last features: the twin retrains it without each example; the features are those of the measuring pass."""

import pytest
import torch
from torch import nn

import unseen
from unseen.masks import TurnOverNet
from unseen.training import Ordinary, find_output, first_batch, head_scores, measure
from unseen.training.head import fit_head


def planted(count=90, dimensions=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.randn(classes, dimensions, generator=generator)[labels] + torch.randn(count, dimensions, generator=generator), labels


def naive_losses(features, labels, classes, ridge, scale, rows):
    """Loss of each row by a head fitted without it, on features over the whole set's deviations."""
    x, y = features.double() / features.double().std(0, correction=0), nn.functional.one_hot(labels, classes).double()
    losses = []
    for row in rows:
        kept = torch.arange(len(x)) != row
        mean, prior = x[kept].mean(0), y[kept].mean(0)
        moved = x[kept] - mean
        weights = torch.linalg.solve(moved.T @ moved + ridge * torch.eye(x.shape[1]).double(), moved.T @ (y[kept] - prior))
        scores = ((x[row] - mean) @ weights + prior) * scale
        losses.append(-scores.log_softmax(0)[labels[row]])
    return torch.stack(losses).float()


def test_head_loss_is_that_of_heads_retrained_without_each():
    features, labels = planted()
    everyone = torch.ones(len(labels), dtype=torch.bool)
    found = head_scores(features, labels, everyone, 3)
    from unseen.training import hidden

    head = hidden.chosen(hidden.solve(hidden.Sums.empty(6, 3).add(features, labels)), [(features, labels)], ridges=hidden.RIDGES)
    rows = range(0, len(labels), 5)
    twin = naive_losses(features, labels, 3, head.ridge, head.scale, rows)
    assert torch.allclose(found["head_loss"][::5], twin, atol=1e-4)
    assert torch.allclose(found["head_memorization"], head.predict(features, labels).memorization.float(), atol=1e-6)
    assert found["head_memorization"].mean() > 0


def test_examples_that_the_head_never_saw_do_not_change_it_and_have_no_gap():
    features, labels = planted()
    inside = torch.arange(len(labels)) % 4 > 0
    whole = head_scores(features, labels, inside, 3)
    alone = head_scores(features[inside], labels[inside], torch.ones(int(inside.sum()), dtype=torch.bool), 3)
    assert torch.allclose(whole["head_loss"][inside], alone["head_loss"], atol=1e-6)
    assert (whole["head_memorization"][~inside] == 0).all() and (whole["head_loss"][~inside] > 0).all()


def test_a_head_needs_two_examples_and_features_that_differ():
    features, labels = planted(10)
    assert head_scores(features, labels, torch.arange(10) == 3, 3) == {}
    assert head_scores(torch.ones(10, 4), labels, torch.ones(10, dtype=torch.bool), 3) == {}


class OneLogit(nn.Module):
    def __init__(self):
        super().__init__()
        self.other, self.hidden, self.out = nn.Linear(4, 1), nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        z = self.out(self.hidden(x).relu())
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.mark.parametrize(
    ("net", "x", "name", "units"),
    [
        (unseen.mlp(20, (16,)), torch.randn(3, 20), "output", 16),
        (unseen.mlp(784, (2048,)), torch.randn(3, 784), "output", 67),
        (OneLogit(), torch.randn(3, 4), "out", 8),
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(1)), torch.randn(3, 4), None, 0),
        (nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), torch.randn(3, 1, 4, 4), None, 0),
    ],
)  # fmt: skip
def test_the_output_layer_is_the_one_that_gives_the_logits(net, x, name, units):
    found = find_output(net, x)
    assert (found and found.name) == name
    if found:
        assert len(found.units) == units and (found.units.diff() > 0).all()


@pytest.mark.parametrize(("hidden", "groups"), [((32,), 0), ((32, 16), 0), ((32, 16), 2)])
def test_features_are_those_of_each_sides_own_forward(digits, hidden, groups):
    some = digits.train.select(torch.arange(70))
    net = TurnOverNet(unseen.mlp(64, hidden), seed=1, groups=groups, tied=True)
    output = find_output(net.net, first_batch(some))
    found = measure(net, some, batch_size=32, output=output, of=("seen", "unseen", "full"))
    x, _, index = some.batch(torch.arange(70))
    if groups:
        assert torch.allclose(found["features_full"], (found["features_seen"] + found["features_unseen"]) / 2)
    for side in ("seen", "unseen") if groups else ("seen", "unseen", "full"):
        kept = []
        handle = net.net.output.register_forward_pre_hook(lambda module, inputs, kept=kept: kept.append(inputs[0].detach()))
        net(x, index, side)
        handle.remove()
        assert torch.allclose(found[f"features_{side}"], kept[0][:, output.units], atol=1e-5)


def test_features_of_an_ordinary_network_and_no_hook_is_left(digits):
    some = digits.train.select(torch.arange(50))
    net = Ordinary(unseen.mlp(64, (32,)))
    found = measure(net, some, batch_size=32, output=find_output(net.net, first_batch(some)))
    features = net.net[:-1](some.batch(torch.arange(50))[0])
    assert torch.allclose(found["features_full"], features, atol=1e-5)
    assert not net.net.output._forward_pre_hooks
    assert fit_head(found["features_full"], some.labels, 10)[0].count == 50
