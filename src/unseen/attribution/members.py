"""Influence by members: what networks that had an example say of a query, against networks that had not."""

import torch
from torch import Tensor, nn

from unseen.attribution import queries as asked
from unseen.attribution.queries import Queries
from unseen.attribution.ranking import Extremes, extremes, joined
from unseen.config import Config
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.runs import Run
from unseen.training import Members, channels_last, membership, new_members, small


def saved_members(run: Run, config: Config, train: Examples, seed: int, model: nn.Module | None = None) -> Members:
    """The members of one seed of a run as they were scored. train: the examples that were trained on."""
    recipe = small(config, len(train)) if model is None else config
    members = new_members(recipe, train, range(config.members), model)
    wanted = members.weights | members.state
    tensors, _ = run.read_like(f"seed-{seed}", {f"net.{name}": value for name, value in wanted.items()})
    for name, value in wanted.items():
        value.data.copy_(tensors[f"net.{name}"])
    return members.eval()


@torch.no_grad()
def members_influence(members: Members, member: Tensor, queries: Queries, some: Tensor) -> Tensor:
    r"""Influence of every training example on the queries at ``some``: float32 (queries, train), nats, positive = training on it helps.

    .. math:: \text{mean over members without } i \text{ of } L_k(q) - \text{mean over members with } i \text{ of } L_k(q)

    One forward pass of each member per query and one matrix product. Args: member: bool (K, train), who trained on what.
    """
    x, labels = asked.batch(queries, some)
    logs = members(channels_last(x)).float().log_softmax(2)
    losses = -logs.gather(2, labels.expand(len(logs), -1)[..., None]).squeeze(2)  # (K, queries)
    inside = member.to(losses)
    weights = (1 - inside) / (1 - inside).sum(0) - inside / inside.sum(0)
    influence: Tensor = losses.T @ weights
    return influence


def top_by_members(
    run: Run, config: Config, train: Examples, queries: Queries, top: int, method: str, memory_gib: float, model: nn.Module | None
) -> Extremes:
    """Extremes of a run's members, mean over its seeds. Raises UnseenError for the method gradient, which is of one network."""
    if method == "gradient":
        raise UnseenError(f"{run.path} has many networks. --method gradient is of one: score with --estimator turnover, or leave it out.")
    crowds, device = [], train.labels.device
    for seed in range(config.seed, config.seed + config.seeds):
        member = membership(train.index, seed, config.members, config.fraction).to(device)
        crowds.append((saved_members(run, config, train, seed, model).to(device), member))
    found = []
    for some in torch.arange(asked.count(queries)).split(max(1, int(memory_gib * 2**30 // (12 * len(train))))):
        means = torch.stack([members_influence(*crowd, queries, some) for crowd in crowds]).mean(0)
        found.append(extremes([(train.index, means)], top))
    return joined(found)
