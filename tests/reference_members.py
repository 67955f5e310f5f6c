"""Slow, obvious twins of ``members.py``: one network after the other."""

import torch
from torch.nn import functional as F

from unseen.training.loop import epoch_order, learning_rate, make_optimizer


def train_one(net, examples, config, inside, seed):
    """Train one network by a loss that weighs each example with its membership; its losses on the way (epochs, n)."""
    optimizer = make_optimizer(net, config)
    steps = -(-len(examples) // config.batch_size)
    history = torch.zeros(config.epochs, len(examples))
    for epoch in range(1, config.epochs + 1):
        for step, positions in enumerate(epoch_order(examples.index, seed, epoch).split(config.batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch - 1 + step / steps)
            x, labels, _ = examples.batch(positions, (seed, epoch) if config.augment else None)
            losses = F.cross_entropy(net(x), labels, reduction="none")
            history[epoch - 1, positions] = losses.detach()
            weights = inside[positions].float()
            optimizer.zero_grad()
            ((weights * losses).sum() / max(float(weights.sum()), 1.0)).backward()
            optimizer.step()
    return history


@torch.no_grad()
def losses_of(net, examples):
    x, labels, _ = examples.batch(torch.arange(len(examples)))
    return F.cross_entropy(net(x), labels, reduction="none")
