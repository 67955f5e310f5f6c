r"""Which training examples help or hurt a prediction: influence of train i on query q, for all pairs.

Liu, Lin, Jaggi (2021), eq. 1 and 5: under the mask of i,

.. math:: I(i, q) = L(f^{\tilde m(z_i)}, z_q) - L(f^{m(z_i)}, z_q),

the loss of q in the half that never saw i, minus that in the half that i trained; in nats, positive where training on i
helps q. A query is any input with a label: a test example, a training example, an input of one's own.

With one mask before a linear read-out (``TurnOverNet.is_average_of_halves``) all pairs are one matrix product. Let f be
the logits of the full network, h the hidden units of q, W the read-out, and s = m - 1 the mask as signs. The seen half's
logits are f + Σ_d s[i,d] h[q,d] W[c,d], and the unseen half's f minus the same. With y the label of q,

.. math::
    r_{iqc} = \sum_d s_{id}\, h_{qd} (W_{cd} - W_{yd}), \qquad
    L_\text{seen} = \log\Big(1 + \sum_{c \ne y} e^{f_{qc} - f_{qy}} e^{r_{iqc}}\Big),

and e^{-r} in place of e^r for the unseen half: classes - 1 columns and one exponential each serve both halves. Any other
network runs its mask-free front once per query and the rest, both halves, once per pair.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.attribution.queries import Asked, Queries
from unseen.attribution.ranking import Extremes, extremes, joined
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.masks import CHILD, TurnOver, TurnOverNet, evaluating
from unseen.training import bf16_gains

ROWS = {"cpu": 1024, "cuda": 16384}  # of a tile: pairs of query and class; with the next, what stays in the cache
TRAIN = {"cpu": 512, "cuda": 8192}  # training examples of a tile
LARGEST_EXPONENT = 80.0  # e**80 is a float32, and so is e**-80

Tiles = Callable[[Tensor], Tensor]


@torch.no_grad()
def influence_tile(net: TurnOverNet, query_x: Tensor, query_labels: Tensor, train_index: Tensor, precision: str = "32") -> Tensor:
    """Influence of each training example on each query.

    Args:
        net: trained with turn-over masks.
        query_x: (queries, ...), standardised as in training.
        query_labels: int64 (queries,).
        train_index: int64 (train,), the index of each training example; their inputs are not needed.
        precision: "32"; "bf16" rounds the products to 8 bits, for last-layer masks alone (errors of about 1% of an influence).

    Returns:
        float32 (queries, train), nats, positive = training on it helps the query. Cost per pair: 2 units (classes - 1) operations with one
        mask before a linear read-out; else two passes through what comes behind the first mask.
    """
    return query_tiles(net, query_x, query_labels, precision)(train_index)


def query_tiles(net: TurnOverNet, query_x: Tensor, query_labels: Tensor, precision: str = "32") -> Tiles:
    """What depends on the queries alone, done once: a function from train_index to ``influence_tile``'s result."""
    if not net.is_average_of_halves:
        return PairTiles(net, query_x, query_labels)
    return LastLayerTiles(net, query_x, query_labels, precision)


