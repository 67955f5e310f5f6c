"""The training loop: a generator of epochs, with no random state, so that a resumed run is the same run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.config import TrainingOptions
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.hashing import hash64
from unseen.training.convolutions import FastLayers
from unseen.training.processes import make_fabric
from unseen.training.replay import replay_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Epoch:
    """What the generator yields: ``number`` from 1, ``loss`` in nats (mean over the epoch), ``state`` to resume from."""

    number: int
    loss: float
    state: dict[str, Tensor]


def train(
    net: nn.Module,
    examples: Examples,
    config: TrainingOptions,
    seed: int,
    fabric: "Fabric | None" = None,
    state: dict[str, Tensor] | None = None,
    done: int = 0,
    progress: Any = None,
) -> Iterator[Epoch]:
    """Train ``net`` on ``examples``, each in its own seen half, and yield after every epoch.

    Args:
        net: a ``TurnOverNet``; any module that takes (x, index).
        examples: all of them are trained on.
        config: resolved.
        seed: of the order and the augmentation.
        fabric: device, precision and processes.
        state: an ``Epoch.state`` and its number, to go on from there, bit for bit where threads and processes are the same.
        done: see ``state``.
        progress: called with the number of examples and the loss (a tensor) after every step.

    Each process takes its share of every batch; the gradient is that of the whole batch's mean loss.

    Raises:
        UnseenError: for a loss that is not finite, naming epoch and batch; the last state yielded is still good.
    """
    fabric = fabric or make_fabric(1, config.precision)
    optimizer = make_optimizer(net, config)
    model, optimizer = fabric.setup(net, optimizer)
    if state is not None:
        load_state(net, optimizer, state)  # after the network has gone to its device
    steps = math.ceil(len(examples) / config.batch_size)
    for epoch in range(done + 1, config.epochs + 1):
        losses = take_steps(model, optimizer, examples, config, seed, epoch, (0, steps), fabric, progress)
        epoch_loss = float(checked_losses(losses, fabric, f"epoch {epoch}", config).mean())
        yield Epoch(epoch, epoch_loss, get_state(net, optimizer))


def take_steps(
    model: Any,
    optimizer: Any,
    examples: Examples,
    config: TrainingOptions,
    seed: int,
    epoch: int,
    steps: tuple[int, int],
    fabric: "Fabric",
    progress: Any = None,
) -> Tensor:
    """Train on every example once, in the order of (seed, epoch, index).

    Args:
        model: as ``fabric.setup`` gives it.
        optimizer: as ``fabric.setup`` gives it.
        examples: to train on.
        config: batch_size, schedule, augment.
        seed: of the order and of augmentation.
        epoch: the one that is trained, from 1.
        steps: of this epoch, how many were taken before, and how many there are.
        fabric: device, precision and processes; each process takes its share of every batch.
        progress: called with the number of examples and the loss (a tensor) after every step.

    Returns:
        The losses of the steps, (steps,): in each process the sum over its share of the batch divided by the batch's size.
    """
    batches = epoch_order(examples.index, seed, epoch).split(config.batch_size)
    losses = _replayed(model, optimizer, examples, config, (epoch, *steps), batches, fabric, progress)
    augment = (seed, epoch) if config.augment else None
    for step, positions in enumerate(batches[len(losses) :], steps[0] + len(losses)):
        optimizer.param_groups[0]["lr"] = learning_rate(config, epoch - 1 + step / steps[1])
        x, labels, index = examples.batch(positions[fabric.global_rank :: fabric.world_size], augment)
        with FastLayers():
            logits = model(channels_last(x), index)
        loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(positions)
        optimizer.zero_grad()
        fabric.backward(loss * fabric.world_size)
        optimizer.step()
        losses.append(loss.detach())
        if progress:
            progress(len(positions), losses[-1])
    return torch.stack(losses)


def _replayed(
    model: Any,
    optimizer: Any,
    examples: Examples,
    config: TrainingOptions,
    place: tuple[int, int, int],
    batches: tuple[Tensor, ...],
    fabric: "Fabric",
    progress: Any,
) -> list[Tensor]:
    """The losses of the full batches where they are replayed on the device; none elsewhere. place: epoch, steps before, steps in all."""
    replay = replay_of(model, optimizer, examples, config, fabric)
    if replay is None:
        return []
    epoch, before, count = place
    rates = [learning_rate(config, epoch - 1 + (before + step) / count) for step in range(replay.steps)]
    losses = replay.take(torch.cat(batches[: replay.steps]), torch.tensor(rates)).unbind()
    for positions, loss in zip(batches, losses if progress else (), strict=False):
        progress(len(positions), loss)
    return list(losses)


def make_optimizer(net: nn.Module, config: TrainingOptions) -> torch.optim.Optimizer:
    """SGD (or Adam) as configured."""
    assert config.lr is not None and config.momentum is not None and config.weight_decay is not None
    if config.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def learning_rate(config: TrainingOptions, progress: float) -> float:
    """Learning rate after ``progress`` epochs (a fraction counts): constant, divided at milestones, a half cosine to 0, or one cycle.

    One cycle (Smith & Topin 2019): from a 25th of the rate up to it in the first 30% of the epochs, linearly, then down to 0 by a
    half cosine.
    """
    assert config.lr is not None
    if config.schedule == "onecycle":
        rise = 0.3 * config.epochs
        if progress < rise:
            return config.lr * (0.04 + 0.96 * progress / rise)
        return config.lr * (1 + math.cos(math.pi * (progress - rise) / (config.epochs - rise))) / 2
    if config.schedule == "step":
        return config.lr / 10.0 ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * progress / config.epochs)) / 2
    return config.lr


def epoch_order(index: Tensor, seed: int, epoch: int) -> Tensor:
    """Positions in the order of one epoch: sorted by the hash of (seed, epoch, index). int64 where the index is."""
    return torch.argsort(hash64(index, seed, "order", epoch))


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions are fast in; anything else as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def get_state(net: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """Weights and the optimiser's tensors under flat names, ready for safetensors; copies."""
    tensors = {f"net.{name}": value.detach().clone() for name, value in net.state_dict().items()}
    named = {id(parameter): name for name, parameter in net.named_parameters()}
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{slot}.{named[id(parameter)]}"] = value.detach().clone()
    return tensors


def load_state(net: nn.Module, optimizer: Any, state: dict[str, Tensor]) -> None:
    """Undo ``get_state``. The tensors may lie on any device."""
    net.load_state_dict({name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")})
    parameters = dict(net.named_parameters())
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, slot, parameter = name.split(".", 2)
            optimizer.state[parameters[parameter]][slot] = value.to(parameters[parameter].device).clone()


def checked_losses(losses: Tensor, fabric: "Fabric", where: str, config: TrainingOptions) -> Tensor:
    """The losses of the steps, over all processes. Raises UnseenError for one that is not finite; ``where``: the epoch, in words."""
    if fabric.world_size > 1:
        losses = fabric.all_reduce(losses, reduce_op="sum")  # type: ignore[assignment]
    bad = (~losses.isfinite()).nonzero().flatten()
    if len(bad):
        raise UnseenError(
            f"The loss became {losses[bad[0]].item()} in {where}, batch {int(bad[0]) + 1} of {len(losses)}. Training stopped; "
            f"what was finished before is kept. Lower the learning rate (--lr {config.lr:g} now), or use --precision 32."
        )
    return losses
