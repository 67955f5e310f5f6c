"""What the halves say about examples: losses, margins, predictions, in one pass forked at the first mask."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unseen.data import Examples
from unseen.train import channels_last
from unseen.turnover import TurnOverNet

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SIDES = ("seen", "unseen", "full")
QUANTITIES = ("loss", "margin", "correct", "error_norm", "predicted")


def statistics(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per-example statistics. Args: logits (n, classes), labels int64 (n,).

    Returns float32 (n,): loss in nats; margin, the label's logit minus the best other; correct, 0 or 1; error_norm, the
    norm of softmax minus one-hot (EL2N); predicted, the class.
    """
    logits = logits.float()
    predicted = logits.argmax(1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    error = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return {
        "loss": F.cross_entropy(logits, labels, reduction="none"),
        "margin": own - other,
        "correct": (predicted == labels).float(),
        "error_norm": error.norm(dim=1),
        "predicted": predicted.float(),
    }


@torch.no_grad()
def measure(
    net: TurnOverNet, examples: Examples, fabric: "Fabric | None" = None, batch_size: int = 256, probabilities: bool = False
) -> dict[str, Tensor]:
    """Measure both halves and the full network on all examples.

    Returns CPU tensors: float32 (n,) under ``<quantity>_<side>`` for ``statistics``'s quantities and the sides seen,
    unseen, full; with ``probabilities`` also ``probabilities``, float32 (n, classes), of the unseen half. Every
    process of ``fabric`` measures its share and gets all. Cost: one pass up to the first mask, then three.
    """
    rank, world = (fabric.global_rank, fabric.world_size) if fabric else (0, 1)
    width = len(examples.classes) if probabilities else 0
    names = [f"{quantity}_{side}" for side in SIDES for quantity in QUANTITIES]
    table = torch.zeros(len(examples), len(names) + width)
    training = net.training
    net.eval()
    with fabric.autocast() if fabric else nullcontext():  # around the loop: weights are cast once
        for positions in torch.arange(len(examples)).split(batch_size)[rank::world]:
            x, labels, index = examples.batch(positions)
            logits = [side.float() for side in net(channels_last(x), index, "all")]
            columns = [value for side in logits for value in statistics(side, labels).values()]
            table[positions, : len(names)] = torch.stack(columns, 1).cpu()
            if probabilities:
                table[positions, len(names) :] = logits[1].softmax(1).cpu()
    net.train(training)
    if fabric and world > 1:
        table = fabric.all_reduce(table.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    result = dict(zip(names, table[:, : len(names)].unbind(1), strict=True))
    return result | ({"probabilities": table[:, len(names) :]} if probabilities else {})


@torch.no_grad()
def memorization(net: TurnOverNet, examples: Examples | Iterable[tuple[Tensor, Tensor, Tensor]], batch_size: int = 512) -> Tensor:
    """Loss of the unseen half minus loss of the seen half of each example on itself (Liu et al. 2021, eq. 6).

    Args:
        net: trained with turn-over masks, on the same ``index``.
        examples: an ``Examples``, or batches (x, labels, index), a loader of your own.

    Returns float32 (n,) in nats, in the order given; high = memorized. (Eq. 6 as printed has m twice; the first must
    be the complement, as in eq. 5.)
    """
    batches = _batches(examples, batch_size) if isinstance(examples, Examples) else examples
    training = net.training
    net.eval()
    gaps = []
    for x, labels, index in batches:
        seen, unseen = (F.cross_entropy(logits.float(), labels, reduction="none") for logits in net(x, index, "both"))
        gaps.append((unseen - seen).cpu())
    net.train(training)
    return torch.cat(gaps)


def _batches(examples: Examples, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for positions in torch.arange(len(examples)).split(batch_size):
        yield examples.batch(positions)
