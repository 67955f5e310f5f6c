"""Beyond the paper: how early can one stop and keep the order of the scores?

The run of figure 2 (a): rank correlation of memorization after each epoch with that after the last one (the paper's appendix D made
quantitative), and beside it of the last epoch's between seeds, which says how much of that order is chance. Cost: none beyond figure 2.
"""

from typing import TYPE_CHECKING

import numpy as np

from unseen.judge import seed_stability, spearman
from unseen.recipes import fig2
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def pieces(scale: str) -> list[Piece]:
    """The run that the figure is drawn from."""
    return [fig2.clean_piece(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Rank correlation with the last epoch over the epochs: of memorization, and of its mean over the epochs so far."""
    run = fig2.clean_run(study)
    trained = run.scores.filter("trained").select("index")
    history = run.history.join(trained, on="index")
    stability = seed_stability(history)
    seeds = seeds_of(history)
    found = {seed: _correlations(history.filter(history["seed"] == seed)) for seed in seeds}
    epochs = found[seeds[0]][0]
    figure = canvas(5, 3.2)
    axes = figure.subplots()
    for number, name in ((1, "memorization after this epoch"), (2, "its mean over the epochs so far")):
        axes.plot(epochs, np.mean([found[seed][number] for seed in seeds], 0), label=name)
    axes.axhline(stability, color="black", linewidth=0.8, linestyle=":", label="last epoch, two seeds")
    axes.set(xlabel="epoch", ylabel="rank correlation with the last epoch's", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    half = max(epoch for epoch in epochs if epoch <= epochs[-1] / 2)
    kept = [_at(found[seed], half) for seed in seeds]
    words = "an earlier epoch of the same run says more of the last than another seed does: difference"
    return figure, [
        study.claim("early", "rank correlation of memorization after half of the epochs with the last", kept, at_least=0.8),
        study.claim("early", words, [value - stability for value in kept], at_least=0.0),
    ]


def _correlations(history: "pl.DataFrame") -> tuple[list[int], list[float], list[float]]:
    """Epochs, and the rank correlation with the last of memorization there and of its mean until there."""
    import polars as pl

    wide = history.with_columns(gap=pl.col("loss_unseen") - pl.col("loss_seen")).sort("epoch", "index")
    epochs = wide["epoch"].unique().sort().to_list()
    gaps = wide["gap"].to_numpy().reshape(len(epochs), -1)
    means = np.cumsum(gaps, 0) / np.arange(1, len(epochs) + 1)[:, None]
    return epochs, [spearman(row, gaps[-1], 1).value for row in gaps], [spearman(row, gaps[-1], 1).value for row in means]


def _at(found: tuple[list[int], list[float], list[float]], epoch: int) -> float:
    return found[1][found[0].index(epoch)]
