"""The figure of an audit: the ROC on logarithmic axes, memorization against risk, and the risk of each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.figures import new_figure, save_figure
from unseen.privacy.records import RISKS
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

DRAWN = {"lira_online": "#4477aa", "rmia_online": "#228833", "rmia_offline": "#ccbb44", "plain_loss": "#cc6677"}
SHADES = {"low": "#dddddd", "unclear": "#bbccee", "raised": "#eecc66", "high": "#cc6677"}
MOST_CLASSES = 30
"""Bars beyond which nobody reads names; the classes with the largest share at risk are drawn."""
ORDER = "tpr_at_1_percent"


def figure(run: Run, out: Path | None = None) -> Path:
    """Draw ``privacy.json`` and ``privacy.parquet`` (after ``privacy_risk``), and return the path, by default RUN/privacy.png.

    Raises:
        UnseenError: where the audit was not made yet, and for a path that is no figure's.
    """
    facts, table = run.read_json("privacy.json"), run.table("privacy")
    drawn = new_figure(13, 3.8)
    drawn.set_layout_engine("constrained")
    roc, memorization, classes = drawn.subplots(1, 3)
    draw_roc(roc, facts["attacks"])
    draw_memorization(memorization, table)
    draw_classes(classes, table, run.classes if run.finished else None)
    return save_figure(drawn, out or run.path / "privacy.png")


def draw_roc(axes: "Axes", attacks: dict[str, dict[str, Any]]) -> None:
    """True against false positives of the attacks of ``DRAWN`` that have a curve, both logarithmic, with 90% bands, and chance."""
    drawn = {name: attacks[name]["curve"] for name in DRAWN if "curve" in attacks.get(name, {})}
    for name, curve in drawn.items():
        axes.plot(curve["false_positive"], curve["true_positive"], color=DRAWN[name], label=name, linewidth=1.4)
        axes.fill_between(curve["false_positive"], curve["low"], curve["high"], color=DRAWN[name], alpha=0.15, linewidth=0)
    least = min((curve["false_positive"][0] for curve in drawn.values()), default=0.001)
    axes.plot([least, 1], [least, 1], color="black", linestyle=":", linewidth=0.8, label="chance")
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1), xlabel="false-positive rate", ylabel="true-positive rate")
    axes.legend(frameon=False, fontsize=7, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def draw_memorization(axes: "Axes", table: "pl.DataFrame") -> None:
    """Estimated true-positive rate of each record at 1% false alarms against its memorization by the members, coloured by risk."""
    for risk in RISKS:
        rows = table.filter(table["risk"] == risk)
        axes.scatter(rows["members_memorization"], rows[ORDER], s=4, color=SHADES[risk], label=f"{risk} ({len(rows):,})", rasterized=True)
    axes.axhline(0.01, color="black", linestyle=":", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set(xlabel="memorization by the members (nats)", ylabel="found at 1% false alarms", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=7, markerscale=2)
    axes.spines[["top", "right"]].set_visible(False)


def draw_classes(axes: "Axes", table: "pl.DataFrame", names: Sequence[str] | None) -> None:
    """Share of each risk among the records of each given class, the class with most at risk first."""
    shares = risk_by_class(table)[:MOST_CLASSES]
    left = np.zeros(len(shares))
    for risk in reversed(RISKS):
        values = np.array([row[risk] for row in shares])
        axes.barh(range(len(shares)), values, left=left, color=SHADES[risk], label=risk)
        left += values
    labels = [names[row["given_label"]] if names else str(row["given_label"]) for row in shares]
    axes.set_yticks(range(len(shares)), labels, fontsize=7, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="share of the class's records", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.spines[["top", "right"]].set_visible(False)


def risk_by_class(table: "pl.DataFrame") -> list[dict[str, Any]]:
    """A row per given class: given_label, records, and the share of its records in each risk; most at risk (high, then raised) first."""
    import polars as pl

    shares = [(pl.col("risk") == risk).mean().alias(risk) for risk in RISKS]
    rows = table.group_by("given_label").agg(pl.len().alias("records"), *shares)
    order = [pl.col("high") + pl.col("raised"), pl.col("high"), pl.col("given_label")]
    return rows.sort(order, descending=[True, True, False]).to_dicts()
