"""Core-sets: which share of the training examples to keep, and what training on it costs in accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unseen.config import Config
from unseen.curate.lists import judged, suspects
from unseen.curate.spreadsheet import neutral
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.figures import new_figure
from unseen.hashing import key, uniform
from unseen.masks import evaluating
from unseen.runs import Run
from unseen.training import Members, channels_last, make_fabric, new_members, train_members

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

Order = Literal["hard", "easy", "random"]
FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
COLOURS = {"hard": "#cc6677", "easy": "#4477aa", "random": "#888888"}


def prune(run: Run, keep: float = 0.7, order: Order = "hard", drop_suspects: bool = False, stratify: bool = False) -> list[str]:
    """Choose examples to keep, write their ids to the run's ``keep.txt``, one per line, and return them.

    The ids of the test split, which is never pruned, follow. Args as ``chosen``.

    Raises:
        UnseenError: also for an id that holds a line break.
    """
    kept = set(chosen(run, keep, order, drop_suspects, stratify).tolist())
    rows = run.examples.select("index", "id", "split").rows()
    ids = [name for index, name, split in rows if index in kept and split == "train"]
    others = [name for _, name, split in rows if split != "train"]
    if broken := [name for name in ids + others if "\n" in name or "\r" in name]:
        raise UnseenError(f"The id {broken[0]!r} holds a line break, so keep.txt cannot have it as a line. Rename it.")
    with run.writing("keep.txt") as path:
        path.write_text("".join(f"{neutral(name)}\n" for name in ids + others), encoding="utf-8")
    return ids


def chosen(
    run: Run, keep: float, order: Order = "hard", drop_suspects: bool = False, stratify: bool = False, seed: int = 0
) -> NDArray[np.int64]:
    """Index of the trained examples to keep: int64, ascending.

    Args:
        keep: share of all trained examples, above 0 and up to 1.
        order: who stays: the hardest, the easiest (by ``curate.difficulty``), or any, by uniform(index, seed, "prune").
        drop_suspects: leave those out first whose label is probably wrong; what is left may then be less than ``keep``.
        stratify: the same share of each given class, as near as counts allow.
    """
    import polars as pl

    if not 0 < keep <= 1:
        raise UnseenError(f"--keep is {keep:g}; it must be above 0 and at most 1, the share of the training examples to keep.")
    table = judged(run)
    sign = {"hard": -1.0, "easy": 1.0, "random": 0.0}[order]
    chance = uniform(torch.from_numpy(table["index"].to_numpy().copy()), seed, "prune").numpy()
    table = table.with_columns(total=pl.len().over("given_label") if stratify else pl.len(), chance=pl.Series(chance))
    if drop_suspects:
        table = table.join(suspects(run).select("index"), on="index", how="anti", maintain_order="left")
    table = table.sort(sign * pl.col("difficulty"), "chance")
    place = pl.int_range(pl.len())
    place = place.over("given_label") if stratify else place
    kept = table.filter(place < (keep * pl.col("total")).round())
    return np.sort(kept["index"].to_numpy())


def curve(
    run: Run,
    examples: Examples,
    order: Order = "hard",
    drop_suspects: bool = False,
    stratify: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = 3,
) -> "pl.DataFrame":
    """Train on shares of the examples, by order and at random, and measure accuracy on the test split.

    All networks train at once on the same batches by the run's recipe, without masks: equally many steps for every share; a network
    learns from the examples of its subset alone (``members.train_members``).

    Returns:
        Order, fraction, examples, seed, accuracy; written with a figure to ``prune.json`` and ``prune.png``. Cost: 2 * fractions * seeds
        trainings.

    Raises:
        UnseenError: where there is no test split.
    """
    import polars as pl

    if not len(examples.test):
        raise UnseenError(f"{examples.name} has no test split to measure accuracy on. Score it with --test-fraction 0.2.")
    config, train = run.config, examples.train
    orders: tuple[Order, ...] = (order, "random") if order != "random" else ("random",)
    rows: list[dict[str, Any]] = [
        {"order": name, "fraction": fraction, "seed": seed} for name in orders for fraction in fractions for seed in range(seeds)
    ]
    subsets = [
        chosen(run, row["fraction"], row["order"], drop_suspects and row["order"] != "random", stratify, row["seed"]) for row in rows
    ]
    member = torch.stack([torch.isin(train.index.cpu(), torch.from_numpy(subset)) for subset in subsets])
    accuracy = _accuracies(config, train, examples.test, member, [key(row["seed"], "prune") % 2**31 for row in rows])
    for row, subset, value in zip(rows, subsets, accuracy, strict=True):
        row |= {"examples": len(subset), "accuracy": value}
    table = pl.DataFrame(rows)
    run.write_json("prune.json", rows)
    with run.writing("prune.png") as path:
        draw_curve(table).savefig(path, dpi=150, bbox_inches="tight", format="png")
    return table


def _accuracies(config: Config, train: Examples, test: Examples, member: torch.Tensor, seeds: list[int]) -> list[float]:
    """Test accuracy of a network per row of ``member``, each trained on its own examples from the weights of its own seed."""
    fabric = make_fabric(1, config.training.precision)
    networks = new_members(config.network, train, seeds)
    for epoch in train_members(networks, train, config.training, member, config.seed, fabric):
        if epoch.number == config.training.epochs:
            networks = epoch.members()
    return _right(networks, test.to(fabric.device), fabric).tolist()


@torch.no_grad()
def _right(networks: Members, test: Examples, fabric: Any) -> torch.Tensor:
    right = torch.zeros(len(networks))
    with evaluating(networks), fabric.autocast():
        for positions in torch.arange(len(test)).split(512):
            x, labels, _ = test.batch(positions)
            right += (networks(channels_last(x)).argmax(2) == labels).sum(1).cpu()
    return right / len(test)


def draw_curve(table: "pl.DataFrame") -> "Figure":
    """Test accuracy against the share of examples kept: mean over seeds, and the span between the lowest and the highest."""
    import polars as pl

    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for (name,), rows in table.group_by("order", maintain_order=True):
        by = (
            rows.group_by("fraction")
            .agg(mean=pl.col("accuracy").mean(), low=pl.col("accuracy").min(), high=pl.col("accuracy").max())
            .sort("fraction")
        )
        x = by["fraction"].to_numpy()
        axes.fill_between(x, by["low"].to_numpy(), by["high"].to_numpy(), color=COLOURS[str(name)], alpha=0.2, linewidth=0)
        label = "at random" if name == "random" else f"the {name}est"
        axes.plot(x, by["mean"].to_numpy(), "o-", color=COLOURS[str(name)], label=label, markersize=4)
    axes.set_xlabel("share of the training examples kept")
    axes.set_ylabel("test accuracy")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
