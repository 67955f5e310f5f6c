"""What would lower the risk: the audit again, small, with the riskiest dropped, random labels, weight decay or fewer epochs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from unseen.config import Config
from unseen.data import Examples, random_labels
from unseen.errors import UnseenError
from unseen.figures import new_figure, save_figure
from unseen.privacy.attacks import attack_scores
from unseen.privacy.networks import Plan, networks
from unseen.privacy.rates import Rate, attack_rates
from unseen.privacy.records import RAISED, record_power
from unseen.privacy.signals import Bools, Targets
from unseen.runs import Run
from unseen.scoring import run_examples

if TYPE_CHECKING:
    import polars as pl

MEMBERS, TARGETS = 16, 4
ATTACK = "rmia_online"
"""What few members serve best: with 4 of them it has nine tenths of its area with 64."""
DROPPED, NOISY, DECAYS, SHORTER = (0.05, 0.1), 0.1, (0.001, 0.01), (2, 4)
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Variant:
    """A recipe and the records that it is trained on.

    Attributes:
        name: what was changed. config, examples: the recipe and the records.
        here: bool (training records of the run,): which of them are here. same: which are here with their label.
    """

    name: str
    config: Config
    examples: Examples
    here: Bools
    same: Bools


def risk_curve(
    run: Run,
    members: int = MEMBERS,
    targets: int = TARGETS,
    *,
    data_dir: str | Path | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    progress: Callable[[int], None] | None = None,
) -> "pl.DataFrame":
    """How the risk changes where the riskiest records are dropped, some labels are random, weights decay, or training is shorter.

    Every variant is attacked as in ``privacy_risk``, by members and targets of its own. All numbers are over the same records: those that
    every variant has, with the same label. So a row says what a change does to the records that stay.

    Args:
        run: after ``privacy_risk``, which says who is riskiest.
        members: networks that attack, of each variant.
        targets: networks that are attacked, of each variant.
        data_dir: where data sets lie.
        data: what the run was made of, where that was not a name.
        model: the same of its network.
        progress: called with the number of networks after each chunk. A stopped call goes on where it was.

    Returns:
        A row per variant: variant, records (that it trains on), auc, tpr_at_1_percent and their 90% bands (_low, _high; null where there
        are too few records), at_risk (share of records that are found at least ten times as often as by chance, by their estimated rate),
        test_loss (nats, mean over targets; null without a test split). Also written to ``privacy_curve.json`` and ``privacy_curve.png``.

    Raises:
        UnseenError: where the audit was not made yet, and as ``privacy_risk``.
    """
    import polars as pl

    plan = Plan(members, targets, 0.5, False)
    plan.check()
    if not targets:
        raise UnseenError("The curve needs networks to attack. Give at least 2 targets.")
    table = run.table("privacy")
    config, examples = run_examples(run, data, model, data_dir)
    chosen = variants(config, examples, table)
    common = np.logical_and.reduce([variant.same for variant in chosen])
    with run.alone():
        rows = [_row(run, variant, plan, common, model, progress) for variant in chosen]
        run.write_json(
            "privacy_curve.json", {"members": members, "targets": targets, "attack": ATTACK, "records": int(common.sum()), "rows": rows}
        )
        draw(rows, run.path / "privacy_curve.png")
    return pl.DataFrame(rows, infer_schema_length=None)


def variants(config: Config, examples: Examples, table: "pl.DataFrame") -> list[Variant]:
    """What is compared: the run as it is, and one change at a time."""
    every = np.ones(len(examples.train), np.bool_)
    found = [Variant(AS_IT_IS, config, examples, every, every)]
    found += [_dropped(config, examples, table, share) for share in DROPPED]
    found.append(_noisy(config, examples))
    recipes = {f"weight decay {decay:g}": {"weight_decay": decay} for decay in DECAYS if decay > (config.training.weight_decay or 0)}
    whole = config.training.epochs
    recipes |= {f"{epochs} of {whole} epochs": {"epochs": epochs} for part in SHORTER if (epochs := max(1, whole // part)) < whole}
    found += [Variant(name, config.change(**change), examples, every, every) for name, change in recipes.items()]
    return found


def _dropped(config: Config, examples: Examples, table: "pl.DataFrame", share: float) -> Variant:
    order = table.sort(["tpr_at_1_percent", "index"], descending=[True, False])["index"].to_numpy()
    stays = ~np.isin(examples.index.cpu().numpy(), order[: max(1, round(share * len(order)))])
    here = stays[_train(examples)]
    return Variant(f"riskiest {share:.0%} dropped", config, examples.select(torch.from_numpy(stays)), here, here)


def _noisy(config: Config, examples: Examples) -> Variant:
    noisy = random_labels(examples, NOISY, seed=config.seed + 1)
    same = (noisy.labels == examples.labels).cpu().numpy()[_train(examples)]
    noisy = replace(noisy, true_labels=examples.true_labels)
    return Variant(f"{NOISY:.0%} random labels", config, noisy, np.ones(len(same), np.bool_), same)


def _train(examples: Examples) -> Bools:
    return np.array([split == "train" for split in examples.split])


def _row(
    run: Run, variant: Variant, plan: Plan, common: Bools, model: nn.Module | None, progress: Callable[[int], None] | None
) -> dict[str, Any]:
    shadows, targets = networks(run, variant.config, variant.examples, plan, model, progress)
    assert targets is not None
    here = common[variant.here]
    scores = np.concatenate([found[ATTACK] for _, found in attack_scores(shadows, targets, attacks=(ATTACK,))], 1)
    rates = attack_rates(scores[:, here], targets.inside[:, here], (0.01,))
    power = record_power(shadows, (0.01,))[0.01].value[here]
    row: dict[str, Any] = {"variant": variant.name, "records": scores.shape[1]}
    row |= _flat("auc", rates["auc"]) | _flat("tpr_at_1_percent", rates["tpr_at_0.01"])
    return row | {"at_risk": float((power >= RAISED).mean()), "test_loss": _test_loss(targets)}


def _flat(name: str, rate: Rate) -> dict[str, float | None]:
    return {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}


def _test_loss(targets: Targets) -> float | None:
    """Mean loss of the targets on test records, nats."""
    if targets.population is None:
        return None
    return float(np.logaddexp(0, -targets.population.astype(np.float64)).mean())


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """The area under the ROC of each variant with its 90% band, and beside it the loss on test records: what a lower risk costs."""
    figure = new_figure(9, 0.35 * len(rows) + 1.2)
    risk, cost = figure.subplots(1, 2, sharey=True)
    places, names = range(len(rows)), [row["variant"] for row in rows]
    ends = np.array([[row["auc"] - row["auc_low"], row["auc_high"] - row["auc"]] for row in rows]).T
    risk.errorbar([row["auc"] for row in rows], places, xerr=ends, fmt="o", color="#cc6677", markersize=4)
    risk.axvline(0.5, color="black", linestyle=":", linewidth=0.8)
    risk.set_yticks(places, names, fontsize=8)
    risk.invert_yaxis()
    risk.set_xlabel(f"area under the ROC of {ATTACK} (0.5: chance)")
    known = [(place, row["test_loss"]) for place, row in enumerate(rows) if row["test_loss"] is not None]
    cost.plot([loss for _, loss in known], [place for place, _ in known], "o", color="#4477aa", markersize=4)
    cost.set_xlabel("loss on test records (nats)")
    for axes in (risk, cost):
        axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)
