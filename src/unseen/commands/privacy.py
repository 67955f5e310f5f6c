"""Privacy: who could tell that a record was in the training set, and the records at risk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from unseen.commands.following import following
from unseen.errors import UnseenError
from unseen.runs import Run, open_run

if TYPE_CHECKING:
    import polars as pl

CURVE = ("auc", "tpr_at_1_percent")
"""Rates of the curve that have bands."""


@dataclass(frozen=True)
class Privacy:
    """Find out how well somebody with the network could tell that a record was in its training set: LiRA, RMIA and others."""

    run: Positional[Path]
    """a run folder: its recipe and records count, its scores are not needed"""
    members: int = 64
    """networks to train that attack"""
    held_out_targets: int = 8
    """networks to train that are attacked; 0: each member, by the others"""
    target: Path | None = None
    """attack your own network instead: .npy with logits (records, classes), train before test; or .safetensors with the weights of
    the run's network. Members then train on test records too"""
    fraction: float = 0.5
    """share of the records that each network trains on"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    figure: bool = False
    """also draw privacy.png: the ROC on logarithmic axes, memorization against risk, risk by class"""
    curve: bool = False
    """also try what lowers the risk: the riskiest dropped, random labels, weight decay, fewer epochs. Each is attacked by 16 networks more
    on 4; writes privacy_curve.json and privacy_curve.png"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Train the networks that are missing, write privacy.parquet and privacy.json, and print how well each attack does."""
        from unseen.commands.table import say
        from unseen.privacy import figure, privacy_risk
        from unseen.training import counter

        run = open_run(self.run, self.trust_paths)
        with counter(self.members + (0 if self.target else self.held_out_targets), "networks") as advance:
            privacy_risk(
                run, self.members, self.held_out_targets, self.target, fraction=self.fraction, data_dir=self.data_dir, progress=advance
            )
        drawn = figure(run) if self.figure else None
        if self.curve:
            self._curve(run)
        print_privacy(run, self.json, self.curve)
        if drawn is not None and not self.json:
            say(str(drawn))
        return None if self.json else following("the records at risk", "risky", self.run)

    def _curve(self, run: Run) -> None:
        from unseen.privacy import risk_curve
        from unseen.training import counter

        with counter(None, "networks") as advance:
            risk_curve(run, data_dir=self.data_dir, progress=advance)


@dataclass(frozen=True)
class Risky:
    """List the records that an attacker would find in the training set, the surest first (after `unseen privacy`)."""

    run: Positional[Path]
    """a run folder"""
    top: int = 20
    """number of records; 0: all"""
    least: Literal["raised", "high"] = "raised"
    """the lowest class of risk to list. high: found more often than not at 1% false alarms; raised: ten times as often as by chance"""
    json: bool = False
    """print JSON: how many records are in which class of risk, and the rows"""
    csv: bool = False
    """print CSV, with the decision to drop each: what `unseen apply` takes"""

    def __call__(self) -> str | None:
        """Print the list."""
        from unseen.privacy import risky

        if self.json and self.csv:
            raise UnseenError("--json and --csv are both given. Choose one.")
        if self.top < 0:
            raise UnseenError(f"--top is {self.top}; it must be at least 0 (0: all).")
        run = open_run(self.run)
        found = risky(run, self.least)
        print_risky(run, found.head(self.top) if self.top else found, len(found), "json" if self.json else "csv" if self.csv else "table")
        return None if self.json or self.csv else following("a page of the run", "report", self.run)


def print_privacy(run: Run, as_json: bool, curve: bool = False) -> None:
    """A row per attack with its rates and their bands, what could not be stated, and how many records are at risk; the curve below."""
    from unseen.commands.table import print_rows, say
    from unseen.privacy import AT, RISKS

    facts = run.read_json("privacy.json")
    if as_json:
        print(json.dumps(facts | ({"curve": run.read_json("privacy_curve.json")} if curve else {}), indent=1))
        return
    attacks = sorted(facts["attacks"].items(), key=lambda attack: -(attack[1]["auc"]["value"] or 0))
    rates = ("auc", *(f"tpr_at_{rate:g}" for rate in AT))
    rows = [{"attack": name} | {rate: _band(found[rate]) for rate in rates} for name, found in attacks]
    print_rows(rows, title=f"Attacks by {facts['members']} members on {facts['targets']} ({facts['attacked']}); in brackets 90% bands")
    for rate in rates:
        if (reason := attacks[0][1][rate]["reason"]) is not None:
            say(f"{rate} is unknown: {reason}.")
    counts = ", ".join(f"{facts['risks'][name]:,} {name}" for name in reversed(RISKS))
    say(f"Risk of {facts['records']:,} training records: {counts}.")
    if facts["record_tests"]:
        said = facts["record_tests"]["0.01"]
        say(f"The tests of single records, at false alarms of 1% by their own account, have {said['false_positive']:.2%} on the targets.")
    print(run.path / "privacy.parquet")
    if curve:
        print_risk_curve(run)


def _band(rate: dict[str, Any]) -> str:
    if rate["value"] is None:
        return "unknown"
    return f"{rate['value']:.4f} ({rate['low']:.4f} to {rate['high']:.4f})"


def print_risk_curve(run: Run) -> None:
    """A row per variant of the recipe, with what its risk and its loss on test records are."""
    from unseen.commands.table import print_rows, say

    found = run.read_json("privacy_curve.json")
    rows = []
    for row in found["rows"]:
        bands = {name: _band({"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}) for name in CURVE}
        loss = "unknown" if row["test_loss"] is None else f"{row['test_loss']:.3f}"
        rows.append(
            {"variant": row["variant"], "trains on": f"{row['records']:,}"}
            | bands
            | {"at risk": f"{row['at_risk']:.1%}", "test loss": loss}
        )
    print_rows(
        rows, title=f"Risk of the same {found['records']:,} records, by {found['attack']}, {found['members']} members on {found['targets']}"
    )
    say(str(run.path / "privacy_curve.png"))


def print_risky(run: Run, shown: "pl.DataFrame", count: int, form: str) -> None:
    """The list as a table, JSON or CSV."""
    import polars as pl

    from unseen.commands.table import print_rows, say
    from unseen.curate import neutral_frame

    risks = run.read_json("privacy.json")["risks"]
    if form == "csv":
        print(neutral_frame(shown.with_columns(decision=pl.lit("drop"))).write_csv(), end="")
    elif form == "json":
        print(json.dumps({"list": "risky", "examples": count, "risks": risks, "rows": shown.to_dicts()}, indent=1))
    else:
        if len(shown):
            print_rows(shown.drop("index", "given_label", "score", strict=False).to_dicts(), title="At risk")
        unclear = f" {risks['unclear']:,} are unclear: more --members would tell." if risks["unclear"] else ""
        say(f"At risk: {count:,} of {sum(risks.values()):,} training records.{unclear}")
