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
Groups = tuple[bool, ...]
"""Which groups of units are on."""
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
    parts, places, halves = [], [], []
    for word, units in enumerate(mask.words.tolist()):
        rows = (number == word).nonzero()[:, 0]
        if len(rows):
            parts.append(x if len(rows) == len(x) == len(number) else x.index_select(0, rows % len(x)))
            places.append(rows)
            halves.append(tuple(bool(unit) for unit in units))
    features = _through(layers[:-1], parts, halves)
    logits: Tensor = layers[-1](torch.cat(features).index_select(0, torch.cat(places).argsort()))
    return logits


def _through(layers: list[nn.Module], parts: list[Tensor], halves: list[Groups]) -> list[Tensor]:
    """Each part of the batch through the units of its own half; features among zeros, as the output layer takes them."""
    masked = False  # whether the units that come in are those of the half alone
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weights = _Blocks.apply(layer.weight, halves, masked)  # type: ignore[no-untyped-call]
            biases = [None if layer.bias is None else _of_groups(layer.bias, 0, on) for on in halves]
            parts = [_layer(layer, *own) for own in zip(parts, weights, biases, strict=True)]
            masked = True
        else:
            parts = [layer.forward(part) for part in parts]
        if (mask := mask_of(layer)) is not None:
            parts = [part * (mask.place.scale or 2.0) for part in parts]
    return [_whole(part, on) for part, on in zip(parts, halves, strict=True)]


def _layer(layer: nn.Linear | nn.Conv2d, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(h, weight, bias)
    return F.conv2d(h, weight, bias, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]


class _Blocks(torch.autograd.Function):
    """The weights between the units of each half, in the type that products are made in; one gradient for all, not one for each."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, halves: list[Groups], masked: bool) -> tuple[Tensor, ...]:
        """Weights (out, in, ...) to a block for each half; masked: whether their inputs are of the half alone too."""
        ctx.halves, ctx.masked, ctx.like = halves, masked, weight
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        rows = [_of_groups(weight, 0, on) for on in halves]
        return tuple((_of_groups(part, 1, on) if masked else part).to(kind, copy=True) for part, on in zip(rows, halves, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """The sum of the blocks' gradients, each at its place."""
        whole = torch.zeros_like(ctx.like)
        for gradient, on in zip(gradients, ctx.halves, strict=True):
            for into, own in _pieces(whole, gradient, 0, on):
                for place, piece in _pieces(into, own, 1, on) if ctx.masked else [(into, own)]:
                    place.add_(piece)
        return whole, None, None


def _pieces(whole: Tensor, part: Tensor, dim: int, on: Groups) -> list[tuple[Tensor, Tensor]]:
    """Places in the whole and what of the part belongs there, along a dimension: neighbouring groups as one."""
    size = whole.shape[dim] // len(on)
    runs = _runs(on)
    places = [whole.narrow(dim, first * size, count * size) for first, count in runs]
    return list(zip(places, part.split([count * size for _, count in runs], dim), strict=True))


def _of_groups(value: Tensor, dim: int, on: Groups) -> Tensor:
    """The part along a dimension that belongs to the groups that are on; groups lie one behind the other."""
    size = value.shape[dim] // len(on)
    parts = [value.narrow(dim, first * size, count * size) for first, count in _runs(on)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _runs(on: Groups) -> list[tuple[int, int]]:
    """First and number of each run of neighbouring groups that are on."""
    starts = [group for group, is_on in enumerate(on) if is_on and (group == 0 or not on[group - 1])]
    return [(start, next((end - start for end in range(start, len(on)) if not on[end]), len(on) - start)) for start in starts]


def _whole(h: Tensor, on: Groups) -> Tensor:
    """Features (rows, units on) among zeros: (rows, units)."""
    pieces = iter(h.chunk(sum(on), 1))
    empty = h.new_zeros(len(h), h.shape[1] // sum(on))
    return torch.cat([next(pieces) if is_on else empty for is_on in on], 1)
