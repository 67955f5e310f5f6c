"""Influence by members: what networks that had an example say of a query, against networks that had not."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unseen.attribution.queries import Queries
from unseen.attribution.ranking import Extremes, extremes, joined
from unseen.data import Examples
from unseen.training import Members, channels_last


@torch.no_grad()
def members_influence(members: Members, member: Tensor, queries: Queries, some: Tensor) -> Tensor:
    r"""Influence of every training example on the queries at ``some``: float32 (queries, train), nats, positive = training on it helps.

    .. math:: \text{mean over members without } i \text{ of } L_k(q) - \text{mean over members with } i \text{ of } L_k(q)

    Cost: one forward pass of each member per query, and one matrix product.

    Args:
        members: the K networks.
        member: who trained on what, bool (K, train).
        queries: all of them.
        some: positions of the queries to take, int64.
    """
    x, labels = queries.batch(some)
    logs = members(channels_last(x)).float().log_softmax(2)
    losses = -logs.gather(2, labels.expand(len(logs), -1)[..., None]).squeeze(2)  # (K, queries)
    inside = member.to(losses)
    weights = (1 - inside) / (1 - inside).sum(0) - inside / inside.sum(0)
    influence: Tensor = losses.T @ weights
    return influence


def top_by_members(crowds: Sequence[tuple[Members, Tensor]], train: Examples, queries: Queries, top: int, memory_gib: float) -> Extremes:
    """The training examples that help and hurt each query most, by members; mean over the seeds.

    Args:
        crowds: of each seed the members and who trained on what, bool (K, train).
        train: the training examples.
        queries: what is asked.
        top: how many on either side.
        memory_gib: ceiling for what this adds to memory.
    """
    found = []
    for some in torch.arange(len(queries)).split(max(1, int(memory_gib * 2**30 // (12 * len(train))))):
        means = torch.stack([members_influence(*crowd, queries, some) for crowd in crowds]).mean(0)
        found.append(extremes([(train.index, means)], top))
    return joined(found)
