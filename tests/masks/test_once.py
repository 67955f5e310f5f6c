"""Layers whose masks are the same have them made once in a forward."""

import torch

from unseen import TurnOverNet
from unseen.models import vgg11


def test_tied_layers_share_one_mask_and_two_forwards_share_none(monkeypatch):
    net = TurnOverNet(vgg11(width=0.25), groups=2, tied=True)
    masks = [module for module in net.modules() if type(module).__name__ == "SharedMask"]
    made = []
    monkeypatch.setattr(type(masks[0]), "number", lambda self, index: made.append(index) or torch.zeros_like(index))
    net(torch.randn(3, 3, 32, 32), torch.arange(3), "all")
    assert len(masks) == 9 and len(made) == 1 and net.switch.masks == (None, {})
    net(torch.randn(3, 3, 32, 32), torch.arange(3), "all")
    assert len(made) == 2


def test_untied_layers_have_their_own():
    torch.manual_seed(0)
    tied, untied = (TurnOverNet(vgg11(width=0.25), groups=16, tied=tied) for tied in (True, False))
    index = torch.arange(50)
    for net, same in ((tied, True), (untied, False)):
        first, second = [module for module in net.modules() if type(module).__name__ == "TurnOver"][:2]
        with net.switch.turned(index, "seen"):
            assert torch.equal(first.factors(), second.factors()) == same
