"""The networks of an audit: members that attack, and targets that are attacked, kept as one table of log-odds and no weights."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from unseen.config import Config
from unseen.data import Examples, content
from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.judge import retrain
from unseen.privacy.signals import FEWEST_MEMBERS, Shadows, Targets, log_odds_of_losses
from unseen.runs import Run


@dataclass(frozen=True)
class Plan:
    """What is trained and attacked.

    Attributes:
        members, targets: how many networks; no targets: each member in turn. share: of the records that each of them trains on.
        joined: whether members train on test records too, since the target's own records are told from these.
    """

    members: int
    targets: int
    share: float
    joined: bool

    def check(self) -> None:
        """Raise UnseenError for numbers that no attack can use."""
        fewest = FEWEST_MEMBERS if self.targets or self.joined else 6
        if self.members < fewest:
            raise UnseenError(
                f"--members is {self.members}; it must be at least {fewest}, so that two networks with and two without each record remain."
            )
        if self.targets == 1 or self.targets < 0:
            raise UnseenError(f"--held-out-targets is {self.targets}; it must be 0 (each member in turn) or at least 2.")
        inside = round(self.share * self.members)
        if not 2 <= inside <= self.members - 2:
            raise UnseenError(
                f"--fraction is {self.share:g}, which puts each record into {inside} of {self.members} members. Two must train on it and "
                "two must not: take it nearer to one half, or more --members."
            )


def networks(
    run: Run,
    config: Config,
    examples: Examples,
    plan: Plan,
    model: nn.Module | None,
    progress: Callable[[int], None] | None,
) -> tuple[Shadows, Targets | None]:
    """Members and held-out targets, from the run's file of them or trained now; float16.

    Args:
        run: where finished networks are kept.
        config: their recipe.
        examples: the records, and test examples.
        plan: how many networks.
        model: a network of the user's own.
        progress: called with the number of networks after each chunk.
    """
    name = f"privacy-{_digest(examples, config, plan, model)}"
    if not (run.path / "weights" / f"{name}.safetensors").exists():
        run.write_tensors(name, _trained(run, config, examples, plan, model, progress))
    count, records = plan.members + plan.targets, len(examples) if plan.joined else len(examples.train)
    like = {"log_odds": torch.empty(count, len(examples), device="meta"), "inside": torch.empty(count, records, device="meta")}
    tensors = {key: value.numpy() for key, value in run.read_like(name, like)[0].items()}
    tables = [(tensors["log_odds"][rows], tensors["inside"][rows]) for rows in (slice(0, plan.members), slice(plan.members, None))]
    (odds, inside), (others, theirs) = tables
    population = odds[:, records:] if odds.shape[1] > records else None
    shadows = Shadows(odds[:, :records], inside, population)
    if not plan.targets:
        return shadows, None
    return shadows, Targets(others[:, :records], theirs, others[:, records:] if population is not None else None)


def _trained(
    run: Run,
    config: Config,
    examples: Examples,
    plan: Plan,
    model: nn.Module | None,
    progress: Callable[[int], None] | None,
) -> dict[str, torch.Tensor]:
    """log_odds float16 (members and targets, training records and then the others), inside bool (the same, training records).

    Targets have memberships, weights and orders of batches of their own: members share records out evenly among themselves alone.
    """
    records = examples.joined() if plan.joined else examples
    seed = key(config.seed, "privacy", "joined") if plan.joined else config.seed  # finished chunks are known by it
    groups = [(plan.members, seed), (plan.targets, key(config.seed, "privacy", "targets"))]
    found = [
        retrain(records, config, count, plan.share, seed=seed, run=run, model=model, progress=progress) for count, seed in groups if count
    ]
    losses, inside = (torch.cat(tables) for tables in zip(*found, strict=True))
    first = torch.tensor([split == "train" for split in records.split])
    ordered = torch.cat([losses[:, first], losses[:, ~first]], 1)
    log_odds = torch.stack([torch.from_numpy(log_odds_of_losses(row.numpy())).half() for row in ordered])
    return {"log_odds": log_odds, "inside": inside}


def _digest(examples: Examples, config: Config, plan: Plan, model: nn.Module | None) -> str:
    parts = json.dumps([content(examples), config.digest(), asdict(plan), "" if model is None else repr(model)], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:8]