class LastLayerTiles:
    """The fast path: see the formula above. Args as ``influence_tile``.

    Holds (classes - 1) * queries * groups numbers, where units share a mask in ``groups`` groups (their products are summed).
    """

    @torch.no_grad()
    def __init__(self, net: TurnOverNet, x: Tensor, labels: Tensor, precision: str) -> None:
        front, self.turn_over, weight, bias = _split(net)
        with evaluating(net):
            hidden = front(x).float()  # (queries, units)
        logits = F.linear(hidden, weight, bias)
        others = torch.arange(len(weight) - 1, device=labels.device).expand(len(labels), -1)
        others = others + (others >= labels[:, None])  # (queries, classes - 1)
        self.log_odds = (logits.gather(1, others) - logits.gather(1, labels[:, None])).T[..., None]  # (classes - 1, queries, 1)
        groups = self.turn_over.mask.units
        self.products = torch.empty(*self.log_odds.shape[:2], groups, device=x.device, dtype=_dtype(precision))
        for c, other in enumerate(others.unbind(1)):
            terms = (weight[other] - weight[labels]).mul_(hidden)
            self.products[c] = terms.view(len(terms), groups, -1).sum(-1) if groups != weight.shape[1] else terms

    @torch.no_grad()
    def __call__(self, train_index: Tensor) -> Tensor:
        """Influence, float32 (queries, train)."""
        rows, columns = (sizes[train_index.device.type] for sizes in (ROWS, TRAIN))
        queries = max(1, rows // max(1, len(self.products)))
        result = torch.empty(self.products.shape[1], len(train_index), device=train_index.device)
        for chosen, out in zip(train_index.split(columns), result.split(columns, 1), strict=True):
            signs = (self.turn_over.mask(chosen).to(self.products.dtype) - 1).T  # (groups, train)
            for some in torch.arange(len(result)).split(queries):
                q = slice(int(some[0]), int(some[-1]) + 1)
                products = self.products[:, q]
                shifts = (products.flatten(0, 1) @ signs).float().view(*products.shape[:2], -1)
                out[q] = influence_of_shifts(shifts, self.log_odds[:, q])
        return result


def influence_of_shifts(shifts: Tensor, log_odds: Tensor) -> Tensor:
    """Unseen minus seen loss from r and f_c - f_y of the module's formula. Overwrites ``shifts``.

    Args: shifts (classes - 1, queries, train), log_odds (classes - 1, queries, 1). Returns (queries, train).
    """
    low, high = shifts.aminmax()
    if max(-low, high) + log_odds.abs().max() > LARGEST_EXPONENT:
        unseen, seen = ((log_odds + part).logsumexp(0) for part in (-shifts, shifts))
        return F.softplus(unseen) - F.softplus(seen)
    odds, factors = log_odds.exp(), shifts.exp_()
    seen, unseen = odds[0] * factors[0], odds[0] / factors[0]
    for odd, factor in zip(odds[1:], factors[1:], strict=True):
        seen.addcmul_(odd, factor)
        unseen.addcdiv_(odd, factor)
    return unseen.log1p_().sub_(seen.log1p_())


class PairTiles:
    """The general path: both halves of every pair, from the first mask on. Args as ``influence_tile``.

    activations: bytes to hold at a time. Where ``net.fork`` is off, the network is run whole for every pair.
    """

    def __init__(self, net: TurnOverNet, x: Tensor, labels: Tensor, activations: int = 2**28) -> None:
        self.net, self.x, self.labels = net, x, labels
        self.pairs = max(len(x), activations // _bytes_per_pair(net, x[:1]))

    @torch.no_grad()
    def __call__(self, train_index: Tensor) -> Tensor:
        """Influence, float32 (queries, train)."""
        with evaluating(self.net):
            return torch.cat([self._influence(part) for part in train_index.split(self.pairs // len(self.x))], 1)

    def _influence(self, train_index: Tensor) -> Tensor:
        queries, count = len(self.x), len(train_index)
        index = train_index.repeat_interleave(queries)
        if self.net.fork:
            with self._spread(count), self.net.switch.turned(index, "both"):
                logits = self.net.net(self.x)
        else:
            logits = torch.cat(self.net(_repeated(self.x, count), index, "both"))
        losses = F.cross_entropy(logits.float(), self.labels.repeat(2 * count), reduction="none").view(2, count, queries)
        return (losses[1] - losses[0]).T

    @contextmanager
    def _spread(self, count: int) -> Iterator[None]:
        """Let the first mask that is met repeat the queries once for each training example."""
        met = []

        def spread(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            met.append(True)
            return (_repeated(inputs[0], count),) if len(met) == 1 else None

        handles = [module.register_forward_pre_hook(spread) for module in self.net.modules() if isinstance(module, TurnOver)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def top_influence(
    net: TurnOverNet | Sequence[TurnOverNet],
    train: Examples,
    queries: Asked | Queries,
    top: int = 20,
    memory_gib: float = 2.0,
    precision: str = "32",
) -> Extremes:
    """The training examples that help and hurt each query most, by turn-over dropout.

    Args:
        net: trained with turn-over masks; several (seeds of one run): the mean of their influences.
        train: candidates.
        queries: an ``Examples``, or inputs of your own, standardised, and their labels.
        top: how many on either side, at least 1; all where there are fewer.
        memory_gib: ceiling for what this adds to memory; queries are taken in as many rounds as it needs.
        precision: "32", "bf16", or "auto" for bf16 where the hardware gains from it; see ``influence_tile``.

    Returns:
        ``Extremes``.

    Raises:
        UnseenError: nothing to compare, or a ceiling below what one query takes.
    """
    nets, queries = [net] if isinstance(net, TurnOverNet) else list(net), Queries.of(queries)
    if top < 1 or not len(train) or not len(queries):
        raise UnseenError(f"Influence needs queries, training examples and a top of 1 or more; got {len(queries)}, {len(train)}, {top}.")
    x, labels = queries.batch(torch.arange(1))
    each = len(nets) * max(_bytes_per_query(one, x, len(train.classes), precision) for one in nets)
    index = train.index.to(x.device)
    found = []
    for some in torch.arange(len(queries)).split(queries_at_once(each, memory_gib)):
        x, labels = queries.batch(some)
        tiles = [query_tiles(one, x, labels, precision) for one in nets]
        columns = 8 * TRAIN[x.device.type]
        found.append(extremes(((part, torch.stack([tile(part) for tile in tiles]).mean(0)) for part in index.split(columns)), top))
    return joined(found)


def _split(net: TurnOverNet) -> tuple[nn.Module, Any, Tensor, Tensor | None]:
    """Front up to the mask, the mask's module, and what is behind as one linear map (classes, units) and (classes,)."""
    children = list(net.net.children())
    at = next(i for i, child in enumerate(children) if hasattr(child, CHILD))
    weight: Tensor | None = None
    bias: Tensor | None = None
    for layer in children[at + 1 :]:
        if isinstance(layer, nn.Linear):
            bias = layer.bias if bias is None else F.linear(bias, layer.weight, layer.bias)
            weight = layer.weight if weight is None else layer.weight @ weight
    assert weight is not None
    return nn.Sequential(*children[: at + 1]), getattr(children[at], CHILD), weight.float(), None if bias is None else bias.float()


def _repeated(h: Tensor, count: int) -> Tensor:
    return h.repeat(count, *[1] * (h.dim() - 1))


def _bytes_per_pair(net: TurnOverNet, x: Tensor) -> int:
    """Activations in memory for a pair: both halves of the largest one, before and behind its layer and its mask."""
    largest = 1

    def note(_: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        largest = max(largest, output.numel() if isinstance(output, Tensor) else 1)

    handles = [module.register_forward_hook(note) for module in net.modules() if not list(module.children())]
    with torch.no_grad(), evaluating(net):
        net(x)
    for handle in handles:
        handle.remove()
    return 2 * 4 * 4 * largest


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and bf16_gains()) else torch.float32


def _bytes_per_query(net: TurnOverNet, x: Tensor, classes: int, precision: str) -> int:
    """What one query holds in memory: its products and a row of the largest tile, or the activations of its pairs."""
    row = 8 * TRAIN[x.device.type] * 4 * 4
    if net.is_average_of_halves:
        units = net.masked_layers()[0].units
        return row + units * ((classes - 1) * _dtype(precision).itemsize + 16)
    return row + x.numel() * 8


def queries_at_once(bytes_each: int, memory_gib: float) -> int:
    """How many queries fit. Raises UnseenError where not one does."""
    tile = 2**25  # masks and shifts of one tile
    count = int((memory_gib * 2**30 - tile) // bytes_each)
    if count < 1:
        raise UnseenError(f"A memory of {memory_gib:g} GiB does not hold one query; {(tile + bytes_each) / 2**30:.3g} GiB does.")
    return count
