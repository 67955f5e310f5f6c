r"""Per-example gradients that are never formed: their norms, weighted sums and inner products, layer by layer.

A layer's weight gradient of example i is :math:`V_i = \sum_t \delta_{it} a_{it}^\top`, with a the layer's input and
:math:`\delta` the gradient of the example's loss with respect to its output. Both are there after one forward and one
backward that forms no weight gradient, and they are all that is needed:

.. math::
    \|V_i\|^2 = \sum_{t, t'} (a_{it}^\top a_{it'})(\delta_{it}^\top \delta_{it'}), \qquad
    \sum_i w_i V_i = \sum_{i, t} w_i \delta_{it} a_{it}^\top, \qquad
    \langle V_i, G \rangle = \sum_t \delta_{it}^\top G a_{it}

(Goodfellow 2015, *Efficient Per-Example Gradient Computations*, for one t; Rochette et al. 2019 and Li et al. 2022 for
convolutions and tokens; Bu et al. 2022 for taking the Gram matrices or V_i itself, whichever is cheaper).

Shapes: n examples, first dimension of everything; T tokens, the positions of a sequence or the pixels of an output.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from unseen.errors import UnseenError

CHUNK_NUMBERS = 2**23  # float32 numbers that a rule works on at a time: 32 MiB
FORMED_NUMBERS = 2**26  # float32 numbers of formed gradients at a time: 256 MiB
BLOCK = 2**16  # numbers that are summed in float32
SMALLEST_NORM = 1e-18  # its square is still a normal float32

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
        pairs = zip(torch.split(self.inputs, chunk), torch.split(self.deltas, chunk), strict=True)
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
        pairs = zip(torch.split(self.inputs, chunk), torch.split(self.deltas, chunk), strict=True)
        return torch.cat([self._squares(inputs, deltas) for inputs, deltas in pairs])

    def _squares(self, inputs: Tensor, deltas: Tensor) -> Tensor:
        groups = self.module.groups
        by_group = deltas.reshape(len(deltas) * groups, deltas.shape[1] // groups, -1)  # (n groups, out, T)
        return outer_squares(self._unfold(inputs), by_group.mT).view(-1, groups).sum(1)

    def _unfold(self, inputs: Tensor) -> Tensor:
        """Patches of each output pixel: (n groups, T, kernel times in), channels innermost as they lie in memory."""
        module, spatial = self.module, inputs.dim() - 2
        for d, (kernel, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
            inputs = inputs.unfold(d, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
        pixels = inputs.shape[2 : 2 + spatial]
        by_group = inputs.reshape(len(inputs), module.groups, -1, *inputs.shape[2:])  # (n, groups, in, *pixels, *kernel)
        return by_group.movedim(2, -1).reshape(len(inputs) * module.groups, prod(pixels), -1)

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
        pairs = zip(torch.split(self.tokens, chunk), torch.split(self.deltas, chunk), strict=True)
        return torch.cat([_inner((ids[:, :, None] == ids[:, None]).to(deltas.dtype), deltas @ deltas.mT) for ids, deltas in pairs])

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        total[self.parameter].index_add_(0, self.tokens.flatten(), (self.deltas * weights[:, None, None]).flatten(0, 1))

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        return _inner(F.embedding(self.tokens, direction[self.parameter]), self.deltas)


@dataclass(frozen=True)
class Formed:
    """The fallback: gradients formed by ``vmap(grad)``, as many examples at a time as 256 MiB hold, for each sum anew.

    loss: of one example, loss(values of the parameters by name, *one example of the batch).
    """

    loss: Callable[..., Tensor]
    parameters: dict[str, nn.Parameter]
    batch: Sequence[Tensor]

    def squares(self) -> Tensor:
        """See ``Piece``."""
        return torch.cat([torch.stack([_squared_norms(rows) for rows in chunk.values()]).sum(0) for chunk in self._chunks()])

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece``."""
        for chunk, part in zip(self._chunks(), torch.split(weights, self.chunk), strict=True):
            for name, rows in chunk.items():
                total[self.parameters[name]] += torch.tensordot(part, rows, 1)

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece``."""
        found = []
        for chunk in self._chunks():
            parts = [rows.flatten(1) @ direction[self.parameters[name]].flatten() for name, rows in chunk.items()]
            found.append(torch.stack(parts).sum(0))
        return torch.cat(found)

    @property
    def chunk(self) -> int:
        """How many examples at a time."""
        return max(1, FORMED_NUMBERS // sum(parameter.numel() for parameter in self.parameters.values()))

    def rows(self) -> Tensor:
        """The gradients themselves, flat: (n, numbers)."""
        return torch.cat([torch.cat([rows.flatten(1) for rows in chunk.values()], 1) for chunk in self._chunks()])

    def _chunks(self) -> Iterator[dict[str, Tensor]]:
        values = {name: parameter.detach() for name, parameter in self.parameters.items()}
        for parts in zip(*(torch.split(part, self.chunk) for part in self.batch), strict=True):
            try:
                with sdpa_kernel(SDPBackend.MATH):  # the one attention that vmap has a rule for
                    rows = vmap(grad(self.loss), (None, *[0] * len(parts)), randomness="same")(values, *parts)
            except RuntimeError as error:
                raise UnseenError(
                    f"The per-example gradients of {', '.join(self.parameters)} have no ghost rule, and vmap(grad) fails: {error} "
                    "Freeze these parameters (requires_grad_(False)) to leave them out, or change the layer."
                ) from error
            yield rows


class Trace:
    """The gradients of one batch, in pieces."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces

    @cached_property
    def norms(self) -> Tensor:
        """Norm of each example's gradient: (n,)."""
        squares = torch.stack([piece.squares() for piece in self.pieces])
        return squares.sum(0, dtype=torch.float64).sqrt().to(squares.dtype)

    @property
    def inverse_norms(self) -> Tensor:
        """1 / norm, and 0 where there is no direction."""
        return torch.where(self.norms > SMALLEST_NORM, 1 / self.norms, 0.0)

    def add(self, weights: Tensor, total: Gradient) -> None:
        """See ``Piece.add``."""
        for piece in self.pieces:
            piece.add(weights, total)

    def products(self, direction: Gradient) -> Tensor:
        """See ``Piece.products``."""
        products = torch.stack([piece.products(direction) for piece in self.pieces])
        return products.sum(0, dtype=torch.float64).to(products.dtype)


