"""Members: many networks trained at once on the same batches, each on its own share of the examples.

Feldman & Zhang, *What Neural Networks Memorize and Why* (2020), retrain on random subsets and compare, for every
example, the networks that had it with those that had not. Here membership enters as a loss weight alone, so K members
see the same batches in the same order, and all their forward passes are one. Networks that are MLPs become one wide
product (all first layers at once) and batched products; any other goes through ``torch.func``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.config import Config, NetworkOptions, TrainingOptions
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.hashing import hash64
from unseen.masks import Side, evaluating
from unseen.training.convolutions import FastLayers
from unseen.training.loop import channels_last, epoch_order, get_state, learning_rate, load_state, make_optimizer
from unseen.training.networks import Members, new_network
from unseen.training.processes import make_fabric
from unseen.training.wide import WideSteps, fits

if TYPE_CHECKING:
    from lightning_fabric import Fabric


DEEP = ("vgg11", "resnet10")  # whose widths have a factor
NARROWEST = 0.125  # of their widths
WIDEST = 128  # units of the estimator's members: more and narrower members did better than fewer and wider ones, down to this, not below
STEPS = 600  # of the estimator's members at least, where the network takes as many: fewer did not fit the wrong labels
OBSERVED = ("loss", "margin", "correct", "error_norm", "probability")


def membership(index: Tensor, seed: int, members: int, fraction: float) -> Tensor:
    """Which members learn from which examples: a function of (seed, members, fraction, index).

    Each example is in exactly round(fraction * members) members, those whose hash of it is smallest; every such choice is
    equally likely, and independent of the other examples'.

    Args:
        index: of the examples, int64 (n,).
        seed: of the choice.
        members: how many, at least 2.
        fraction: share of the members that learn from an example.

    Returns:
        bool (members, n).

    Raises:
        UnseenError: unless every example has a member with it and one without.

    >>> import torch
    >>> membership(torch.arange(3), seed=0, members=10, fraction=0.7).sum(0)
    tensor([7, 7, 7])
    """
    inside = round(fraction * members)
    if not 0 < inside < members:
        raise UnseenError(
            f"A fraction of {fraction:g} puts each example into {inside} of {members} members; at least one must learn from it "
            "and one must not. Use more members, or a fraction nearer to one half."
        )
    result = torch.zeros(members, len(index), dtype=torch.bool)
    for some in torch.arange(len(index)).split(65536):
        hashes = torch.stack([hash64(index[some].cpu(), seed, "member", member) for member in range(members)])
        result[:, some] = result[:, some].scatter(0, hashes.argsort(0)[:inside], True)
    return result


@dataclass(frozen=True)
class Pass:
    """What ``train_members`` yields after an epoch.

    Args:
        number: of the epoch, from 1.
        losses: float32 (K, n) on the CPU, nats: of each example when its batch came up, before the step; by all members.
        unseen_probabilities: float32 (n, classes): mean softmax of the members without the example, at the same moment.
        correct: bool (K, n): whose prediction was the given label, at the same moment.
        observed: float32 (n,) under ``<quantity>_<side>``: loss, margin, correct and error_norm (see ``measure.statistics``), and
            probability, that of the given label; means over the members with the example (seen), without it (unseen) and all (full), at
            the same moment. The mean of probabilities is not exp of the mean loss.
        predict: log-probabilities (K, n, classes) of the members as they are now on examples of any kind; all at once, so give it few.
        members: gives the networks as they are now.
        state: gives what ``train_members`` goes on from, bit for bit.
    """

    number: int
    losses: Tensor
    unseen_probabilities: Tensor
    correct: Tensor
    observed: dict[str, Tensor]
    predict: Callable[[Examples], Tensor]
    members: Callable[[], Members]
    state: Callable[[], dict[str, Tensor]]


def train_members(
    members: Members,
    examples: Examples,
    config: TrainingOptions,
    member: Tensor,
    seed: int,
    fabric: "Fabric | None" = None,
    wide: bool | None = None,
    lost: float = 0.0,
    state: dict[str, Tensor] | None = None,
    done: int = 0,
    shared: dict[str, Any] | None = None,
    first: int = 0,
) -> Iterator[Pass]:
    """Train all members on the same batches and yield after every epoch.

    The loss of member k on a batch B is sum over i in B of w[k,i] * loss_k(i) / max(1, sum over B of w[k,i]), w the membership: what it
    would be, had it been given only its own examples of the batch. A batch without any gives no gradient.

    Args:
        members: see ``new_members``; trained in place.
        examples: all of them, in an order that depends on ``seed``.
        config: epochs, batch_size, optimizer, schedule, augment.
        member: bool (K, n), who learns from what.
        seed: of the order of the examples and of augmentation.
        fabric: device and precision.
        wide: whether to take the fast path of ``wide.py``; default: where it applies.
        lost: share of the inputs' sum of squares that the fast path may leave out (their last principal axes) to be faster.
        state: a ``Pass.state()`` to go on from; the members must be fresh, as they were at the start.
        done: its number.
        shared: what other members on the same examples need too, by the same recipe: filled by the first of them.
        first: number of the first member among all, for messages.

    Raises:
        UnseenError: a loss that is not finite, naming epoch and member.
    """
    fabric = fabric or make_fabric(1, config.precision)
    examples, member = examples.to(fabric.device), member.to(fabric.device)
    steps = _steps(members, examples, config, fabric, wide, lost, state, shared)
    count = -(-len(examples) // config.batch_size)
    for epoch in range(done + 1, config.epochs + 1):
        seen = _Observed(len(members), len(examples), len(examples.classes), fabric.device)
        for step, positions in enumerate(epoch_order(examples.index, seed, epoch).split(config.batch_size)):
            positions = positions.to(fabric.device)
            inside = member[:, positions]
            rate = learning_rate(config, epoch - 1 + step / count)
            seen.note(steps(positions, inside, rate, (seed, epoch)), examples.labels[positions], positions, inside)
        yield seen.checked(epoch, steps, config, first)


def members_at(
    members: Members, examples: Examples, config: TrainingOptions, state: dict[str, Tensor], fabric: "Fabric", lost: float
) -> Members:
    """The members as a ``Pass.state()`` has them.

    Args:
        members: fresh, see ``new_members``.
        examples: that they were trained on.
        config: that they were trained by.
        state: a ``Pass.state()``.
        fabric: device and precision.
        lost: as it was in ``train_members``.
    """
    return _steps(members, examples.to(fabric.device), config, fabric, None, lost, state).write()


def _steps(
    members: Members,
    examples: Examples,
    config: TrainingOptions,
    fabric: "Fabric",
    wide: bool | None,
    lost: float,
    state: dict[str, Tensor] | None,
    shared: dict[str, Any] | None = None,
) -> "Steps | WideSteps":
    members.to(fabric.device).train()
    wide = fits(members.shell[0], examples, config) if wide is None else wide
    steps = WideSteps(members, examples, config, fabric, lost, shared) if wide else Steps(members, examples, config, fabric)
    if state is not None:
        steps.load(state)
    return steps


class Steps:
    """Steps of gradient descent of any K networks at once, by autograd; see ``WideSteps`` for MLPs."""

    def __init__(self, members: Members, examples: Examples, config: TrainingOptions, fabric: "Fabric") -> None:
        self.members, self.examples, self.config, self.fabric = members, examples, config, fabric
        self.optimizer = make_optimizer(members, config)
        self.optimizer.param_groups[0]["fused"] = True  # one pass over weights, momenta and gradients

    def __call__(self, positions: Tensor, inside: Tensor, rate: float, when: tuple[int, int]) -> Tensor:
        """One step on the examples at ``positions``, int64 (B,); ``inside`` bool (K, B): who learns; ``when``: (seed, epoch).

        Returns:
            Log-probabilities before the step: float32 (K, B, classes).
        """
        x, labels, _ = self.examples.batch(positions, when if self.config.augment else None)
        with self.fabric.autocast(), FastLayers():
            logits = self.members(channels_last(x))
        log_probabilities: Tensor = logits.float().log_softmax(2)
        weights = inside / inside.sum(1, keepdim=True).clamp_min(1)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        (_losses(log_probabilities, labels) * weights).sum().backward()
        self.optimizer.step()
        return log_probabilities.detach()

    @torch.no_grad()
    def predict(self, examples: Examples) -> Tensor:
        """Log-probabilities of all members, as they are now, on examples of any kind: float32 (K, n, classes)."""
        x, _, _ = examples.batch(torch.arange(len(examples)))
        with evaluating(self.members), self.fabric.autocast(), FastLayers():
            logits: Tensor = self.members(channels_last(x))
        return logits.float().log_softmax(2)

    def write(self) -> Members:
        """The members with their weights as they are now."""
        return self.members

    def state(self) -> dict[str, Tensor]:
        """Weights, buffers and the optimiser's tensors; copies."""
        return get_state(self.members, self.optimizer)

    def load(self, state: dict[str, Tensor]) -> None:
        """Undo ``state``."""
        load_state(self.members, self.optimizer, state)


