"""The loss of each example, whose gradients all of this room is about."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unseen.masks import Side, TurnOverNet


def example_losses(net: nn.Module, batch: Sequence[Tensor], side: str = Side.SEEN, values: dict[str, Tensor] | None = None) -> Tensor:
    """Loss of each example in nats, (n,).

    Args:
        net: a ``TurnOverNet``, or any module called as ``net(x)``.
        batch: inputs, labels and index.
        side: whose, of a ``TurnOverNet``.
        values: what takes the place of the parameters of these names.
    """
    x, labels, index = batch
    inputs = (x, index, side) if isinstance(net, TurnOverNet) else (x,)
    logits = net(*inputs) if values is None else functional_call(net, values, inputs)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, reduction="none")


def loss_of_one(net: nn.Module, side: str, values: dict[str, Tensor], *example: Tensor) -> Tensor:
    """Loss of one example; what ``vmap(grad)`` takes."""
    return example_losses(net, [part[None] for part in example], side, values)[0]
