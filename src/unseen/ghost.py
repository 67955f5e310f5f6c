"""Per-example gradients that are never formed: their norms, weighted sums and inner products, layer by layer.

A layer's weight gradient of example i is :math:`V_i = \\sum_t \\delta_{it} a_{it}^\\top`, with a the layer's input and
:math:`\\delta` the gradient of the example's loss with respect to its output. Both are there after one forward and one
backward that forms no weight gradient, and they are all that is needed:

.. math::
    \\|V_i\\|^2 = \\sum_{t, t'} (a_{it}^\\top a_{it'})(\\delta_{it}^\\top \\delta_{it'}), \\qquad
    \\sum_i w_i V_i = \\sum_{i, t} w_i \\delta_{it} a_{it}^\\top, \\qquad
    \\langle V_i, G \\rangle = \\sum_t \\delta_{it}^\\top G a_{it}

(Goodfellow 2015, *Efficient Per-Example Gradient Computations*, for one t; Rochette et al. 2019 and Li et al. 2022 for
convolutions and tokens; Bu et al. 2022 for taking the Gram matrices or V_i itself, whichever is cheaper).

Shapes: n examples, first dimension of everything; T tokens, the positions of a sequence or the pixels of an output.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

CHUNK_NUMBERS = 2**23  # how many float32 numbers a rule works on at a time: 32 MiB
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

Gradient = dict[nn.Parameter, Tensor]


class Piece(Protocol):
    """The part of the n per-example gradients that belongs to some parameters."""

    def squares(self) -> Tensor:
        """Squared norm of each example's part: (n,)."""

    def add(self, weights: Tensor, total: Gradient) -> None:
        """Add the sum of the gradients, weighted by ``weights`` (n,), to ``total`` in place."""

    def products(self, direction: Gradient) -> Tensor:
        """Inner product of each example's part with ``direction``: (n,)."""


@dataclass(frozen=True)
class Rows:
    """A gradient so small that it is formed. rows: (n, *shape of the parameter)."""

    parameter: nn.Parameter
    rows: Tensor

    def squares(self) -> Tensor:
        """See ``Piece``."""
        return _squared_norms(self.rows)

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        total[self.parameter] += torch.tensordot(weights, self.rows, 1)

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        return self.rows.flatten(1) @ direction[self.parameter].flatten()


@dataclass(frozen=True)
class Outer:
    """Weight of a linear layer. inputs: (n, T, in); deltas: (n, T, out)."""

    parameter: nn.Parameter
    inputs: Tensor
    deltas: Tensor

    def squares(self) -> Tensor:
        """See ``Piece``."""
        chunk = chunk_of(outer_numbers(self.inputs.shape[1:], self.deltas.shape[2]))
        pairs = zip(self.inputs.split(chunk), self.deltas.split(chunk), strict=True)
        return torch.cat([outer_squares(inputs, deltas) for inputs, deltas in pairs])

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        weighted = self.deltas * weights[:, None, None]
        total[self.parameter].addmm_(weighted.flatten(0, 1).T, self.inputs.flatten(0, 1))

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        return _inner(self.inputs @ direction[self.parameter].T, self.deltas)


