r"""A network's own last hidden features, and what a ridge head on them would say of each example had it never seen it.

After an epoch, with features h of the layer before the logits and the closed form of ``head.py``:

.. math:: \text{head\_loss} = L(f^{-i}(h_i), y_i), \qquad \text{head\_memorization} = L(f^{-i}(h_i), y_i) - L(f(h_i), y_i)

It is equation 6 of the last layer alone, exactly, without masks and without training again; the features themselves have seen the
example. The Memory-Perturbation Equation (Nickl et al. 2023) is its kin. Means over epochs say more than the last epoch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unseen.data import Examples
from unseen.masks import evaluating, logits_of
from unseen.training.head import chosen, solve
from unseen.training.sums import ROWS, Sums

SHARE = 0.03  # of the products of an epoch's training that a head may cost
WEIGHT = 32  # four products of two units in float64, each as long as eight in bfloat16 (measured on a CPU that multiplies bfloat16)
FEWEST = 64  # units that a head always has
CHOICE = 2048  # examples that choose the ridge and the scale
HEAD_SCORES = ("head_loss", "head_memorization")  # what ``head_scores`` gives
RIDGES = tuple(10.0**power for power in range(-4, 3))  # times the mean eigenvalue of X'X
NO_LINEAR = "The logits come from no linear layer of the network, so there is no head_memorization."


@dataclass(frozen=True)
class Output:
    """The linear layer whose output is the network's logits.

    Attributes:
        name: of the layer in the network.
        units: which of its inputs a head takes, int64 (k,): all, or of wide layers some, evenly spread.
    """

    name: str
    units: Tensor


def find_output(net: nn.Module, x: Tensor) -> Output | None:
    """The layer that a head takes the place of, found by calling the network once; None where no linear layer gives the logits.

    Args:
        net: without masks; called as ``net(x)``, in evaluation.
        x: a few inputs (n, ...).
    """
    layers = Layers(net)
    try:
        with evaluating(net), torch.no_grad():
            return layers.output(logits_of(net(x)))
    finally:
        layers.remove()


class Layers:
    """What the layers of a network gave at its last forward, from when it is made until ``remove``.

    Args:
        net: any module.
    """

    def __init__(self, net: nn.Module) -> None:
        self.linear: dict[str, tuple[Tensor, Tensor]] = {}
        self.products: dict[str, int] = {}
        named = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
        self.handles = [module.register_forward_hook(partial(self._note, name)) for name, module in named]

    def _note(self, name: str, module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.products[name] = output.numel() * module.weight[0].numel()
        if isinstance(module, nn.Linear):
            self.linear.pop(name, None)  # so that the last one called stands last
            self.linear[name] = (inputs[0].detach(), output.detach())

    def output(self, logits: Tensor) -> Output | None:
        """The linear layer that gave these logits (n, classes), and as many of its units as a head may have.

        Products of a training step are three times those of its forward, in linear layers and convolutions; those of a head of k units take
        ``WEIGHT`` k² of them an example. So k is at most √(3 · ``SHARE`` · products / ``WEIGHT``), and ``FEWEST`` at least.
        """
        name = next((name for name, (_, out) in reversed(self.linear.items()) if gives(out, logits)), None)
        if name is None:
            return None
        width, most = self.linear[name][0].shape[1], math.isqrt(int(3 * SHARE * sum(self.products.values()) / len(logits) / WEIGHT))
        return Output(name, _spread(width, min(width, max(FEWEST, most))))

    def remove(self) -> None:
        """Look no more."""
        for handle in self.handles:
            handle.remove()
        self.linear, self.handles = {}, []


def gives(output: Tensor, logits: Tensor) -> bool:
    """Whether the logits (n, classes) are this output of a layer, or of two classes its one column behind a zero."""
    if output.dim() != 2 or len(output) != len(logits):
        return False
    if output.data_ptr() == logits.data_ptr():
        return output.shape == logits.shape
    found, wanted = output.float(), logits.to(output.device).float()
    return torch.equal(found, wanted) or (output.shape[1] == 1 and torch.equal(found, wanted[:, -1:]))


def _spread(width: int, count: int) -> Tensor:
    return torch.arange(count) * width // count


class Hidden:
    """What goes into the output layer at the last forward.

    Args:
        output: see ``find_output``.
    """

    def __init__(self, output: Output) -> None:
        self.output, self.rows = output, torch.zeros(0, 0)

    @contextmanager
    def of(self, net: nn.Module) -> Iterator["Hidden"]:
        """Look at each forward of the network (not its ``TurnOverNet``) for the length of a block, behind masks on the layer's input."""
        handle = net.get_submodule(self.output.name).register_forward_pre_hook(self._keep)
        try:
            yield self
        finally:
            handle.remove()
            self.rows = torch.zeros(0, 0)

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.rows = inputs[0].detach()

    @property
    def features(self) -> Tensor:
        """Of the last forward, float32 (rows, k)."""
        return self.rows[:, self.output.units.to(self.rows.device)].float()


@torch.no_grad()
def head_scores(features: Tensor, labels: Tensor, trained: Tensor, classes: int) -> dict[str, Tensor]:
    """Leave-one-out of a ridge head on features of any network.

    Args:
        features: (n, k), on any device.
        labels: int64 (n,).
        trained: bool (n,): whom the head learns from. The others it never saw: their loss is that of the head as it is.
        classes: how many.

    Returns:
        float32 (n,) on the CPU in nats: head_loss, without the example; head_memorization, that less the loss with it. Nothing where fewer
        than two examples are trained, or all features are the same.
    """
    labels, trained = labels.to(features.device), trained.to(features.device)
    own, given = features[trained], labels[trained]
    if len(given) < 2:
        return {}
    head = solve(Sums.empty(own.shape[1], classes, own.new_zeros(own.shape[1])).add(own, given))
    if not bool((head.values > 0).any()):
        return {}
    some = torch.arange(0, len(given), -(-len(given) // CHOICE))
    head = chosen(head, [(own[some], given[some])], ridges=RIDGES)
    parts = [_losses(head, *chunk) for chunk in zip(*(value.split(ROWS) for value in (features, labels, trained)), strict=True)]
    loss, gap = (torch.cat(column) for column in zip(*parts, strict=True))
    return dict(zip(HEAD_SCORES, (loss, gap), strict=True))


def _losses(head: Any, features: Tensor, labels: Tensor, trained: Tensor) -> tuple[Tensor, Tensor]:
    found = head.predict(features, labels)
    seen, unseen = found.loss("seen"), found.loss("unseen")
    loss = torch.where(trained, unseen, seen)
    return loss.float().cpu(), (loss - seen).float().cpu()


def first_batch(examples: Examples, rows: int = 4) -> Tensor:
    """A few inputs to look at a network with."""
    return examples.batch(torch.arange(min(rows, len(examples))))[0]
