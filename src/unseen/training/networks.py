"""Fresh networks for a seed: ours by name, or copies of the user's."""

import copy

import torch
from torch import Tensor, nn

from unseen.config import NetworkOptions
from unseen.data import Examples
from unseen.models import build


class Ordinary(nn.Module):
    """A network without masks, called as the training loop calls: with an index, which it has no use for.

    Training it gives the ordinary training run to compare with, and the scores that need no halves; memorization it has none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits of ``x``, (batch, classes)."""
        out: Tensor = self.net(x)
        return out


def new_network(network: NetworkOptions, examples: Examples, seed: int, model: nn.Module | None = None, anew: bool = False) -> nn.Module:
    """A network without masks, its weights a function of the seed.

    Args:
        network: which of ours, and how wide.
        examples: for their shape and classes.
        seed: of the weights.
        model: a network of the user's in place of ours; it is copied.
        anew: start its modules that can (``reset_parameters``) anew under the seed; otherwise its weights are kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model is None:
            return build(network.model, examples.shape, len(examples.classes), network.hidden, network.width, network.output_bias)
        net = copy.deepcopy(model)
        for module in net.modules() if anew else ():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return net
