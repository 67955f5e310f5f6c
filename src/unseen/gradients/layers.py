"""Which piece of the per-example gradients each layer of a network has: the ghost rules."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

from unseen.gradients.ghost import Lookup, Outer, Patches, Piece, Rows


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


def find_pieces(losses: Tensor, calls: Sequence[Call], retain_graph: bool = False) -> dict[nn.Parameter, Piece | None]:
    """What the rules say about each parameter that ``losses`` (n,) depend on; None where there is no rule for all its uses.

    Costs the backward pass to the layers' outputs; frees the graph unless told.
    """
    uses = _uses(losses)
    edges = [call.output for call in calls]
    deltas = torch.autograd.grad(losses.sum(), edges, allow_unused=True, retain_graph=retain_graph) if calls else ()
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
            if (parameter := getattr(following, "variable", None)) is not None:
                uses[parameter] += 1
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
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _channel_norm),
}


def _sum_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum what was broadcast, but for the examples: (n, ...) to (n, *shape), or (n, *shape[1:]) in a first dimension of 1."""
    inner = tuple(shape[1:]) if len(shape) == values.dim() else tuple(shape)
    spread = list(range(1, values.dim() - len(inner)))
    spread += [values.dim() - len(inner) + d for d, size in enumerate(inner) if size == 1]
    return (values.sum(spread) if spread else values).reshape(len(values), *shape)
