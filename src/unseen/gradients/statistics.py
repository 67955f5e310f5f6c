r"""Whose gradients agree and who drives a step, exactly and in O(parameters) memory.

Per-example gradients :math:`v_i` of n examples are n times the size of the network. What is asked of them needs less:

.. math::
    \frac{1}{n(n-1)} \sum_{i \ne j} \cos(v_i, v_j) = \frac{\|\sum_i \hat v_i\|^2 - n}{n(n-1)}, \qquad \hat v_i = v_i / \|v_i\|

is one weighted sum of gradients once the norms are known, and both come from ``ghost``'s rules, layer by layer, after one
forward and one backward pass to the layers' outputs; so does :math:`v_i^\top g`. Subsets of any size are streamed.

Everywhere: ``net`` is a ``TurnOverNet``, and an example's gradient that of its own seen half, or any module called as
``net(x)`` (``TurnOverNet.net`` is the network without masks). The loss is cross entropy in nats. The network is in
evaluation mode (no dropout; batch norm with its running statistics), and its state and ``.grad`` are left as they were.
``examples`` is an ``Examples`` or an iterable of batches (x, labels, index), on the network's device. A parameter that
no rule covers has its gradients formed by ``vmap`` in chunks, and a warning says which and what it costs. An example
whose gradient is zero (norm below 1e-18) has no direction, and is left out of means of cosines.
"""

import math
import warnings
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError
from unseen.gradients.ghost import SMALLEST_NORM, Formed, Gradient, Piece, Trace, inner, norm
from unseen.gradients.layers import find_pieces, recorded
from unseen.gradients.losses import example_losses, loss_of_one
from unseen.masks import Side, evaluating

Batch = tuple[Tensor, Tensor, Tensor]


@runtime_checkable
class Batched(Protocol):
    """What is used of ``Examples``."""

    def __len__(self) -> int:
        """How many examples."""

    def batch(self, positions: Tensor) -> Batch:
        """Inputs, labels and index of the examples at these positions."""


Subset = Batched | Iterable[Batch]


@dataclass(frozen=True)
class GradientStatistics:
    r"""What ``gradient_statistics`` returns.

    norms: float32 (n,), :math:`\|v_i\|`, the GraNd score of this one network (Paul et al. 2021), nats per unit of parameter.
    contributions: float32 (n,), see ``contributions``; None without a batch.
    cosine_similarity: see ``cosine_similarity``.
    coherence: :math:`\|\bar v\|^2 / \overline{\|v_i\|^2}`, 1/n where gradients are orthogonal, 1 where all are the same
        (Chatterjee & Zielinski 2022, alpha). n times it is their m-coherence.
    variance: trace of the covariance of :math:`v_i`, unbiased; a mini-batch of B examples drawn from these at random with
        replacement has a gradient with variance / B. nan for one example.
    """

    norms: Tensor
    contributions: Tensor | None
    cosine_similarity: float
    coherence: float
    variance: float


@torch.no_grad()
def cosine_similarity(net: nn.Module, examples: Subset, *, batch_size: int = 256) -> float:
    r"""Mean cosine of the gradients of two examples, over all pairs i != j (Liu et al. 2021, eq. 3).

    Args: as above. batch_size: examples in memory at a time, for an ``Examples``; the value does not depend on it.

    Returns:
        A number from -1 / (n - 1) to 1; nan where fewer than two gradients have a direction. Costs about 1.3 plain forward and backward
        passes, their memory, and two gradients.

    Raises:
        UnseenError: no examples, or a layer that neither a rule nor ``vmap`` can take.

    >>> import unseen
    >>> digits = unseen.load("digits", limit=100).train
    >>> net = unseen.TurnOverNet(unseen.mlp(inputs=64, hidden=(128,)))
    >>> -1 / 99 <= cosine_similarity(net, digits) <= 1
    True
    """
    return _mean_cosine(*_sum_of_directions(net, examples, batch_size))


@torch.no_grad()
def cosine_matrix(net: nn.Module, subsets: Mapping[str, Subset], *, batch_size: int = 256) -> Tensor:
    r"""Mean cosine of gradients within and between subsets: easy with difficult, class with class.

    Off the diagonal :math:`\sum_{i \in A} \hat v_i \cdot \sum_{j \in B} \hat v_j / (n_A n_B)`, over all pairs, an example
    that is in both also with itself; on it ``cosine_similarity``.

    Returns:
        float64 (subsets, subsets) in the order given. Memory: a gradient per subset.

    >>> import unseen
    >>> digits = unseen.load("digits", limit=100).train
    >>> by_class = {name: digits.select(digits.labels == label) for label, name in enumerate(digits.classes)}
    >>> cosine_matrix(unseen.mlp(inputs=64, hidden=(128,)), by_class).shape
    torch.Size([10, 10])
    """
    sums = [_sum_of_directions(net, examples, batch_size) for examples in subsets.values()]
    matrix = torch.empty(len(sums), len(sums), dtype=torch.float64)
    for a, (left, left_count) in enumerate(sums):
        matrix[a, a] = _mean_cosine(left, left_count)
        for b, (right, right_count) in enumerate(sums[:a]):
            pairs = left_count * right_count
            matrix[a, b] = matrix[b, a] = inner(left, right) / pairs if pairs else math.nan
    return matrix


