r"""Influence by gradients: how far the steps on train i, as far as first order goes, lowered the loss of query q.

Pruthi et al., *Estimating Training Data Influence by Tracing Gradient Descent* (TracInCP, 2020), eq. 4:

.. math:: I(i, q) = \sum_t \eta_t \, \langle \nabla L(z_i; \theta_t), \nabla L(z_q; \theta_t) \rangle

over saved epochs t with learning rates η. Per-example gradients of a linear layer are outer products δ aᵀ of the
gradient at its output and its input, so their inner product is (a_i·a_q)(δ_i·δ_q), and δ_i·δ_q for the bias: two
products of small matrices for all pairs, and no gradient in memory. Gradients of vectors (norms, biases) are formed, being
small; those of convolutions, embeddings and layers on tokens are formed by ``vmap``, as many at a time as 256 MiB hold.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from unseen import queries as asked
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.ghost import FORMED_NUMBERS, SMALLEST_NORM, Outer, Rows
from unseen.layers import find_pieces, recorded
from unseen.queries import Queries
from unseen.turnover import TurnOverNet

Epochs = Iterable[tuple[dict[str, Tensor], float]]
Batch = tuple[Tensor, Tensor, Tensor]
Part = tuple[Tensor, ...]


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

    def norms(self) -> Tensor:
        """Norm of each gradient: (n,)."""
        squares = [torch.stack([matrix.square().sum(1) for matrix in part]).prod(0) for part in self.parts]
        return torch.stack(squares).sum(0).sqrt().clamp_min(SMALLEST_NORM)


def gradient_influence(
    net: nn.Module,
    train: Examples,
    queries: Queries,
    epochs: Epochs,
    side: Literal["full", "seen"] = "full",
    normalise: bool = False,
    batch_size: int = 256,
) -> Tensor:
    """TracInCP of each training example on each query.

    Args:
        net: a ``TurnOverNet``, or any module called as ``net(x)``; not changed.
        train, queries: see ``top_influence``.
        epochs: weights (a ``state_dict`` of ``net``) and learning rate of each saved epoch.
        side: of a ``TurnOverNet``, where the gradient of a training example is taken: in the network without masks, or in
            the half that it trained. The query's is always taken without masks.
        normalise: cosines in place of inner products, in every epoch: large gradients no longer win.
        batch_size: training examples at a time.

    Returns float32 (queries, train), positive = training on it helps the query, in nats but for the factor
    1 / (1 - momentum) and the number of steps between saved epochs. Cost per saved epoch: a forward and a backward pass
    of each example, and per pair the widths of all linear layers. Memory: the result and the queries' factors.

    Raises UnseenError: no saved epochs, or weights of another network.
    """
    net = copy.deepcopy(net).eval()
    total = torch.zeros(asked.count(queries), len(train), device=train.labels.device)
    none = True
    for state, rate in epochs:
        none = False
        _load(net, state)
        x, labels = asked.batch(queries, torch.arange(len(total)))
        ours = factors(net, (x, labels, torch.zeros_like(labels)), "full")
        lengths = ours.norms()[:, None] if normalise else None
        for some in torch.arange(len(train)).split(batch_size):
            theirs = factors(net, train.batch(some), side)
            products = ours.products(theirs)
            if lengths is not None:
                products /= lengths * theirs.norms()
            total[:, some] += rate * products
    if none:
        raise UnseenError("Influence by gradients needs the weights of saved epochs, and there are none. Train with --save-every 1.")
    return total


def factors(net: nn.Module, batch: Batch, side: str = "full") -> Factors:
    """The gradients of each example's loss, as factors. Args: batch: (x, labels, index); index is used on side "seen"."""
    with torch.enable_grad(), recorded(net) as calls:
        pieces = find_pieces(_losses(net, side, batch), calls)
    rest: list[str] = []
    parts: list[Part] = []
    for name, parameter in net.named_parameters():
        piece = pieces.get(parameter)
        if isinstance(piece, Outer) and piece.inputs.shape[1] == 1:
            parts.append((piece.inputs[:, 0], piece.deltas[:, 0]))
        elif isinstance(piece, Rows):
            parts.append((piece.rows.flatten(1),))
        elif parameter in pieces:
            rest.append(name)
    if rest:
        parts.append((_formed(net, side, rest, batch),))
    return Factors(parts)


def _formed(net: nn.Module, side: str, names: Sequence[str], batch: Batch) -> Tensor:
    """Gradients with respect to these parameters, formed: (n, numbers)."""
    values = {name: net.get_parameter(name).detach() for name in names}
    chunk = max(1, FORMED_NUMBERS // sum(value.numel() for value in values.values()))
    one_by_one = vmap(grad(partial(_loss_of_one, net, side)), (None, 0, 0, 0), randomness="same")
    found = [one_by_one(values, *parts) for parts in zip(*(part.split(chunk) for part in batch), strict=True)]
    return torch.cat([torch.cat([rows.flatten(1) for rows in part.values()], 1) for part in found])


def _losses(net: nn.Module, side: str, batch: Batch, values: dict[str, Tensor] | None = None) -> Tensor:
    """Loss of each example, (n,), with ``values`` in place of the parameters of these names."""
    x, labels, index = batch
    inputs = (x, index, side) if isinstance(net, TurnOverNet) else (x,)
    logits = net(*inputs) if values is None else functional_call(net, values, inputs)
    return F.cross_entropy(logits.float(), labels, reduction="none")


def _loss_of_one(net: nn.Module, side: str, values: dict[str, Tensor], *example: Tensor) -> Tensor:
    x, labels, index = (part[None] for part in example)
    return _losses(net, side, (x, labels, index), values)[0]


def _load(net: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UnseenError(f"The saved weights are not this network's: {error}") from error
