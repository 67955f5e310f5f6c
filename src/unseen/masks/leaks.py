"""What both halves share: the leak of a training step on an example into its unseen half."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.errors import UnseenError
from unseen.masks.norms import FrozenBatchNorm
from unseen.masks.outputs import evaluating
from unseen.masks.turnover import CHILD, Inputs, Side, TurnOver, TurnOverNet, batch_size, on_rows

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Leak:
    """One parameter's part of the leak.

    inner_product: mean over the examples of |<dL_seen/dp, dL_unseen/dp>|, in nats^2 per squared unit of p.
    share: its share of the sum over all parameters, 0 to 1 (0 where nothing leaks at all).
    of_step: inner product over the whole seen gradient's squared norm: of what a step changes in the seen half, the part that
        reaches the unseen half through this parameter.
    """

    parameter: str
    inner_product: float
    share: float
    of_step: float = 0.0


def audit(net: TurnOverNet, x: Inputs, labels: Tensor, index: Tensor, loss: Loss = F.cross_entropy) -> list[Leak]:
    r"""Measure, per parameter, how far training on an example changes its own unseen half.

    To first order a step on z with learning rate :math:`\eta` changes the unseen half's loss on z by
    :math:`-\eta \langle \nabla L(f^{m}, z), \nabla L(f^{\tilde m}, z) \rangle`. Where every hidden layer is
    masked the two gradients have no parameter in common, and the product is exactly 0.0, but for parameters
    behind or outside the masks (the output bias, an unmasked layer, a norm's affine).

    Args:
        net: with masks.
        x: inputs (n, ...). A handful of examples is enough.
        labels: int64 (n,).
        index: int64 (n,).
        loss: of logits and labels.

    Returns:
        A ``Leak`` per parameter, in the order of the parameters. Costs 2n passes forward and backward. What goes from example to example
        through a batch's statistics it cannot see: ``leak_of_a_step`` does.

    Raises:
        UnseenError: where a mask stands on the logits.
    """
    names = [name for name, parameter in net.net.named_parameters() if parameter.requires_grad]
    parameters = [parameter for parameter in net.net.parameters() if parameter.requires_grad]
    totals, steps = torch.zeros(len(names), dtype=torch.float64), 0.0
    with evaluating(net):  # a batch of one has no batch statistics
        for i in range(len(index)):
            one_row = on_rows(partial(_row, i), x)
            seen, unseen = _gradients(net, one_row, labels[i : i + 1], index[i : i + 1], parameters, loss)
            for p, (one, other) in enumerate(zip(seen, unseen, strict=True)):
                if one is not None and other is not None:
                    totals[p] += torch.dot(one.flatten().double(), other.flatten().double()).abs().cpu()
                steps += float(one.double().square().sum()) if one is not None else 0.0
    tiny = torch.finfo(torch.float64).tiny
    shares, of_step = totals / totals.sum().clamp_min(tiny), totals / max(steps, tiny)
    columns = zip(names, totals / len(index), shares, of_step, strict=True)
    return [Leak(name, float(leak), float(share), float(part)) for name, leak, share, part in columns]


def _row(number: int, rows: Tensor) -> Tensor:
    return rows[number : number + 1]


def _gradients(
    net: TurnOverNet, x: Inputs, labels: Tensor, index: Tensor, parameters: list[nn.Parameter], loss: Loss
) -> list[tuple[Tensor | None, ...]]:
    """Of both halves' losses on one example."""
    grads: list[tuple[Tensor | None, ...]] = []
    for side in (Side.SEEN, Side.UNSEEN):
        logits = net(x, index, side)
        _check_logits(net, x, logits)
        grads.append(torch.autograd.grad(loss(logits, labels), parameters, allow_unused=True))
    return grads


def leak_of_a_step(
    net: TurnOverNet, x: Inputs, labels: Tensor, index: Tensor, lr: float = 0.01, loss: Loss = F.cross_entropy, examples: int = 8
) -> float:
    r"""The part of what training on an example changes that reaches its unseen half: by doing it, batch statistics and all.

    One SGD step with the batch, and one with the batch less example z:
    :math:`\sum_z |\Delta L(f^{\tilde m}, z)| / \sum_z |\Delta L(f^m, z)|`,
    both measured in evaluation, as scores are. 0 is perfect separation, 1 none.

    Args:
        net: as ``audit``, a batch of at least two.
        x: see ``net``.
        labels: see ``net``.
        index: see ``net``.
        lr: of the step.
        examples: the first so many are left out in turn. The net stays as it is. Costs a training step and two passes per example, in
            float64.
    """
    rows = batch_size(x)
    whole = _after_a_step(net, x, labels, index, lr, loss)
    changes = torch.zeros(2, dtype=torch.float64)
    for z in range(min(examples, rows)):
        others = torch.arange(rows) != z
        without = _after_a_step(net, on_rows(lambda value: value[others], x), labels[others], index[others], lr, loss)  # noqa: B023
        one = (_doubled(on_rows(lambda value: value[z : z + 1], x)), labels[z : z + 1], index[z : z + 1])  # noqa: B023
        for s, side in enumerate((Side.SEEN, Side.UNSEEN)):
            with torch.no_grad():
                after = [loss(model(one[0], one[2], side), one[1]) for model in (whole, without)]
            changes[s] += float((after[0] - after[1]).abs())
    return float(changes[1] / changes[0].clamp_min(torch.finfo(torch.float64).tiny))


def _after_a_step(net: TurnOverNet, x: Inputs, labels: Tensor, index: Tensor, lr: float, loss: Loss) -> TurnOverNet:
    twin = copy.deepcopy(net).double().eval()  # no dropout: its noise is not the example's
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    total = loss(twin(_doubled(x), index, "seen"), labels) * len(index)  # a sum, so that the others' part is the same without z
    parameters = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(total, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                parameter.sub_(lr * grad)
    return twin.eval()


def _doubled(x: Inputs) -> Inputs:
    return on_rows(lambda value: value.double() if value.is_floating_point() else value, x)


def _check_logits(net: TurnOverNet, x: Inputs, logits: Tensor) -> None:
    none = (logits == 0).all(0)
    if logits.shape[-1] > 1 and bool(none.any() and (logits != 0).any() and (net(x)[:, none] != 0).any()):  # a column may be 0 by design
        raise UnseenError(
            f"Logits of {type(net.net).__name__} are masked: its output layer is not the last one registered. "
            "Name it: TurnOverNet(net, output=NAME)."
        )


def advice(net: TurnOverNet, leaks: Sequence[Leak]) -> str:
    """One sentence: what leaks, how much of it, and what to change."""
    leaking = sorted((leak for leak in leaks if leak.share > 0), key=lambda leak: -leak.share)
    note = _batch_norm_note(net.net)
    if not leaking:
        return "Nothing is shared: training on an example cannot change its unseen half (to first order)." + note
    held = ", ".join(f"{leak.parameter} ({leak.share:.1%})" for leak in leaking[:3])
    others = f" and {len(leaking) - 3} more" if len(leaking) > 3 else ""
    remedies = "; ".join(dict.fromkeys(_remedy(net.net, leak.parameter) for leak in leaking[:3]))
    return f"Both halves share {held}{others}: {remedies}.{note}"


def _remedy(net: nn.Module, parameter: str) -> str:
    owner_name, _, kind = parameter.rpartition(".")
    owner = net.get_submodule(owner_name)
    layers = [name for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    if kind == "bias" and layers and owner_name == layers[-1]:
        return "the output bias serves both halves; build the model without it (--no-output-bias) to share nothing"
    if "norm" in type(owner).__name__.lower():
        return f"mask behind {owner_name!r} too, or build it without affine parameters"
    if isinstance(owner, nn.RNNBase):
        return f"{owner_name!r} carries its state past any mask; unseen.convert_recurrent(net) before attaching masks that too"
    masked = isinstance(getattr(owner, CHILD, None), TurnOver)
    where = "what comes before it" if masked else f"{owner_name or parameter!r}"
    return f"mask {where} (attach without only= and skip=, or name the place: attach(net, places=[Place(...)]))"


def _batch_norm_note(net: nn.Module) -> str:
    kinds = nn.modules.batchnorm._BatchNorm
    if any(isinstance(module, kinds) and not isinstance(module, FrozenBatchNorm) for module in net.modules()):
        return (
            " Batch statistics mix the examples of a batch, which this audit does not see (leak_of_a_step does): "
            "unseen.convert_batch_norm(net) before attaching keeps them apart."
        )
    return ""
