"""The privacy of a run: members by its recipe, attacks on networks that are not among them, ``privacy.parquet`` and ``privacy.json``."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from unseen.config import Config
from unseen.data import Examples, content
from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.judge import retrain, spearman
from unseen.privacy.attacks import ATTACKS, attack_scores, fitted_a
from unseen.privacy.free import cumulative_loss, loss_trace_spread
from unseen.privacy.rates import AT, Rate, attack_rates, roc_curve
from unseen.privacy.records import RISKS, false_alarms, record_power, risk_classes
from unseen.privacy.signals import FEWEST_MEMBERS, Bools, Floats, Shadows, Targets, check_labels, log_odds_of_losses
from unseen.privacy.targets import Target, target_log_odds
from unseen.runs import Run
from unseen.scoring import run_examples

if TYPE_CHECKING:
    import polars as pl

RATES = {0.01: "tpr_at_1_percent", 0.001: "tpr_at_tenth_percent"}
"""Columns of the estimated true-positive rate, by the false-positive rate."""
FREE = {"loss_trace_spread": loss_trace_spread, "cumulative_loss": cumulative_loss}
OWN, HELD_OUT, IN_TURN = "your own network", "held-out networks of the same recipe", "each member, by the others"


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


def privacy_risk(
    run: Run,
    members: int = 64,
    held_out_targets: int = 8,
    target: Target | None = None,
    *,
    target_member: Any = None,
    fraction: float = 0.5,
    data_dir: str | Path | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    progress: Callable[[int], None] | None = None,
) -> "pl.DataFrame":
    """How well somebody with the network could tell that each record was in its training set.

    Members are trained by the run's recipe, each on its own random share of the records, and attack networks that are not among them
    (``attacks.ATTACKS``). Writes ``privacy.parquet``, and ``privacy.json`` with the area under each ROC and its true-positive rates.

    Args:
        run: whose recipe and records. Its scores are not needed; where it has a history, the free scores come from it.
        members: networks that attack.
        held_out_targets: networks that are attacked; 0: each member, by the others.
        target: a network of yours in place of these (see ``targets.target_log_odds``). Members then train on test records too.
        target_member: bool, a value per record, train before test: what your network trained on; default: the training split.
        fraction: share of the records that each network trains on; one half is what the papers take.
        data_dir: where data sets lie.
        data: what the run was made of, where that was not a name.
        model: the same of its network.
        progress: called with the number of networks after each chunk. A stopped call goes on where it was.

    Returns:
        A row per training record: index, id, given_label, the score of each attack (of your network; of several targets the mean over
        those that trained on the record), loss_trace_spread and cumulative_loss (where there is a history), tpr_at_1_percent and
        tpr_at_tenth_percent with the ends of their 90% intervals (_low, _high), and risk: high, raised, unclear or low
        (``records.risk_classes``).

    Raises:
        UnseenError: for too few members, a share that leaves no member with or without a record, records with a class each, and a target
            that gives no finite logits of the run's classes.
    """
    plan = Plan(members, 0 if target is not None else held_out_targets, fraction, target is not None)
    plan.check()
    config, examples = run_examples(run, data, model, data_dir)
    check_labels(examples.train.labels.cpu().numpy())
    own = _inside(target_member, examples)
    odds = None if target is None else target_log_odds(target, config, examples, model)
    with run.alone():
        shadows, targets = _networks(run, config, examples, plan, model, progress)
        if odds is not None:
            targets = Targets(odds[None], own[None])
        found = _scores(shadows, targets)
        table = _table(run, examples, shadows, targets, found)
        run.write_table("privacy", table)
        run.write_json("privacy.json", _facts(plan, shadows, targets, found, table))
    return table


def _inside(given: Any, examples: Examples) -> Bools:
    """Whom the user's network trained on: bool (records,)."""
    if given is None:
        return np.array([split == "train" for split in examples.split])
    inside = np.asarray(given)
    if inside.shape != (len(examples),) or inside.dtype != np.bool_:
        raise UnseenError(
            f"target_member has the shape {inside.shape} and type {inside.dtype}; it must be bool ({len(examples)},), train before test."
        )
    return inside


def _networks(
    run: Run, config: Config, examples: Examples, plan: Plan, model: nn.Module | None, progress: Callable[[int], None] | None
) -> tuple[Shadows, Targets | None]:
    """Members and held-out targets, from the run's file of them or trained now; float16."""
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
    run: Run, config: Config, examples: Examples, plan: Plan, model: nn.Module | None, progress: Callable[[int], None] | None
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


