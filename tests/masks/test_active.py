"""Few tied groups through their active units alone, against the masked network."""

import pytest
import torch
from torch import nn

import unseen
from unseen.masks import TurnOverNet, turnover
from unseen.masks.active import active_layers
from unseen.models.paper import cct2


def dense():
    return nn.Linear(288, 12), nn.ReLU(), nn.Linear(12, 3)


CHAINS = {
    "vgg": (lambda: unseen.vgg11(width=0.125), (3, 32, 32)),
    "mlp": (lambda: unseen.mlp(20, (32, 16), 3), (20,)),
    "flat": (lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), *dense()), (1, 8, 8)),
}  # fmt: skip


def networks(kind, groups, monkeypatch, count=30):
    build, shape = CHAINS[kind]
    net = TurnOverNet(build(), groups=groups, tied=True, scale=2**0.5, seed=3)
    assert active_layers(net.net) is not None
    x, index = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(count)

    def masked(side):
        with monkeypatch.context() as patch:
            patch.setattr(turnover, "active_layers", lambda net: None)
            return net(x, index, side)

    return net, x, index, masked


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("kind", CHAINS)
def test_active_units_give_what_the_masked_network_gives(kind, groups, monkeypatch):
    net, x, index, masked = networks(kind, groups, monkeypatch)
    for side in ("seen", "unseen"):
        assert torch.allclose(net(x, index, side), masked(side), atol=1e-6, rtol=1e-4)
    for one, other in zip(net(x, index, "both"), masked("both"), strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-4)
    labels = index % 3
    gradients = [torch.autograd.grad(nn.functional.cross_entropy(one, labels), net.parameters()) for one in (net(x, index), masked("seen"))]
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_the_third_side_is_the_mean_of_both_halves(monkeypatch):
    net, x, index, _ = networks("vgg", 2, monkeypatch)
    seen, unseen_half, full = net(x, index, "all")
    assert torch.allclose(full, (seen + unseen_half) / 2) and net.shares_masks
    assert not TurnOverNet(unseen.vgg11(width=0.25), groups=16).shares_masks


@pytest.mark.parametrize(
    "net",
    [
        lambda: TurnOverNet(unseen.vgg11(width=0.25), groups=2),  # masks that differ from layer to layer
        lambda: TurnOverNet(unseen.vgg11(width=0.25), groups=16, tied=True),
        lambda: TurnOverNet(unseen.mlp(4, (8, 8), 2), groups=2, tied=True, only=["hidden1"]),
        lambda: TurnOverNet(cct2(), groups=2, tied=True),
        lambda: TurnOverNet(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)), groups=2, tied=True),
    ],
)
def test_other_networks_are_masked(net):
    assert active_layers(net().net) is None


def test_a_hook_of_somebody_else_and_a_transformation_are_left_alone(monkeypatch):
    net, x, index, masked = networks("mlp", 2, monkeypatch)
    seen = []
    handle = net.net.relu1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(x, index)
    handle.remove()
    assert seen == [(30, 32)]
    weights = dict(net.named_parameters())
    one = lambda row, number: torch.func.functional_call(net, weights, (row[None], number[None]))[0]
    assert torch.allclose(torch.vmap(one)(x, index), masked("seen"), atol=1e-5)
