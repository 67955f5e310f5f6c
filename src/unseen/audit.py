"""What both halves share: the leak of a training step on an example into its unseen half."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.turnover import CHILD, TurnOver, TurnOverNet


@dataclass(frozen=True)
class Leak:
    """One parameter's part of the leak.

    inner_product: mean over the examples of |<dL_seen/dp, dL_unseen/dp>|, in nats^2 per squared unit of p.
    share: its share of the sum over all parameters, 0 to 1 (0 where nothing leaks at all).
    """

    parameter: str
    inner_product: float
    share: float


def audit(net: TurnOverNet, x: Tensor, labels: Tensor, index: Tensor) -> list[Leak]:
    r"""Measure, per parameter, how far training on an example changes its own unseen half.

    To first order a step on z with learning rate :math:`\eta` changes the unseen half's loss on z by
    :math:`-\eta \langle \nabla L(f^{m}, z), \nabla L(f^{\tilde m}, z) \rangle`. Where every hidden layer is
    masked the two gradients have no parameter in common, and the product is exactly 0.0, but for parameters
    behind or outside the masks (the output bias, an unmasked layer, a norm's affine).

    Args:
        net: with masks. x: inputs (n, ...). labels: int64 (n,). index: int64 (n,). A handful of examples is enough.

    Returns a ``Leak`` per parameter, in the order of the parameters. Costs 2n passes forward and backward.
    """
    names = [name for name, parameter in net.net.named_parameters() if parameter.requires_grad]
    parameters = [parameter for parameter in net.net.parameters() if parameter.requires_grad]
    training = net.training
    net.eval()  # a batch of one has no batch statistics
    totals = torch.zeros(len(names), dtype=torch.float64)
    for i in range(len(x)):
        grads = []
        for side in ("seen", "unseen"):
            loss = F.cross_entropy(net(x[i : i + 1], index[i : i + 1], side), labels[i : i + 1])
            grads.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        for p, (seen, unseen) in enumerate(zip(*grads, strict=True)):
            if seen is not None and unseen is not None:
                totals[p] += torch.dot(seen.flatten().double(), unseen.flatten().double()).abs().cpu()
    net.train(training)
    totals /= len(x)
    shares = totals / totals.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return [Leak(name, float(leak), float(share)) for name, leak, share in zip(names, totals, shares, strict=True)]


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
        return f"{owner_name!r} carries its state past any mask; use one that can be masked, or read the scores with care"
    masked = any(isinstance(module, TurnOver) for module in (getattr(owner, CHILD, None),))
    where = "what comes before it" if masked else f"{owner_name or parameter!r}"
    return f"mask {where} (attach without only= and skip=, or name the place: attach(net, places=[Place(...)]))"


def _batch_norm_note(net: nn.Module) -> str:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()):
        return " Batch statistics mix the examples of a batch, which this audit does not see: prefer a norm without them."
    return ""
