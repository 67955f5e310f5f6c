"""Figures of a run, with matplotlib. Each function reads tables and returns a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unseen.data import NAMES, Examples, Lazy, load
from unseen.errors import UnseenError
from unseen.figures import new_figure, save_figure
from unseen.runs import Run, source_of
from unseen.scoring import load_options

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REAL, RANDOM = "#4477aa", "#cc6677"
COLOURS = {"easy": REAL, "right": REAL, "difficult": RANDOM, "wrong": RANDOM, "all": "#999999", "test": "#228833"}
DASHES = {"seen": "-", "unseen": "--", "full": ":"}


def long_tail(run: Run) -> "Figure":
    """Histogram of memorization (nats), the count on a logarithmic axis; right and wrong labels apart where known."""
    figure = new_figure(6, 3.2)
    draw_long_tail(figure.subplots(), run)
    return figure


def overview(run: Run, examples: Examples, rows: int = 3, columns: int = 6) -> "Figure":
    """The long tail, and beside it the most memorized images.

    Args:
        run: finished.
        examples: the run's data, as ``load`` gives it.
        rows: of images.
        columns: of images.

    Raises:
        UnseenError: where the examples are no images.
    """
    figure = new_figure(12, 4)
    grid = figure.add_gridspec(rows, 2 * columns, wspace=0.15, hspace=0.55)
    draw_long_tail(figure.add_subplot(grid[:, : columns - 1]), run)
    measured = run.scores.filter("trained").drop_nulls(["predicted_seen", "predicted_unseen", "memorization"])
    most = measured.sort("memorization", descending=True).head(rows * columns)
    figure.text(0.72, 0.98, "memorization (given label, seen half, unseen half)", ha="center", fontsize=9)
    draw_images([figure.add_subplot(grid[i // columns, columns + i % columns]) for i in range(rows * columns)], most.to_dicts(), examples)
    return figure


def draw_long_tail(axes: "Axes", run: Run, bins: int = 60) -> None:
    """Draw the histogram of ``long_tail`` on given axes."""
    scores = run.scores.filter("trained")
    gap = scores["memorization"].to_numpy()
    edges = np.linspace(gap.min(), gap.max(), bins + 1).tolist()
    if "true_label" in scores.columns:
        wrong = (scores["true_label"] != scores["given_label"]).to_numpy()
        axes.hist(gap[~wrong], edges, color=REAL, label="true label")
        axes.hist(gap[wrong], edges, color=RANDOM, alpha=0.75, label="changed label")
        axes.legend(frameon=False)
    else:
        axes.hist(gap, edges, color=REAL)
    axes.set_yscale("log")
    axes.set_xlabel("memorization: loss of the unseen half − loss of the seen half (nats)")
    axes.set_ylabel("training examples")
    axes.spines[["top", "right"]].set_visible(False)


def save_dynamics(curves: "pl.DataFrame", path: Path) -> Path:
    """Draw ``dynamics.parquet``, loss and accuracy of each subset over the epochs, and return the path."""
    figure = new_figure(9, 3.4)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        draw_curves(axes, curves, quantity)
    for text in figure.axes[-1].legend(frameon=False, fontsize=7).get_texts():
        text.set_parse_math(False)  # a name with a dollar is no formula
    return save_figure(figure, path)


def draw_curves(
    axes: "Axes", curves: "pl.DataFrame", quantity: str = "accuracy", sides: Sequence[str] = ("seen", "unseen"), only: Sequence[str] = ()
) -> None:
    """Curves of subsets over the epochs: a colour per subset, a dash per side; the mean over seeds, and their range as a band.

    Args:
        axes: to draw on.
        curves: of ``subset_curves``.
        quantity: loss (nats) or accuracy.
        sides: of the network; the full one where the curves have neither.
        only: names of the subsets to draw; default: all.
    """
    sides = [side for side in sides if side in curves["side"].unique().to_list()] or ["full"]
    names = list(only or curves["subset"].unique(maintain_order=True))
    for name, side in ((name, side) for name in names for side in sides):
        label, color = f"{name}, {side}" if len(sides) > 1 else name, COLOURS.get(name, f"C{names.index(name)}")
        draw_curve(axes, curves, name, side, quantity, label=label, color=color, linestyle=DASHES[side])
    unit = " (nats)" if quantity == "loss" else ""
    axes.set(xlabel="epoch", ylabel=f"{quantity}{unit}", ylim=(0, 1.02) if quantity == "accuracy" else (0, None))
    axes.spines[["top", "right"]].set_visible(False)


def draw_curve(axes: "Axes", curves: "pl.DataFrame", subset: str, side: str, quantity: str, **look: Any) -> None:
    """One subset on one side over the epochs: the mean over seeds, and their range as a band.

    Args:
        axes: to draw on.
        curves: of ``subset_curves``.
        subset: its name.
        side: of the network.
        quantity: loss or accuracy.
        **look: label, color and linestyle of the line.
    """
    import polars as pl

    rows = (
        curves.filter(pl.col("subset") == subset, pl.col("side") == side)
        .group_by("epoch")
        .agg(mean=pl.col(quantity).mean(), low=pl.col(quantity).min(), high=pl.col(quantity).max())
        .sort("epoch")
    )
    axes.plot(rows["epoch"], rows["mean"], **{"linewidth": 1.4} | look)
    axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=look.get("color"), alpha=0.15, linewidth=0)


def draw_images(axes: "Sequence[Axes]", rows: list[dict[str, Any]], examples: Examples, stacked: bool = False) -> None:
    """Draw images with score and (given label, seen prediction, unseen prediction), as the paper's figures 7 and 8 do.

    Args:
        axes: one for each image.
        rows: of the score table.
        examples: the run's data.
        stacked: write label, seen prediction, unseen prediction and score in four lines, for names that are too long for one.
    """
    if len(examples.shape) != 3:
        raise UnseenError(f"These examples are no images: their shape is {examples.shape}. Use long_tail(run).")
    positions = {int(index): position for position, index in enumerate(examples.index.tolist())}
    for axis, row in zip(axes, rows, strict=False):
        inputs = examples.select([positions[row["index"]]]).inputs
        image = inputs.gather(torch.zeros(1, dtype=torch.int64)) if isinstance(inputs, Lazy) else inputs
        pixels = image[0].permute(1, 2, 0).cpu().numpy()
        axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray_r" if pixels.shape[-1] == 1 else None)
        names = [examples.classes[int(row[name])] for name in ("given_label", "predicted_seen", "predicted_unseen")]
        memorization = f"{round(row['memorization'], 1) + 0.0:.1f}"  # never -0.0
        title = "\n".join((*names, memorization)) if stacked else f"{memorization}\n({', '.join(names)})"
        axis.set_title(title, fontsize=6.5 if stacked else 7, parse_math=False)
        axis.set_axis_off()


def plot_run(run: Run, data_dir: str | Path | None = None, out: Path | None = None) -> Path:
    """Write the overview figure of a run, or its long tail where the examples are no images; returns the path."""
    config = run.config
    try:
        examples = load(source_of(run, NAMES), data_dir=data_dir, **load_options(config))
        figure = overview(run, examples) if len(examples.shape) == 3 else long_tail(run)
    except UnseenError:  # data that came from Python, or is not here: the tables still are
        figure = long_tail(run)
    return save_figure(figure, out or run.path / "overview.png", bbox_inches="tight")
