"""Twins of influence and of what judges it: one pair, one example, one subset at a time."""

import torch
from scipy.stats import rankdata
from torch.nn import functional as F


@torch.no_grad()
def influence_one_by_one(net, x, labels, train_index):
    """Equation 5, a forward of either half per pair: (queries, train)."""
    found = torch.empty(len(x), len(train_index))
    for q in range(len(x)):
        for i, index in enumerate(train_index):
            losses = [F.cross_entropy(net(x[q : q + 1], index[None], side), labels[q : q + 1]) for side in ("unseen", "seen")]
            found[q, i] = losses[0] - losses[1]
    return found


def sorted_extremes(influence, index, top):
    """Top and bottom by sorting all: values and index, twice."""
    order = influence.argsort(1, descending=True)
    values, indices = influence.gather(1, order), index[order]
    return values[:, :top], indices[:, :top], values.flip(1)[:, :top], indices.flip(1)[:, :top]


def gradient(call, parameters, label):
    """One example's gradient as one vector."""
    loss = F.cross_entropy(call(), label)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])


def gradient_influence_one_by_one(net, train, queries, epochs, side="full", normalise=False):
    """TracInCP with every gradient formed; net a TurnOverNet: (queries, train)."""
    total, parameters = 0, list(net.parameters())
    for state, rate in epochs:
        net.load_state_dict(state)
        rows = {}
        for name, examples, where in (("train", train, side), ("queries", queries, "full")):
            parts = [examples.batch(torch.tensor([i])) for i in range(len(examples))]
            rows[name] = torch.stack([gradient(lambda x=x, i=i, w=where: net(x, i, w), parameters, y) for x, y, i in parts])
            if normalise:
                rows[name] = rows[name] / rows[name].norm(dim=1, keepdim=True)
        total = total + rate * rows["queries"] @ rows["train"].T
    return total


def lds_one_by_one(influence, member, losses):
    """Per query and member, in loops; Spearman as Pearson of ranks."""
    found = []
    for q in range(len(influence)):
        predicted = [sum(influence[q, i] for i in range(member.shape[1]) if inside[i]) for inside in member]
        left, right = rankdata(predicted), rankdata([-loss for loss in losses[:, q]])
        left, right = left - left.mean(), right - right.mean()
        found.append((left * right).sum() / ((left**2).sum() * (right**2).sum()) ** 0.5)
    return sum(found) / len(found)
