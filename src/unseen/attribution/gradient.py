r"""Influence by gradients: how far the steps on train i, as far as first order goes, lowered the loss of query q.

Pruthi et al., *Estimating Training Data Influence by Tracing Gradient Descent* (TracInCP, 2020), eq. 4, with a metric:

.. math:: I(i, q) = \sum_t \eta_t \, \nabla L(z_q; \theta_t)^\top C_t^{-1} \, \nabla L(z_i; \theta_t)

over saved epochs t with learning rates η. C = 1 is TracInCP. Steps undo each other along directions that many examples
share, which the inverse curvature discounts (Koh & Liang 2017); K-FAC (Martens & Grosse 2015; Grosse et al. 2023 for influence)
takes for a linear layer C = A ⊗ S, A the second moment of its inputs and S that of the gradients at its outputs, here with the
given labels. On T1 it more than doubles the linear datamodeling score (LOG.md).

Per-example gradients of a linear layer are outer products δ aᵀ of the gradient at its output and its input, so their inner
product is (a_q A⁻¹ a_i)(δ_q S⁻¹ δ_i), and δ_q S⁻¹ δ_i for the bias: two products of small matrices for all pairs, and no
gradient in memory. Gradients of vectors (norms, biases) are formed, being small; those of convolutions, embeddings and
layers on tokens are formed by ``vmap``, as many at a time as 256 MiB hold, and their C is a multiple of 1.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from unseen.attribution.queries import Asked, Queries
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.gradients import SMALLEST_NORM, Formed, Outer, Rows, example_losses, find_pieces, loss_of_one, recorded

Epochs = Iterable[tuple[dict[str, Tensor], float]]
Batch = tuple[Tensor, Tensor, Tensor]
Part = tuple[Tensor, ...]

WIDEST = 4096  # of a matrix that is inverted


@dataclass(frozen=True)
class Factors:
    """Gradients of n examples as parts whose inner products multiply: pairs (a, δ) of linear layers, and formed rows.

    parts: by parameter or lot of parameters, one or two matrices (n, ...).
    """

    parts: list[Part]

    def products(self, other: "Factors") -> Tensor:
        """Inner products of all pairs: (n, m)."""
        total: Tensor | None = None
        for ours, theirs in zip(self.parts, other.parts, strict=True):
            product = ours[0] @ theirs[0].T
            for left, right in zip(ours[1:], theirs[1:], strict=True):
                product *= left @ right.T
            total = product if total is None else total.add_(product)
        assert total is not None
        return total

    def norms(self, dual: "Factors | None" = None) -> Tensor:
        """Norm of each gradient, (n,); with ``dual``, the same gradients times C⁻¹, the root of gᵀ C⁻¹ g."""
        pairs = zip(self.parts, (dual or self).parts, strict=True)
        squares = [torch.stack([(a * b).sum(1) for a, b in zip(*pair, strict=True)]).prod(0) for pair in pairs]
        return torch.stack(squares).sum(0).clamp_min(0).sqrt().clamp_min(SMALLEST_NORM)

    def times(self, inverses: "list[list[Tensor]] | None") -> "Factors":
        """The gradients times C⁻¹, whose factors are matrices or, where too large, single numbers."""
        if inverses is None:
            return self
        applied = [
            tuple(m @ inverse if inverse.dim() else m * inverse for m, inverse in zip(part, some, strict=True))
            for part, some in zip(self.parts, inverses, strict=True)
        ]
        return Factors(applied)


def gradient_influence(
    net: nn.Module,
    train: Examples,
    queries: Asked | Queries,
    epochs: Epochs,
    *,
    damping: float | None = 1.0,
    normalise: Literal["none", "query", "both"] = "query",
    side: Literal["full", "seen"] = "full",
    batch_size: int = 256,
) -> Tensor:
    """Influence of each training example on each query, by gradients at saved epochs.

    Args:
        net: a ``TurnOverNet``, or any module called as ``net(x)``; not changed.
        train: see ``top_influence``.
        queries: see ``train``.
        epochs: weights (a ``state_dict`` of ``net``) and learning rate of each saved epoch.
        damping: added to A and S, times their mean diagonal; None: C = 1, TracInCP.
        normalise: "none": nats, but for the factor 1 / (1 - momentum) and the number of steps between saved epochs; "query": by the norm of
            the query's gradient in every epoch, so that epochs in which it is large do not drown the others; "both": cosines, where large
            gradients of training examples do not win either.
        side: of a ``TurnOverNet``, where the gradient of a training example is taken: in the network without masks, or in the half that it
            trained. The query's is always taken without masks.
        batch_size: training examples at a time.

    Returns:
        float32 (queries, train), positive = training on it helps the query. Cost per saved epoch: a forward and a backward pass of each
        example (two with damping, and the third power of each layer's widths), and per pair the widths of all linear layers. Memory: the
        result, the queries' factors and, with damping, A⁻¹ and S⁻¹.

    Raises:
        UnseenError: no saved epochs, or weights of another network.
    """
    net, queries = copy.deepcopy(net).eval(), Queries.of(queries)
    total = torch.zeros(len(queries), len(train), device=train.labels.device)
    x, labels = queries.batch(torch.arange(len(total)))
    none = True
    for state, rate in epochs:
        none = False
        _load(net, state)
        ours = factors(net, (x, labels, torch.zeros_like(labels)))
        inverses = None if damping is None else inverse_curvature(net, train, damping, batch_size)
        dual = ours.times(inverses)
        scale = 1.0 if normalise == "none" else 1 / ours.norms(dual)[:, None]
        for some in torch.arange(len(train)).split(batch_size):
            theirs = factors(net, train.batch(some), side)
            products = dual.products(theirs) * (rate * scale)
            total[:, some] += products / theirs.norms(theirs.times(inverses)) if normalise == "both" else products
    if none:
        raise UnseenError("Influence by gradients needs the weights of saved epochs, and there are none.")
    return total


def inverse_curvature(net: nn.Module, train: Examples, damping: float, batch_size: int = 256) -> list[list[Tensor]]:
    """Inverses of A and S (one matrix for formed gradients), as the parts of ``factors`` have them.

    Args: damping, relative to the mean diagonal. A matrix wider than ``WIDEST`` is replaced by its mean diagonal.
    """
    moments: list[list[Tensor]] = []
    for some in torch.arange(len(train)).split(batch_size):
        found = [[_moment(matrix) for matrix in part] for part in factors(net, train.batch(some)).parts]
        moments = found if not moments else [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(moments, found, strict=True)]
    return [[_inverse(moment / len(train), damping) for moment in part] for part in moments]


def _moment(matrix: Tensor) -> Tensor:
    """Sum of outer products of the rows, or their mean square norm per number where that is too large."""
    moment: Tensor = matrix.T @ matrix if matrix.shape[1] <= WIDEST else matrix.square().sum() / matrix.shape[1]
    return moment


def _inverse(moment: Tensor, damping: float) -> Tensor:
    if not moment.dim():
        return 1 / (moment * (1 + damping)).clamp_min(SMALLEST_NORM)
    mean = moment.diagonal().mean().clamp_min(SMALLEST_NORM)
    inverse: Tensor = torch.linalg.inv(moment + damping * mean * torch.eye(len(moment), device=moment.device))
    return inverse


def factors(net: nn.Module, batch: Batch, side: str = "full") -> Factors:
    """The gradients of each example's loss, as factors. Args: batch: (x, labels, index); index is used on side "seen"."""
    with torch.enable_grad(), recorded(net) as calls:
        pieces = find_pieces(example_losses(net, batch, side), calls)
    rest: dict[str, nn.Parameter] = {}
    parts: list[Part] = []
    for name, parameter in net.named_parameters():
        piece = pieces.get(parameter)
        if isinstance(piece, Outer) and piece.inputs.shape[1] == 1:
            parts.append((piece.inputs[:, 0], piece.deltas[:, 0]))
        elif isinstance(piece, Rows):
            parts.append((piece.rows.flatten(1),))
        elif parameter in pieces:
            rest[name] = parameter
    if rest:
        parts.append((Formed(partial(loss_of_one, net, side), rest, batch).rows(),))
    return Factors(parts)


def _load(net: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UnseenError(f"The saved weights are not this network's: {error}") from error
