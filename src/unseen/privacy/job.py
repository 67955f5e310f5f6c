"""The privacy of a run: members by its recipe, attacks on networks that are not among them, ``privacy.parquet`` and ``privacy.json``."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.judge import spearman
from unseen.privacy.attacks import ATTACKS, attack_scores, fitted_a
from unseen.privacy.free import cumulative_loss, loss_trace_spread
from unseen.privacy.networks import Plan, networks
from unseen.privacy.rates import AT, Rate, attack_rates, roc_curve
from unseen.privacy.records import RISKS, false_alarms, members_memorization, record_power, risk_classes
from unseen.privacy.signals import Bools, Floats, Shadows, Targets, check_labels
from unseen.privacy.targets import Target, target_log_odds
from unseen.runs import Run
from unseen.scoring import run_examples

if TYPE_CHECKING:
    import polars as pl

RATES = {0.01: "tpr_at_1_percent", 0.001: "tpr_at_tenth_percent"}
"""Columns of the estimated true-positive rate, by the false-positive rate."""
FREE = {"loss_trace_spread": loss_trace_spread, "cumulative_loss": cumulative_loss}
OWN, HELD_OUT, IN_TURN = "your own network", "held-out networks of the same recipe", "each member, by the others"


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
        those that trained on the record), members_memorization (nats), loss_trace_spread and cumulative_loss (where there is a history),
        tpr_at_1_percent and tpr_at_tenth_percent with the ends of their 90% intervals (_low, _high), and risk: high, raised, unclear or
        low (``records.risk_classes``).

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
        shadows, targets = networks(run, config, examples, plan, model, progress)
        if odds is not None:
            targets = Targets(odds[None], own[None])
        found = all_scores(shadows, targets)
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


def all_scores(shadows: Shadows, targets: Targets | None) -> dict[str, Floats]:
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
    columns["members_memorization"] = members_memorization(shadows)[train].astype(np.float32)
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