def inner(left: Gradient, right: Gradient) -> float:
    """Inner product of two gradients: float32 in blocks, which are summed in float64, without a copy."""
    total = 0.0
    for parameter, part in left.items():
        in_memory = sorted(range(part.dim()), key=part.stride().__getitem__, reverse=True)  # so that flatten makes no copy
        blocks = (torch.split(side[parameter].permute(in_memory).flatten(), BLOCK) for side in (left, right))
        total += sum(float(torch.dot(a, b)) for a, b in zip(*blocks, strict=True))
    return total


def norm(gradient: Gradient) -> float:
    """Euclidean norm."""
    return sqrt(inner(gradient, gradient))


def outer_squares(inputs: Tensor, deltas: Tensor) -> Tensor:
    """Squared norms of sum_t delta_t a_t^T.

    Args:
        inputs: a, (n, T, in).
        deltas: (n, T, out).

    Returns:
        float32 (n,).
    """
    tokens, fan_in = inputs.shape[1:]
    if tokens == 1:
        return _squared_norms(inputs) * _squared_norms(deltas)
    if _gram_is_cheaper(tokens, fan_in, deltas.shape[2]):
        return _inner(inputs @ inputs.mT, deltas @ deltas.mT)
    return _squared_norms(deltas.mT @ inputs)


def outer_numbers(inputs: Sequence[int], fan_out: int) -> int:
    """How many numbers ``outer_squares`` has in hand per example.

    Args:
        inputs: the shape (T, in) of an example's inputs.
        fan_out: width of its deltas.
    """
    tokens, fan_in = inputs
    work = 2 * tokens**2 if _gram_is_cheaper(tokens, fan_in, fan_out) else fan_in * fan_out
    return tokens * (fan_in + fan_out) + (work if tokens > 1 else 0)


def chunk_of(numbers: int) -> int:
    """How many examples to take at a time where each needs so many numbers."""
    return max(1, CHUNK_NUMBERS // numbers)


def _gram_is_cheaper(tokens: int, fan_in: int, fan_out: int) -> bool:
    return tokens * (fan_in + fan_out) < fan_in * fan_out


def _squared_norms(parts: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(parts.flatten(1), dim=1)
    return norms.square()


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner product per example of two tensors of one shape (n, ...): (n,). Overwrites ``left``."""
    return left.mul_(right).sum(tuple(range(1, left.dim())))
