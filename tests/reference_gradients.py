"""Twins of the gradient statistics: every per-example gradient formed, by vmap or one at a time."""

import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from unseen import TurnOverNet


def gradients(net, x, labels, index):
    """All per-example gradients as one matrix (n, parameters), by vmap(grad)."""
    net.eval()
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def loss(values, x, label, index):
        inputs = (x[None], index[None], "seen") if isinstance(net, TurnOverNet) else (x[None],)
        return F.cross_entropy(functional_call(net, values, inputs), label[None])

    found = vmap(grad(loss), (None, 0, 0, 0))(parameters, x, labels, index)
    return torch.cat([rows.flatten(1) for rows in found.values()], 1)


def gradients_one_by_one(net, x, labels, index):
    """The same by one backward pass per example, for layers that vmap cannot take."""
    rows = []
    for i in range(len(x)):
        inputs = (x[i : i + 1], index[i : i + 1], "seen") if isinstance(net, TurnOverNet) else (x[i : i + 1],)
        loss = F.cross_entropy(net.eval()(*inputs), labels[i : i + 1])
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in found]))
    return torch.stack(rows)


def cosine(left, right):
    return float(left @ right / (left.norm() * right.norm()))


def cosine_similarity(rows):
    """Equation 3, pair by pair."""
    pairs = [cosine(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return sum(pairs) / len(pairs)


def cosine_between(left, right):
    pairs = [cosine(a, b) for a in left for b in right]
    return sum(pairs) / len(pairs)


def contributions(rows, batch_rows):
    """Equation 4."""
    step = batch_rows.mean(0)
    return torch.stack([row @ step / step.norm() for row in rows])


def coherence(rows):
    """Mean inner product of all pairs, i = j too, over the mean squared norm."""
    return float((rows @ rows.T).mean() / rows.square().sum(1).mean())


def variance(rows):
    return float(rows.var(0).sum())
