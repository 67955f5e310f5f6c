"""What the halves say about examples: losses, margins, predictions, in one pass forked at the first mask."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.data import Examples
from unseen.masks import Inputs, Side, TurnOverNet, evaluating, two_logits
from unseen.training.convolutions import FastLayers
from unseen.training.hidden import Hidden, Output
from unseen.training.loop import channels_last
from unseen.training.networks import Ordinary

if TYPE_CHECKING:
    from lightning_fabric import Fabric

QUANTITIES = ("loss", "margin", "correct", "error_norm", "predicted")


def statistics(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per-example statistics.

    Args:
        logits: (n, classes).
        labels: int64 (n,).

    Returns:
        float32 (n,): loss in nats; margin, the label's logit minus the best other; correct, 0 or 1; error_norm, the norm of softmax minus
        one-hot (EL2N); predicted, the class.
    """
    columns = logits.float().T.contiguous()  # (classes, n): along few classes, reductions are several times slower
    own = labels[None]
    logs = columns.log_softmax(0)
    error = logs.exp().scatter_add(0, own, torch.full_like(logs[:1], -1.0))
    predicted = columns.argmax(0)
    return {
        "loss": -logs.gather(0, own)[0],
        "margin": columns.gather(0, own)[0] - columns.scatter(0, own, -torch.inf).amax(0),
        "correct": (predicted == labels).float(),
        "error_norm": error.square().sum(0).sqrt(),
        "predicted": predicted.float(),
    }


@torch.no_grad()
def measure(
    net: TurnOverNet | Ordinary,
    examples: Examples,
    fabric: "Fabric | None" = None,
    batch_size: int = 256,
    probabilities: bool = False,
    output: Output | None = None,
    of: Sequence[Side] = (Side.FULL,),
) -> dict[str, Tensor]:
    """Measure both halves and the full network on all examples; of an ordinary network the network itself, under ``full``.

    Args:
        net: as it is trained.
        examples: what to measure it on, N of them.
        fabric: precision and processes: every process measures its share and gets all.
        batch_size: examples at a time.
        probabilities: whether to return class probabilities too, of the unseen half or else of the network.
        output: the layer whose inputs to return too; of the same pass.
        of: whose they are.

    Returns:
        float32 (N,) on the CPU under ``<quantity>_<side>`` for ``statistics``'s quantities; with ``probabilities`` also that name,
        float32 (N, classes); with ``output`` ``features_<side>``, float32 (N, units), on the network's device. Cost: one pass up to the
        first mask, then three.
    """
    rank, world = (fabric.global_rank, fabric.world_size) if fabric else (0, 1)
    sides = sides_of(net)
    width = len(examples.classes) if probabilities else 0
    names = [f"{quantity}_{side}" for side in sides for quantity in QUANTITIES]
    device = examples.labels.device
    table = torch.zeros(len(examples), len(names) + width, device=device)
    hidden = _Features(output, [side for side in of if side in sides], len(examples), next(net.parameters()).device)
    autocast = fabric.autocast() if fabric else nullcontext()
    with evaluating(net), hidden.watched(net.net), autocast, FastLayers():  # weights are cast once
        for positions in torch.arange(len(examples), device=device).split(batch_size)[rank::world]:
            x, labels, index = examples.batch(positions)
            logits = _all_logits(net, channels_last(x), index)
            hidden.keep(positions)
            columns = [value for side in logits for value in statistics(side, labels).values()]
            table[positions, : len(names)] = torch.stack(columns, 1)
            if probabilities:
                table[positions, len(names) :] = logits[min(1, len(logits) - 1)].softmax(1)
    if fabric and world > 1:
        table = fabric.all_reduce(table.to(fabric.device), reduce_op="sum")  # type: ignore[union-attr, assignment]
    table = table.cpu()
    result = dict(zip(names, table[:, : len(names)].unbind(1), strict=True)) | hidden.gathered(fabric if world > 1 else None)
    return result | ({"probabilities": table[:, len(names) :]} if probabilities else {})


class _Features:
    """What goes into the output layer, of each side, as the batches pass."""

    def __init__(self, output: Output | None, sides: Sequence[Side], examples: int, device: torch.device) -> None:
        self.hidden = None if output is None else Hidden(output)
        self.tables = {side: torch.zeros(examples, len(output.units), device=device) for side in sides} if output else {}

    def watched(self, net: nn.Module) -> AbstractContextManager[Any]:
        return nullcontext() if self.hidden is None else self.hidden.of(net)

    def keep(self, positions: Tensor) -> None:
        """The rows of a forward: of each side in turn, where it had several; full is the mean of two halves, where it had two."""
        if self.hidden is None:
            return
        parts = self.hidden.features.split(len(positions))
        place = {Side.FULL: parts[-1]} if len(parts) == 1 else dict(zip(Side, parts, strict=False))
        place.setdefault(Side.FULL, (parts[0] + parts[-1]) / 2)
        for side, table in self.tables.items():
            table[positions] = place[side]

    def gathered(self, fabric: "Fabric | None") -> dict[str, Tensor]:
        """Of all processes, under ``features_<side>``."""
        found = {f"features_{side}": table for side, table in self.tables.items()}
        return {name: fabric.all_reduce(table, reduce_op="sum") for name, table in found.items()} if fabric else found  # type: ignore[misc]


def sides_of(net: nn.Module) -> tuple[Side, ...]:
    """What can be measured of a network: three sides, or of an ordinary one the network itself."""
    return tuple(Side) if isinstance(net, TurnOverNet) else (Side.FULL,)


def _all_logits(net: nn.Module, x: Inputs, index: Tensor) -> list[Tensor]:
    """Logits (n, classes) of each side of ``sides_of``."""
    return [two_logits(side.float()) for side in (net(x, index, "all") if isinstance(net, TurnOverNet) else (net(x, index),))]


@torch.no_grad()
def measure_batches(net: TurnOverNet, batches: Iterable[tuple[Inputs, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Measure both halves and the full network on batches (x, labels, index) of a loader of one's own.

    Returns, in the order of the batches, index, what ``measure`` returns, and the unseen half's probabilities.
    """
    parts = []
    with evaluating(net):
        for x, labels, index in batches:
            logits = _all_logits(net, x, index)
            found = {
                f"{name}_{side}": value for side, one in zip(Side, logits, strict=True) for name, value in statistics(one, labels).items()
            }
            part = {"index": index} | found | {"probabilities": logits[1].softmax(1)}
            parts.append({name: value.cpu() for name, value in part.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def memorization(net: TurnOverNet, examples: Examples | Iterable[tuple[Inputs, Tensor, Tensor]], batch_size: int = 512) -> Tensor:
    """Loss of the unseen half minus loss of the seen half of each example on itself (Liu et al. 2021, eq. 6).

    Args:
        net: trained with turn-over masks, on the same ``index``.
        examples: an ``Examples``, or batches (x, labels, index), a loader of your own.
        batch_size: examples at a time, for an ``Examples``.

    Returns:
        float32 (n,) in nats, in the order given; high = memorized. (Eq. 6 as printed has m twice; the first must be the complement, as in
        eq. 5.)
    """
    batches = _batches(examples, batch_size) if isinstance(examples, Examples) else examples
    gaps = []
    with evaluating(net):
        for x, labels, index in batches:
            seen, unseen = (F.cross_entropy(two_logits(logits.float()), labels, reduction="none") for logits in net(x, index, "both"))
            gaps.append((unseen - seen).cpu())
    return torch.cat(gaps)


def _batches(examples: Examples, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for positions in torch.arange(len(examples)).split(batch_size):
        yield examples.batch(positions)
