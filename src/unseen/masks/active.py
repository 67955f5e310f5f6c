"""Few tied groups compute their active units only: a chain's half is a smaller chain, whose weights are parts of the whole one's.

A batch is split by its masks, and each part goes through the weights between its own units: of two groups a quarter of the products. What
comes out is what the masked network gives, up to the order of sums. On a GPU the masked network is taken: a split would make it wait.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.masks.half import SharedMask

CHILD = "turn_over"  # the name under which a layer carries its TurnOver module
LARGEST = 6  # masks at most: of more of them the parts of a batch are too small


def active_layers(net: nn.Module) -> list[nn.Module] | None:
    """The layers of a chain that can be computed by its active units, in order; None where it cannot.

    All hidden layers must carry one mask, the same in all, of few groups; layers are linear or convolutions, what else there is has no
    parameters, and nobody else has a hook on any but the output.
    """
    if not isinstance(net, nn.Sequential) or net._forward_hooks or net._forward_pre_hooks:
        return None
    layers = list(net)
    weighted = [layer for layer in layers if list(layer.parameters())]
    masks = [mask_of(layer) for layer in layers if mask_of(layer) is not None]
    if not weighted or len(masks) != len(weighted) - 1 or not isinstance(layers[-1], nn.Linear):
        return None
    if not all(_is_simple(layer) for layer in layers[:-1]) or not _are_tied(masks):
        return None
    return layers


def mask_of(layer: nn.Module) -> Any:
    """The ``TurnOver`` on a layer's output, or None."""
    return layer._modules.get(CHILD)


def _is_simple(layer: nn.Module) -> bool:
    masked = mask_of(layer) is not None
    own = len(layer._forward_hooks) == int(masked) and not layer._forward_pre_hooks and not layer._backward_hooks
    children = [child for child in layer.children() if child is not mask_of(layer)]
    if not list(layer.parameters()):
        return own and not children
    plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros")
    return own and plain and not layer._backward_pre_hooks


def _are_tied(masks: Sequence[Any]) -> bool:
    found = [mask.mask for mask in masks]
    shared = [mask for mask in found if isinstance(mask, SharedMask)]
    if not shared or len(shared) < len(found) or len(shared[0].words) > LARGEST or shared[0].units % 2:
        return False
    return len({mask.purpose for mask in shared}) == 1 and len({mask.units for mask in shared}) == 1


def active_logits(layers: list[nn.Module], x: Tensor, index: Tensor, side: str) -> Tensor:
    """Logits of one side, or of both one behind the other.

    Args:
        layers: of ``active_layers``.
        x: inputs (batch, ...).
        index: int64 (batch,).
        side: seen, unseen or both.

    Returns:
        (batch, classes), of both twice the batch: first seen, then unseen.
    """
    mask: Any = next(found.mask for layer in layers if (found := mask_of(layer)) is not None)
    seen = mask.number(index)
    number = {"seen": seen, "unseen": seen ^ 1, "both": torch.cat((seen, seen ^ 1))}[side]  # the complement stands beside it
    parts, places = [], []
    for word, units in enumerate(mask.words.tolist()):
        rows = (number == word).nonzero()[:, 0]
        if len(rows):
            chosen = x if len(rows) == len(x) == len(number) else x.index_select(0, rows % len(x))
            parts.append(_half(layers[:-1], chosen, [bool(unit) for unit in units]))
            places.append(rows)
    logits: Tensor = layers[-1](torch.cat(parts).index_select(0, torch.cat(places).argsort()))
    return logits


def _half(layers: list[nn.Module], h: Tensor, on: list[bool]) -> Tensor:
    """The hidden layers through the units of these groups alone; their features among zeros, as the output layer takes them."""
    masked = False  # whether the units that come in are those of the groups alone
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight = _of_groups(layer.weight, 0, on)
            weight = _of_groups(weight, 1, on) if masked else weight
            bias = None if layer.bias is None else _of_groups(layer.bias, 0, on)
            h = F.linear(h, weight, bias) if isinstance(layer, nn.Linear) else _convolved(layer, h, weight, bias)
            masked = True
        else:
            h = layer.forward(h)
        if (mask := mask_of(layer)) is not None:
            h = h * (mask.place.scale or 2.0)
    return _whole(h, on)


def _convolved(layer: nn.Conv2d, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(h, weight, bias, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]


def _of_groups(value: Tensor, dim: int, on: list[bool]) -> Tensor:
    """The part along a dimension that belongs to the groups that are on; groups lie one behind the other."""
    size = value.shape[dim] // len(on)
    chosen = [group for group, is_on in enumerate(on) if is_on]
    if chosen[-1] - chosen[0] + 1 == len(chosen):
        return value.narrow(dim, chosen[0] * size, len(chosen) * size)
    return torch.cat([value.narrow(dim, group * size, size) for group in chosen], dim)


def _whole(h: Tensor, on: list[bool]) -> Tensor:
    """Features (rows, units on) among zeros: (rows, units)."""
    pieces = iter(h.chunk(sum(on), 1))
    empty = h.new_zeros(len(h), h.shape[1] // sum(on))
    return torch.cat([next(pieces) if is_on else empty for is_on in on], 1)
