"""Members: many networks trained at once on the same batches, each on its own share of the examples.

Feldman & Zhang, *What Neural Networks Memorize and Why* (2020), retrain on random subsets and compare, for every
example, the networks that had it with those that had not. Here membership enters as a loss weight alone, so K members
see the same batches in the same order, and all their forward passes are one. Networks that are MLPs become one wide
product (all first layers at once) and batched products; any other goes through ``torch.func``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.masks import hash64
from unseen.models import build
from unseen.runs import Config
from unseen.train import epoch_order, learning_rate, make_fabric, make_optimizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WEIGHTS_AT_ONCE = {"cpu": 2_000_000, "cuda": 400_000_000}  # on a CPU, weights, momenta and gradients stay in its cache


def membership(index: Tensor, seed: int, members: int, fraction: float) -> Tensor:
    """Which members learn from which examples: a function of (seed, members, fraction, index).

    Each example is in exactly round(fraction * members) members, those whose hash of it is smallest; every such choice is
    equally likely, and independent of the other examples'.

    Args: index, int64 (n,). members: how many, at least 2. fraction: share of the members that learn from an example.

    Returns bool (members, n). Raises UnseenError unless every example has a member with it and one without.

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


class Members(nn.Module):
    """K networks of one architecture: ``members(x)`` gives the logits of all, (K, batch, classes).

    Args: nets: equal but for their weights. They are copied: parameters of this module are theirs, stacked, (K, ...).
    wide: the fast path of MLPs; None takes it where it applies (Flatten, Linear and ReLU in turn, Linear last).

    Buffers (running statistics) are stacked too. A batch norm mixes the examples of a batch, so a member's statistics come
    from examples outside it also.
    """

    def __init__(self, nets: Sequence[nn.Module], wide: bool | None = None) -> None:
        super().__init__()
        self.layers = _mlp_layers(nets[0]) if wide is not False else None
        if wide and not self.layers:
            raise UnseenError(f"{type(nets[0]).__name__} is not a plain MLP, so its members have no wide form. Leave `wide` out.")
        self.shell = [nets[0]]  # in a list: its weights are not this module's
        weights, buffers = torch.func.stack_module_state(list(nets))
        self.names, self.buffer_names = list(weights), list(buffers)
        self.weights = nn.ParameterList([nn.Parameter(value.detach()) for value in weights.values()])
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", "-"), value)

    def __len__(self) -> int:
        """How many networks, K."""
        return len(self.weights[0])

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (batch, ...) to logits (K, batch, classes)."""
        if self.layers:
            return self._wide(x.flatten(1).T)
        buffers = {name: getattr(self, name.replace(".", "-")) for name in self.buffer_names}
        call = lambda weights, state: torch.func.functional_call(self.shell[0], (weights, state), (x,))
        logits: Tensor = torch.vmap(call, randomness="different")(dict(zip(self.names, self.weights, strict=True)), buffers)
        return logits

    def _wide(self, h: Tensor) -> Tensor:
        """Examples are columns: a weight times a column-major batch is the fastest layout of both passes."""
        weights = dict(zip(self.names, self.weights, strict=True))
        assert self.layers is not None
        for number, name in enumerate(self.layers):
            weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
            if number == 0:
                h = (weight.flatten(0, 1) @ h).view(len(self), weight.shape[1], -1)
            else:
                h = weight @ F.relu(h)
            h = h if bias is None else h + bias[..., None].to(h.dtype)
        return h.mT

    def member(self, number: int) -> dict[str, Tensor]:
        """The ``state_dict`` of one network."""
        values = {name: value[number].detach() for name, value in zip(self.names, self.weights, strict=True)}
        return values | {name: getattr(self, name.replace(".", "-"))[number] for name in self.buffer_names}


def _mlp_layers(net: nn.Module) -> list[str] | None:
    """Names of the linear layers if the network is Flatten (or nothing), Linear, ReLU, ..., Linear; else None."""
    if not isinstance(net, nn.Sequential):
        return None
    parts = [(name, module) for name, module in net.named_children() if not isinstance(module, nn.Flatten | nn.Identity)]
    kinds = [nn.Linear, nn.ReLU] * (len(parts) // 2) + [nn.Linear]
    if len(parts) % 2 == 0 or [type(module) for _, module in parts] != kinds:
        return None
    return [name for name, module in parts if isinstance(module, nn.Linear)]


@dataclass(frozen=True)
class Pass:
    """What ``train_members`` yields after an epoch.

    Args:
        number: of the epoch, from 1. members: the networks as they are now.
        losses: float32 (K, n) on the CPU, nats: of each example when its batch came up, before the step; by all members.
        unseen_probabilities: float32 (n, classes): mean softmax of the members without the example, at the same moment.
    """

    number: int
    members: Members
    losses: Tensor
    unseen_probabilities: Tensor


def train_members(
    members: Members, examples: Examples, config: Config, member: Tensor, seed: int, fabric: "Fabric | None" = None
) -> Iterator[Pass]:
    """Train all members on the same batches and yield after every epoch.

    The loss of member k on a batch B is sum over i in B of w[k,i] * loss_k(i) / max(1, sum over B of w[k,i]), w the membership: what it
    would be, had it been given only its own examples of the batch. A batch without any gives no gradient.

    Args:
        members: see ``new_members``; trained in place. examples: all of them, in an order that depends on ``seed``.
        config: epochs, batch_size, optimizer, schedule, augment. member: bool (K, n). fabric: device and precision.

    Raises UnseenError for a loss that is not finite, naming epoch, batch and member.
    """
    fabric = fabric or make_fabric(1, config.precision)
    examples, member = examples.to(fabric.device), member.to(fabric.device)
    members.to(fabric.device).train()
    optimizer = make_optimizer(members, config)
    optimizer.param_groups[0]["fused"] = True  # one pass over weights, momenta and gradients
    steps = -(-len(examples) // config.batch_size)
    for epoch in range(1, config.epochs + 1):
        seen = _Observed(len(members), len(examples), len(examples.classes), fabric.device)
        for step, positions in enumerate(epoch_order(examples.index, seed, epoch).split(config.batch_size)):
            optimizer.param_groups[0]["lr"] = learning_rate(config, epoch - 1 + step / steps)
            x, labels, _ = examples.batch(positions, (seed, epoch) if config.augment else None)
            with fabric.autocast():
                logits = members(x)
            inside = member[:, positions.to(fabric.device)]
            losses = seen.losses_of(logits.float(), labels, positions, inside)
            weights = inside.float()
            optimizer.zero_grad()
            ((losses * weights).sum(1) / weights.sum(1).clamp_min(1)).sum().backward()
            optimizer.step()
        yield seen.checked(epoch, members, config)


class _Observed:
    """What an epoch shows of every example while the members train."""

    def __init__(self, members: int, examples: int, classes: int, device: torch.device) -> None:
        self.losses = torch.zeros(members, examples, device=device)
        self.probabilities = torch.zeros(examples, classes, device=device)
        self.batches: list[Tensor] = []

    def losses_of(self, logits: Tensor, labels: Tensor, positions: Tensor, inside: Tensor) -> Tensor:
        """Losses (K, batch) of logits (K, batch, classes), noted down together with what the outsiders predict."""
        log_probabilities = logits.log_softmax(2)
        losses = -log_probabilities.gather(2, labels.expand(len(logits), -1)[..., None]).squeeze(2)
        outside = (~inside).float()
        with torch.no_grad():
            positions = positions.to(losses.device)
            self.losses[:, positions] = losses.detach()
            sums = torch.einsum("kb,kbc->bc", outside, log_probabilities.exp())
            self.probabilities[positions] = sums / outside.sum(0).clamp_min(1)[:, None]
        return losses

    def checked(self, number: int, members: Members, config: Config) -> Pass:
        """The epoch. Raises UnseenError where a loss was not finite."""
        bad = (~self.losses.isfinite()).nonzero()
        if len(bad):
            raise UnseenError(
                f"The loss of member {int(bad[0, 0])} became {self.losses[tuple(bad[0])].item()} in epoch {number}. Training stopped; "
                f"chunks of members finished before are kept. Lower the learning rate (--lr {config.lr:g} now), or use --precision 32."
            )
        return Pass(number, members, self.losses.cpu(), self.probabilities.cpu())


def new_members(config: Config, examples: Examples, seeds: Sequence[int], model: nn.Module | None = None, wide: bool | None = None) -> Members:
    """Fresh members of the configured model, each as it would be made alone under its seed.

    model: a network of your own; every module in it that can (``reset_parameters``) starts anew under the seed.
    """
    return Members([_fresh(config, examples, seed, model) for seed in seeds], wide)


def _fresh(config: Config, examples: Examples, seed: int, model: nn.Module | None) -> nn.Module:
    import copy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model is None:
            return build(config.model, examples.shape, len(examples.classes), config.hidden, config.width, config.output_bias)
        net = copy.deepcopy(model)
        for module in net.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return net


@torch.no_grad()
def members_losses(members: Members, examples: Examples, fabric: "Fabric | None" = None, batch_size: int = 512) -> Tensor:
    """Losses of all members on all examples as they are now, nats: float32 (K, n) on the CPU."""
    members.eval()
    losses = torch.zeros(len(members), len(examples))
    for positions in torch.arange(len(examples)).split(batch_size):
        x, labels, _ = examples.batch(positions)
        with fabric.autocast() if fabric else nullcontext():
            logits = members(x).float()
        losses[:, positions] = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(members)), reduction="none").view(len(members), -1).cpu()
    members.train()
    return losses
