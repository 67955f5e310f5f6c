"""Convolutions as matrix products, group norms in float32: PyTorch's own are the twins."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unseen.models import build
from unseen.training import convolutions
from unseen.training.convolutions import FastLayers, convolution, suits


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (1, 1), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_pytorch(size, bias):
    """In double precision, where nothing is rounded."""
    torch.manual_seed(0)
    x, weight = torch.randn(3, 5, *size, dtype=torch.float64), torch.randn(7, 5, 3, 3, dtype=torch.float64)
    offset = torch.randn(7, dtype=torch.float64) if bias else None
    inputs = [value.requires_grad_() for value in (x, weight, offset) if value is not None]
    ours, theirs = convolution(x, weight, offset), F.conv2d(x, weight, offset, padding=1)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(theirs)
    for one, other in zip(torch.autograd.grad(ours, inputs, gradient), torch.autograd.grad(theirs, inputs, gradient), strict=True):
        torch.testing.assert_close(one, other)


def test_in_bfloat16_it_rounds_as_pytorch_does(monkeypatch):
    monkeypatch.setattr(convolutions, "CHANNELS", 16)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1))
    x, taken = torch.randn(8, 16, 4, 4), []
    monkeypatch.setattr(convolutions, "convolution", lambda *args: (taken.append(1), convolution(*args))[1])
    exact = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    gradients = []
    for mode in (FastLayers(), torch.overrides.BaseTorchFunctionMode()):
        with torch.autocast("cpu", torch.bfloat16), mode:
            out = net(x)
        gradients.append(torch.autograd.grad(out.float().square().mean(), list(net.parameters())))
    assert len(taken) == 2
    for ours, theirs, true in zip(*gradients, exact, strict=True):
        assert (ours - true).norm() < 1.5 * (theirs - true).norm() + 1e-6


def test_which_are_taken():
    x, weight = torch.ones(1, 256, 4, 4, dtype=torch.bfloat16), torch.ones(256, 256, 3, 3, dtype=torch.bfloat16)
    assert suits(x, weight, None, 1, 1) and suits(x, weight, None, (1, 1), (1, 1), (1, 1), 1)
    assert not suits(x, weight) and not suits(x, weight, None, 2, 1) and not suits(x, weight, None, (1, 1), "same")  # another convolution
    assert not suits(x.float(), weight) and not suits(x.expand(1, 256, 4, 4).repeat(1, 1, 2, 2), weight, None, 1, 1)
    assert not suits(x, weight[:64], None, 1, 1) and not suits(x, weight[..., :1, :1], None, 1, 1)


def test_a_whole_network_learns_the_same():
    torch.manual_seed(0)
    net = build("vgg11", (3, 32, 32), 10, width=0.5)
    x, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    losses = []
    for mode in (FastLayers(), torch.overrides.BaseTorchFunctionMode()):
        with torch.autocast("cpu", torch.bfloat16), mode:
            logits = net(x)
        losses.append(F.cross_entropy(logits.float(), labels))
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-2)


def test_group_norms_in_bfloat16_round_once():
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    x = torch.randn(8, 16, 4, 4, dtype=torch.bfloat16).requires_grad_()
    exact = norm(x.float())
    with torch.autocast("cpu", torch.bfloat16), FastLayers():
        ours = norm(x)
    assert ours.dtype == torch.bfloat16 and torch.equal(ours, exact.bfloat16())
    found, true = (torch.autograd.grad(out.float().square().mean(), [x, *norm.parameters()]) for out in (ours, exact))
    for one, other in zip(found, true, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.002)


def test_without_gradients_convolutions_are_pytorchs(monkeypatch):
    def refused(*_):
        raise AssertionError("taken where no gradient is wanted")

    monkeypatch.setattr(convolutions, "convolution", refused)
    net = nn.Conv2d(256, 256, 3, padding=1).bfloat16()
    x = torch.ones(1, 256, 4, 4, dtype=torch.bfloat16)
    with FastLayers():
        with torch.no_grad():
            net(x)
        with pytest.raises(AssertionError, match="no gradient is wanted"):
            net(x)