@torch.no_grad()
def contributions(net: nn.Module, examples: Subset, batch: Subset | None = None, *, batch_size: int = 256) -> Tensor:
    r"""How far each example pulls along a step: :math:`v_i^\top g / \|g\|` (Liu et al. 2021, eq. 4).

    Args:
        net: as above.
        examples: as above.
        batch: the mini-batch of the step; g is the gradient of its mean loss. Default: ``examples``.
        batch_size: examples in memory at a time.

    Returns:
        float32 (n,) on the CPU, nats per unit of parameter, positive where the step lowers the example's loss; 0 where g is. The examples
        of the batch itself have mean :math:`\|g\|`. Costs a plain forward and backward pass of each of ``batch`` and ``examples``, their
        memory, and two gradients.

    Raises:
        UnseenError: as ``cosine_similarity``.
    """
    step, _ = _sum_of_gradients(net, examples if batch is None else batch, batch_size)
    length = norm(step) or 1.0  # without a step no one pulls
    return Numbers(trace.products(step) / length for trace in _traces(net, examples, batch_size)).tensor()


@torch.no_grad()
def gradient_statistics(net: nn.Module, examples: Subset, batch: Subset | None = None, *, batch_size: int = 256) -> GradientStatistics:
    """All of it in one pass over ``examples`` and one over ``batch``.

    Where ``batch`` is ``examples``, and not larger than ``batch_size``, one pass serves both. Args and errors as
    ``contributions``, but without ``batch`` there are no contributions.

    >>> import unseen
    >>> digits = unseen.load("digits", limit=100).train
    >>> found = gradient_statistics(unseen.mlp(inputs=64, hidden=(128,)), digits, digits)
    >>> found.norms.shape, found.contributions.shape
    (torch.Size([100]), torch.Size([100]))
    """
    one_pass = batch is examples and isinstance(examples, Batched) and len(examples) <= batch_size
    total, directions, norms, pulls = _zeros(net), _zeros(net), Numbers(), Numbers()
    step = None if batch is None else total if one_pass else _sum_of_gradients(net, batch, batch_size)[0]
    length = 1.0 if step is None else norm(step) or 1.0
    for trace in _traces(net, examples, batch_size):
        trace.add(torch.ones_like(trace.norms), total)
        trace.add(trace.inverse_norms, directions)
        norms.append(trace.norms)
        if step is not None:
            pulls.append(trace.products(step) / (norm(step) or 1.0 if one_pass else length))
    every = norms.tensor()
    n, of_sum, squares = len(every), inner(total, total), float(every.double().square().sum())
    return GradientStatistics(
        norms=every,
        contributions=None if batch is None else pulls.tensor(),
        cosine_similarity=_mean_cosine(directions, int((every > SMALLEST_NORM).sum())),
        coherence=of_sum / (n * squares) if squares else math.nan,
        variance=(squares - of_sum / n) / (n - 1) if n > 1 else math.nan,
    )


@torch.no_grad()
def gradient_norms(net: nn.Module, examples: Subset, *, batch_size: int = 256) -> Tensor:
    r"""Norm of each example's gradient, GraNd (Paul et al. 2021), which averages it over several networks.

    Returns:
        float32 (n,) on the CPU, nats per unit of parameter. Costs less than one plain forward and backward pass.
    """
    return Numbers(trace.norms for trace in _traces(net, examples, batch_size)).tensor()


@torch.no_grad()
def batch_gradient(net: nn.Module, batch: Subset, *, batch_size: int = 256) -> Gradient:
    """Gradient of the mean loss of all examples of ``batch``: a tensor per trainable parameter, zeros where it is not used."""
    total, count = _sum_of_gradients(net, batch, batch_size)
    return {parameter: gradient / count for parameter, gradient in total.items()}


def _traces(net: nn.Module, examples: Subset, batch_size: int) -> Iterator[Trace]:
    """The gradients of all examples, a batch at a time."""
    _trainable(net)
    refused: set[nn.Parameter] | None = None
    with evaluating(net):
        for batch in _batches(examples, batch_size):
            found = _find(net, batch)
            first = refused is None
            refused = _disagreeing(net, [part[:1] for part in batch]) if refused is None else refused
            ruled: dict[nn.Parameter, Piece] = {p: piece for p, piece in found.items() if piece and p not in refused}
            fallback = _fallback(net, batch, found.keys() - ruled.keys())
            if first:
                _warn(net, fallback)
            trace = Trace([*ruled.values(), *fallback])
            del found, ruled, fallback  # the trace alone holds the pieces
            yield trace
            trace.pieces.clear()


