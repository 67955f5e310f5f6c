"""Batch norm under masks: its batch statistics carry every example into every half. Norms that do not."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from unseen.errors import UnseenError
from unseen.masks.turnover import TurnOver

MOST_GROUPS = 32  # Wu & He 2018
WAYS = ("group", "frozen")


def convert_batch_norm(net: nn.Module, to: Literal["group", "frozen"] = "group") -> nn.Module:
    """Replace every batch norm of ``net``, in place, and return it. Call it before the masks are attached.

    In a batch norm an example moves the mean and variance that all others are normalised with, and its loss reaches their
    activations back through these, so a step on it changes its unseen half: by some 3% of what it changes in the seen half, in a
    ResNet-18 (LOG.md). Taking each channel's statistics from the examples that train it does not help: the
    others carry them on.

    Args:
        net: any network.
        to: "group": group norm of at most 32 groups, weights and biases kept; the leak is exactly 0. For training from scratch. "frozen":
            the running statistics, which no longer change; the leak is exactly 0. For fine-tuning from given weights.

    Raises:
        UnseenError: an unknown way, masks that are attached already, or batch norms without running statistics to freeze.
    """
    if to not in WAYS:
        raise UnseenError(f"Batch norm can become {' or '.join(WAYS)}; got {to!r}.")
    if any(isinstance(module, TurnOver) for module in net.modules()):
        raise UnseenError("This network has turn-over masks already. Convert its batch norms first, then attach.")
    if isinstance(net, _BatchNorm):
        return _converted(net, to)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, FrozenBatchNorm):
                setattr(parent, name, _converted(child, to))
    return net


def _converted(norm: _BatchNorm, to: str) -> nn.Module:
    new: nn.Module = nn.GroupNorm(math.gcd(MOST_GROUPS, norm.num_features), norm.num_features, norm.eps, norm.affine)
    if to == "frozen":
        if norm.running_mean is None:
            raise UnseenError("This batch norm keeps no running statistics to freeze. Use convert_batch_norm(net, 'group').")
        new = FrozenBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine)
    new.load_state_dict({name: value for name, value in norm.state_dict().items() if name in new.state_dict()})
    device = next((value.device for value in norm.state_dict().values()), torch.device("cpu"))
    return new.to(device).train(norm.training)


class FrozenBatchNorm(_BatchNorm):
    """Batch norm with its running statistics at all times; weight and bias train."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (batch, channels, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, ...) to the same."""
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