def _scores(shadows: Shadows, targets: Targets | None) -> dict[str, Floats]:
    """float32 (targets, records) by attack."""
    shape = (shadows if targets is None else targets).inside.shape
    found = {name: np.empty(shape, np.float32) for name in ATTACKS}
    for part, scores in attack_scores(shadows, targets):
        for name, values in scores.items():
            found[name][:, part] = values
    return found


def _table(run: Run, examples: Examples, shadows: Shadows, targets: Targets | None, scores: dict[str, Floats]) -> "pl.DataFrame":
    import polars as pl

    train = np.flatnonzero([split == "train" for split in examples.split])
    kept, inside = examples.train, (shadows if targets is None else targets).inside[:, train]
    columns: dict[str, Any] = {"index": kept.index.cpu().numpy(), "id": kept.ids, "given_label": kept.labels.cpu().numpy()}
    columns |= {name: _by_record(values[:, train], inside).astype(np.float32) for name, values in scores.items()}
    powers = record_power(shadows, tuple(RATES))
    for rate, name in RATES.items():
        power = powers[rate]
        columns |= {f"{name}{end}": getattr(power, part)[train] for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))}
    table = pl.DataFrame(columns | {"risk": np.array(risk_classes(powers[0.01]))[train]})
    free = _free(run)
    return table if free is None else table.join(free, on="index", how="left", maintain_order="left")


def _by_record(scores: Floats, inside: Bools) -> Floats:
    """Mean over the targets that trained on a record; over all where none did."""
    weights = np.where(inside.any(0), inside, True)
    return np.asarray((scores * weights).sum(0) / weights.sum(0))


def _free(run: Run) -> "pl.DataFrame | None":
    """What the run's history says, mean over its seeds; None where it has no losses of two epochs."""
    import polars as pl

    if not (run.path / "history.parquet").exists():
        return None
    history = run.history
    side = next((name for name in ("loss_seen", "loss_full") if name in history.columns), None)
    if side is None or history["epoch"].n_unique() < 2:
        return None
    parts = []
    for _, seed in history.sort("seed", "epoch", "index").group_by("seed", maintain_order=True):
        index = seed["index"].unique().sort()
        if len(seed) == len(index) * seed["epoch"].n_unique():  # else not every epoch was measured on all of them
            losses = seed[side].to_numpy().reshape(-1, len(index))
            found = {name: score(losses) for name, score in FREE.items()}
            found["cumulative_loss"] = found["cumulative_loss"] * (run.config.training.epochs / len(losses))
            parts.append(pl.DataFrame({"index": index} | found))
    return pl.concat(parts).group_by("index", maintain_order=True).agg(pl.col(*FREE).mean()) if parts else None


def _facts(plan: Plan, shadows: Shadows, targets: Targets | None, scores: dict[str, Floats], table: "pl.DataFrame") -> dict[str, Any]:
    import polars as pl

    inside = (shadows if targets is None else targets).inside
    what = OWN if plan.joined else HELD_OUT if plan.targets else IN_TURN
    facts: dict[str, Any] = {"members": plan.members, "targets": len(inside), "attacked": what, "fraction": plan.share}
    facts |= {"records": len(table), "offline_a": fitted_a(shadows)}
    facts["attacks"] = {name: _stated(values, inside) for name, values in scores.items()}
    facts["risks"] = {risk: int((table["risk"] == risk).sum()) for risk in RISKS}
    promised = None if targets is None or inside.all() or not inside.any() else false_alarms(shadows, targets, tuple(RATES))
    facts["record_tests"] = promised and {f"{rate:g}": value for rate, value in promised.items()}
    power = table["tpr_at_1_percent"].to_numpy()
    known = table.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in FREE)) if set(FREE) <= set(table.columns) else None
    if known is not None and len(known) == len(table):
        facts["free"] = {name: asdict(spearman(table[name].to_numpy(), power)) for name in FREE}
    return facts


def _stated(scores: Floats, inside: Bools) -> dict[str, Any]:
    """Rates and ROC of an attack; none where the target trained on all records or none."""
    if inside.all() or not inside.any():
        reason = f"the target trained on {'all' if inside.all() else 'none'} of the records: give the run a test split, or target_member"
        return {name: asdict(Rate(None, None, None, reason)) for name in ("auc", *(f"tpr_at_{rate:g}" for rate in AT))}
    return {name: asdict(rate) for name, rate in attack_rates(scores, inside).items()} | {"curve": roc_curve(scores, inside)}