def _losses(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """(K, B, classes) and (B,) to (K, B)."""
    return -log_probabilities.gather(2, labels.expand(len(log_probabilities), -1)[..., None]).squeeze(2)


class _Observed:
    """What an epoch shows of every example while the members train."""

    def __init__(self, members: int, examples: int, classes: int, device: torch.device) -> None:
        self.losses = torch.zeros(members, examples, device=device)
        self.probabilities = torch.zeros(examples, classes, device=device)
        self.sides = torch.zeros(len(Side), len(OBSERVED), examples, device=device)
        self.correct = torch.zeros(members, examples, dtype=torch.bool, device=device)

    def note(self, log_probabilities: Tensor, labels: Tensor, positions: Tensor, inside: Tensor) -> None:
        """Losses of all members, what the outsiders predict, and the means of each side."""
        losses = _losses(log_probabilities, labels)
        others = log_probabilities.scatter(2, labels.expand(len(losses), -1)[..., None], -torch.inf).amax(2)
        probabilities, own, correct = log_probabilities.exp(), (-losses).exp(), -losses > others
        norms = (probabilities.square().sum(2) - 2 * own + 1).clamp_min(0).sqrt()
        observed = torch.stack((losses, -losses - others, correct.float(), norms, own))  # (quantities, K, B)
        for side, chosen in enumerate((inside, ~inside, torch.ones_like(inside))):
            self.sides[side, :, positions] = (observed * chosen).sum(1) / chosen.sum(0).clamp_min(1)
        self.losses[:, positions], self.correct[:, positions] = losses, correct
        outside = (~inside).float()
        self.probabilities[positions] = (probabilities * outside[..., None]).sum(0) / outside.sum(0).clamp_min(1)[:, None]

    def checked(self, number: int, steps: Steps | WideSteps, config: TrainingOptions, first: int = 0) -> Pass:
        """The epoch. Raises UnseenError where a loss was not finite."""
        bad = (~self.losses.isfinite()).nonzero()
        if len(bad):
            which, value = first + int(bad[0, 0]), self.losses[tuple(bad[0])].item()
            raise UnseenError(
                f"The loss of member {which} became {value} in epoch {number}. Training stopped; chunks of members finished before are "
                f"kept. Lower the learning rate (--lr {config.lr:g} now), or use --precision 32."
            )
        names = [f"{quantity}_{side}" for side in Side for quantity in OBSERVED]
        observed = dict(zip(names, self.sides.flatten(0, 1).cpu(), strict=True))
        return Pass(
            number, self.losses.cpu(), self.probabilities.cpu(), self.correct.cpu(), observed, steps.predict, steps.write, steps.state
        )


def small(config: Config, examples: int) -> Config:
    """The recipe of the estimator's members, from that of the network they stand for: many narrow ones in large batches.

    The widths up to 128, four times the batch where that leaves ``STEPS`` steps and eight per epoch, and the learning rate times 3 for it;
    see LOG.md. Batches of about equal size: a last one of few examples, at this rate, undoes what the others did. Of vgg11 and resnet10
    half of the widths; larger batches left vgg11 untrained.
    """
    network, training = config.network, config.training
    if network.model in DEEP:
        return config.change(width=min(network.width, max(NARROWEST, network.width / 2)))
    most = max(training.batch_size, min(4 * training.batch_size, examples // 8, training.epochs * examples // STEPS))
    batch_size = math.ceil(examples / max(1, round(examples / most)))
    assert training.lr is not None
    rate = training.lr * (batch_size / training.batch_size) ** math.log(3, 4)
    hidden = tuple(min(width, WIDEST) for width in network.hidden)
    return config.change(hidden=hidden, batch_size=batch_size, lr=rate)


def new_members(network: NetworkOptions, examples: Examples, seeds: Sequence[int], model: nn.Module | None = None) -> Members:
    """Fresh members of the configured model, each as it would be made alone under its seed.

    Args:
        network: which model, and its options.
        examples: whose shape and classes the model is made for.
        seeds: one for each member.
        model: a network of your own; every module in it that can (``reset_parameters``) starts anew under the seed.
    """
    return Members([new_network(network, examples, seed, model, anew=True) for seed in seeds])


@torch.no_grad()
def members_losses(members: Members, examples: Examples, fabric: "Fabric | None" = None, batch_size: int = 512) -> Tensor:
    """Losses of all members on all examples as they are now, nats: float32 (K, n) on the CPU."""
    losses = torch.zeros(len(members), len(examples))
    with evaluating(members), fabric.autocast() if fabric else nullcontext(), FastLayers():
        for positions in torch.arange(len(examples)).split(batch_size):
            x, labels, _ = examples.batch(positions)
            logits = members(x).float()
            each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(members)), reduction="none")
            losses[:, positions] = each.view(len(members), -1).cpu()
    return losses