def _find(net: nn.Module, batch: Sequence[Tensor]) -> dict[nn.Parameter, Piece | None]:
    with torch.enable_grad(), recorded(net) as calls:
        return find_pieces(example_losses(net, batch), calls)


def _disagreeing(net: nn.Module, one: Sequence[Tensor]) -> set[nn.Parameter]:
    """Parameters for which a rule gives another norm than autograd, or does not apply, for a batch of one example.

    A rule takes the first dimension of a layer's input for the examples; in a layer where it is the time, and as long as
    the batch, only this shows it.
    """
    with torch.enable_grad(), recorded(net) as calls:
        losses = example_losses(net, one)
        found = find_pieces(losses, calls, retain_graph=True)
        gradients = torch.autograd.grad(losses.sum(), list(found), allow_unused=True)
    plain = [0.0 if gradient is None else float(gradient.norm()) for gradient in gradients]
    ruled = [math.sqrt(float(piece.squares()[0])) if piece else math.inf for piece in found.values()]
    rounding = 1e-6 * math.hypot(*plain)
    return {p for p, other, true in zip(found, ruled, plain, strict=True) if abs(other - true) > 1e-2 * true + rounding}


def _fallback(net: nn.Module, batch: Batch, parameters: set[nn.Parameter]) -> list[Formed]:
    """The gradients of these parameters, formed; an empty list where there are none."""
    named = {name: parameter for name, parameter in net.named_parameters() if parameter in parameters}
    return [Formed(partial(loss_of_one, net, Side.SEEN), named, batch)] if named else []


def _warn(net: nn.Module, fallback: list[Formed]) -> None:
    for piece in fallback:
        owners = (f"{name} ({type(net.get_submodule(name.rpartition('.')[0])).__name__})" for name in piece.parameters)
        chunk = min(piece.chunk, len(piece.batch[1]))
        mebibytes = chunk * sum(parameter.numel() * parameter.element_size() for parameter in piece.parameters.values()) / 2**20
        warnings.warn(
            f"No ghost rule fits {', '.join(owners)}: these gradients are formed by vmap, {chunk} examples at a time. That takes "
            f"{mebibytes:.0f} MiB more memory, and a forward and backward pass more for the norms and for each sum.",
            stacklevel=3,
        )


def _batches(examples: Subset, batch_size: int) -> Iterator[Batch]:
    empty, parts = True, examples
    if isinstance(examples, Batched):
        parts = map(examples.batch, torch.split(torch.arange(len(examples)), batch_size))
    for batch in parts:  # type: ignore[union-attr]
        if len(batch[1]):
            empty = False
            yield batch
    if empty:
        raise UnseenError("The subset is empty. Allowed: at least one example, two for a cosine. Choose another subset.")


class Numbers:
    """A growing float32 vector on the CPU. A list of small tensors would pin the freed memory of every batch between them."""

    def __init__(self, parts: Iterable[Tensor] = ()) -> None:
        self.numbers = array("f")
        for part in parts:
            self.append(part)

    def append(self, part: Tensor) -> None:
        """Put (n,) at the end."""
        self.numbers.extend(part.tolist())

    def tensor(self) -> Tensor:
        """All of them."""
        return torch.tensor(self.numbers, dtype=torch.float32)


def _sum_of_directions(net: nn.Module, examples: Subset, batch_size: int) -> tuple[Gradient, int]:
    """Sum of the unit gradients, and how many there are."""
    total, count = _zeros(net), 0
    for trace in _traces(net, examples, batch_size):
        trace.add(trace.inverse_norms, total)
        count += int((trace.norms > SMALLEST_NORM).sum())
    return total, count


def _mean_cosine(directions: Gradient, count: int) -> float:
    return (inner(directions, directions) - count) / (count * (count - 1)) if count > 1 else math.nan


def _sum_of_gradients(net: nn.Module, batch: Subset, batch_size: int) -> tuple[Gradient, int]:
    """Sum of the gradients, by the plain backward pass, and how many there are."""
    parameters, count = _trainable(net), 0
    total: Gradient = {}
    with evaluating(net):
        for part in _batches(batch, batch_size):
            with torch.enable_grad():
                found = torch.autograd.grad(example_losses(net, part).sum(), parameters, materialize_grads=True)
            pairs = zip(parameters, found, strict=True)
            total = {parameter: total[parameter] + gradient if total else gradient for parameter, gradient in pairs}
            count += len(part[1])
    return total, count


def _trainable(net: nn.Module) -> list[nn.Parameter]:
    if parameters := [parameter for parameter in net.parameters() if parameter.requires_grad]:
        return parameters
    raise UnseenError("The network has no trainable parameters, so no gradients. Call requires_grad_() on those you mean.")


def _zeros(net: nn.Module) -> Gradient:
    return {parameter: torch.zeros_like(parameter) for parameter in _trainable(net)}