@dataclass(frozen=True)
class Patches:
    """Weight of a convolution. inputs: (n, in, ...), padded; deltas: (n, out, ...)."""

    parameter: nn.Parameter
    module: Any
    inputs: Tensor
    deltas: Tensor

    def squares(self) -> Tensor:
        """See ``Piece``: the convolution as a linear layer on its patches, a group of channels at a time."""
        groups, channels = self.module.groups, self.parameter[0].numel()
        tokens = prod(self.deltas.shape[2:])
        chunk = chunk_of(groups * outer_numbers((tokens, channels), len(self.parameter) // groups))
        pairs = zip(self.inputs.split(chunk), self.deltas.split(chunk), strict=True)
        return torch.cat([self._squares(inputs, deltas) for inputs, deltas in pairs])

    def _squares(self, inputs: Tensor, deltas: Tensor) -> Tensor:
        groups = self.module.groups
        channels_last = deltas.flatten(2).unflatten(1, (groups, -1)).transpose(2, 3).flatten(0, 1)  # (n groups, T, out)
        return outer_squares(self._unfold(inputs), channels_last).view(-1, groups).sum(1)

    def _unfold(self, inputs: Tensor) -> Tensor:
        """Patches of each output pixel: (n groups, T, kernel times in), channels innermost as they lie in memory."""
        module, spatial = self.module, inputs.dim() - 2
        for d, (kernel, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
            inputs = inputs.unfold(d, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
        by_group = inputs.unflatten(1, (module.groups, -1))  # (n, groups, in, *pixels, *kernel)
        return by_group.movedim(2, -1).flatten(2 + spatial).flatten(2, 1 + spatial).flatten(0, 1)

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        deltas = self.deltas * weights.view(-1, *[1] * (self.deltas.dim() - 1))
        options = (self.module.stride, [0] * (deltas.dim() - 2), self.module.dilation, False, [0], self.module.groups)
        wanted = (False, True, False)
        total[self.parameter] += torch.ops.aten.convolution_backward(deltas, self.inputs, self.parameter, None, *options, wanted)[1]

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        module, padding = self.module, [0] * (self.inputs.dim() - 2)
        options = (None, module.stride, padding, module.dilation, False, [0], module.groups)
        return _inner(torch.convolution(self.inputs, direction[self.parameter], *options), self.deltas)


@dataclass(frozen=True)
class Lookup:
    """Table of an embedding. tokens: int64 (n, T); deltas: (n, T, dim), zero at the padding."""

    parameter: nn.Parameter
    tokens: Tensor
    deltas: Tensor

    def squares(self) -> Tensor:
        """See ``Piece``: a linear layer on one-hot vectors, so the Gram matrix of its inputs says which tokens are equal."""
        chunk = chunk_of(self.tokens.shape[1] ** 2)
        pairs = zip(self.tokens.split(chunk), self.deltas.split(chunk), strict=True)
        return torch.cat([_inner((ids[:, :, None] == ids[:, None]).float(), deltas @ deltas.mT) for ids, deltas in pairs])

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        total[self.parameter].index_add_(0, self.tokens.flatten(), (self.deltas * weights[:, None, None]).flatten(0, 1))

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        return _inner(F.embedding(self.tokens, direction[self.parameter]), self.deltas)


@dataclass(frozen=True)
class Call:
    """One use of a module in a forward. output: where its output's gradient arrives."""

    module: nn.Module
    inputs: Tensor
    output: GradientEdge


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Call]]:
    """Record every call of the modules of ``net`` that own trainable parameters."""
    calls: list[Call] = []

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and output.requires_grad:
            # The edge, not the output: an activation in place would move the output's.
            calls.append(Call(module, args[0].detach(), get_gradient_edge(output)))

    owners = [module for module in net.modules() if any(p.requires_grad for p in module.parameters(recurse=False))]
    handles = [module.register_forward_hook(record, prepend=True) for module in owners]  # before a mask
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def find_pieces(losses: Tensor, calls: Sequence[Call]) -> dict[nn.Parameter, Piece | None]:
    """What the rules say about each parameter that ``losses`` (n,) depend on; None where there is no rule for all its uses.

    Costs the backward pass to the layers' outputs; frees the graph.
    """
    uses = _uses(losses)
    edges = [call.output for call in calls]
    deltas = torch.autograd.grad(losses.sum(), edges, allow_unused=True) if calls else ()
    found: dict[nn.Parameter, list[Piece]] = {parameter: [] for parameter in uses}
    for call, delta in zip(calls, deltas, strict=True):
        if delta is not None and len(delta) == len(call.inputs) == len(losses):
            for piece in _rule(call)(call, delta):
                found[piece.parameter].append(piece)  # type: ignore[attr-defined]
    return {p: _merge(pieces) if len(pieces) == uses[p] else None for p, pieces in found.items()}


def _uses(losses: Tensor) -> Counter[nn.Parameter]:
    """How many operations of the graph take each parameter."""
    uses: Counter[nn.Parameter] = Counter()
    queue, met = [losses.grad_fn], {losses.grad_fn}
    while queue:
        node = queue.pop()
        for following, _ in node.next_functions if node else ():
            if hasattr(following, "variable"):
                uses[following.variable] += 1
            elif following is not None and following not in met:
                met.add(following)
                queue.append(following)
    return uses


def _merge(pieces: list[Any]) -> Piece | None:
    """A parameter that is used several times: its gradient is the sum over the uses, that is, over all their tokens."""
    first = pieces[0]
    if len(pieces) == 1:
        return first  # type: ignore[no-any-return]
    kind = type(first)
    if any(type(piece) is not kind for piece in pieces) or kind is Patches:
        return None
    if kind is Rows:
        return Rows(first.parameter, torch.stack([piece.rows for piece in pieces]).sum(0))
    names = ("inputs", "deltas") if kind is Outer else ("tokens", "deltas")
    joined = [torch.cat([getattr(piece, name) for piece in pieces], 1) for name in names]
    return kind(first.parameter, *joined)  # type: ignore[no-any-return]


def _rule(call: Call) -> Callable[[Call, Tensor], Iterator[Piece]]:
    """The rule of a module's very type: a subclass may compute something else."""
    return RULES.get(type(call.module), _added)


def _trainable(module: nn.Module, name: str) -> nn.Parameter | None:
    parameter = getattr(module, name)
    return parameter if parameter is not None and parameter.requires_grad else None


def _linear(call: Call, delta: Tensor) -> Iterator[Piece]:
    if (weight := _trainable(call.module, "weight")) is not None:
        yield Outer(weight, *(part.reshape(len(part), -1, part.shape[-1]) for part in (call.inputs, delta)))
    if (bias := _trainable(call.module, "bias")) is not None:
        yield Rows(bias, _sum_to(delta, bias.shape))


def _convolution(call: Call, delta: Tensor) -> Iterator[Piece]:
    module: Any = call.module
    if (weight := _trainable(module, "weight")) is not None and call.inputs.dim() == weight.dim():
        padding, mode = module._reversed_padding_repeated_twice, module.padding_mode.replace("zeros", "constant")
        yield Patches(weight, module, F.pad(call.inputs, padding, mode) if any(padding) else call.inputs, delta)
    if (bias := _trainable(module, "bias")) is not None:
        yield Rows(bias, delta.flatten(2).sum(2))


def _embedding(call: Call, delta: Tensor) -> Iterator[Piece]:
    module: Any = call.module
    if module.max_norm is None and not module.scale_grad_by_freq and not module.sparse:
        tokens = call.inputs.flatten(1)
        delta = delta.reshape(*tokens.shape, -1)
        padding = -1 if module.padding_idx is None else module.padding_idx
        yield Lookup(module.weight, tokens, delta * (tokens != padding)[..., None])


def _layer_norm(call: Call, delta: Tensor) -> Iterator[Piece]:
    module: Any = call.module
    kind = F.layer_norm if isinstance(module, nn.LayerNorm) else F.rms_norm
    normal = kind(call.inputs, module.normalized_shape, eps=module.eps)
    if (weight := _trainable(module, "weight")) is not None:
        yield Rows(weight, _sum_to(delta * normal, weight.shape))
    if isinstance(module, nn.LayerNorm) and (bias := _trainable(module, "bias")) is not None:
        yield Rows(bias, _sum_to(delta, bias.shape))


def _channel_norm(call: Call, delta: Tensor) -> Iterator[Piece]:
    """Group norm; batch norm with its running statistics, as in evaluation."""
    module: Any = call.module
    if isinstance(module, nn.GroupNorm):
        normal = F.group_norm(call.inputs, module.num_groups, eps=module.eps)
    elif module.running_mean is None or module.training:
        return
    else:
        normal = F.batch_norm(call.inputs, module.running_mean, module.running_var, eps=module.eps)
    for name, values in (("weight", delta * normal), ("bias", delta)):
        if (parameter := _trainable(module, name)) is not None:
            yield Rows(parameter, values[..., None].flatten(2).sum(2))


def _added(call: Call, delta: Tensor) -> Iterator[Piece]:
    """A parameter of any module whose output is, by its graph, something plus that parameter."""
    node = call.output.node
    if node is None or node.name() != "AddBackward0" or node._saved_alpha != 1:  # type: ignore[attr-defined]
        return
    for source, _ in node.next_functions:
        parameter = getattr(source, "variable", None)
        if parameter is not None and (parameter.dim() < delta.dim() or parameter.shape[0] == 1):
            yield Rows(parameter, _sum_to(delta, parameter.shape))


RULES: dict[type[nn.Module], Callable[[Call, Tensor], Iterator[Piece]]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _channel_norm,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _channel_norm),
}


def outer_squares(inputs: Tensor, deltas: Tensor) -> Tensor:
    """Squared norms of sum_t delta_t a_t^T. Args: inputs (n, T, in), deltas (n, T, out). Returns float32 (n,)."""
    tokens, fan_in = inputs.shape[1:]
    if tokens == 1:
        return _squared_norms(inputs) * _squared_norms(deltas)
    if _gram_is_cheaper(tokens, fan_in, deltas.shape[2]):
        return _inner(inputs @ inputs.mT, deltas @ deltas.mT)
    return _squared_norms(deltas.mT @ inputs)


def outer_numbers(inputs: Sequence[int], fan_out: int) -> int:
    """How many numbers ``outer_squares`` has in hand per example. Args: inputs, (T, in)."""
    tokens, fan_in = inputs
    work = 2 * tokens**2 if _gram_is_cheaper(tokens, fan_in, fan_out) else fan_in * fan_out
    return tokens * (fan_in + fan_out) + (work if tokens > 1 else 0)


def chunk_of(numbers: int) -> int:
    """How many examples to take at a time where each needs so many numbers."""
    return max(1, CHUNK_NUMBERS // numbers)


def _gram_is_cheaper(tokens: int, fan_in: int, fan_out: int) -> bool:
    return tokens * (fan_in + fan_out) < fan_in * fan_out


def _squared_norms(parts: Tensor) -> Tensor:
    return torch.linalg.vector_norm(parts.flatten(1), dim=1).square()


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner product per example of two tensors of one shape (n, ...): (n,). Overwrites ``left``."""
    return left.mul_(right).sum(tuple(range(1, left.dim())))


def _sum_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum what was broadcast, but for the examples: (n, ...) to (n, *shape), or (n, *shape[1:]) in a first dimension of 1."""
    inner = tuple(shape[1:]) if len(shape) == values.dim() else tuple(shape)
    spread = list(range(1, values.dim() - len(inner)))
    spread += [values.dim() - len(inner) + d for d, size in enumerate(inner) if size == 1]
    return (values.sum(spread) if spread else values).reshape(len(values), *shape)
