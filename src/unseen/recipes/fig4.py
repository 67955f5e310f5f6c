"""Figure 4: gradients of easy examples agree (a), and difficult ones drive the steps (b).

The run of figure 3. (a) mean cosine similarity of the gradients of two examples of a subset (eq. 3); (b) mean contribution of an example
to the step of its mini-batch (eq. 4). Gradients are those of each example's own seen half. Cost: none beyond figure 3.
"""

from typing import TYPE_CHECKING

from unseen.plots import COLOURS
from unseen.recipes.claims import Claim
from unseen.recipes.fig3 import noisy_piece
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pieces(scale: str) -> list[Piece]:
    """The run that the figure is drawn from, that of figure 3."""
    return [noisy_piece(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Cosine similarity and contribution of easy, difficult and all, over the epochs."""
    table = study.run(noisy_piece(study.scale)).table("gradients")
    figure = canvas(9, 3.2)
    left, right = figure.subplots(1, 2)
    _draw(left, table, "cosine_similarity", "mean cosine similarity of two gradients")
    _draw(right, table, "contribution", "mean contribution to the step")
    right.legend(frameon=False, fontsize=8)
    ratios, orders, tops = [], [], []
    for seed in seeds_of(table):
        cosine, pull = _by_epoch(table, "cosine_similarity", seed), _by_epoch(table, "contribution", seed)
        ratios.append(sum(row["easy"] for row in cosine) / sum(abs(row["difficult"]) for row in cosine))
        orders.append(sum(row["difficult"] > row["all"] > row["easy"] for row in pull) / len(pull))
        second = pull[len(pull) // 2 :]
        tops.append(sum(row["difficult"] > row["all"] > row["easy"] for row in second) / len(second))
    return figure, [
        study.claim("fig4", "(a) cosine similarity of easy over that of difficult, means over the epochs", ratios, at_least=2),
        study.claim("fig4", "(b) share of the epochs with contribution of difficult > all > easy", orders, at_least=0.9),
        study.claim("fig4", "(b) the same, second half of training", tops, at_least=0.9),
    ]


def _by_epoch(table: "pl.DataFrame", quantity: str, seed: int) -> list[dict[str, float]]:
    import polars as pl

    rows = table.filter(pl.col("quantity") == quantity, pl.col("seed") == seed)
    return rows.pivot("subset", index="epoch", values="value").sort("epoch").to_dicts()


def _draw(axes: "Axes", table: "pl.DataFrame", quantity: str, label: str) -> None:
    import polars as pl

    rows = table.filter(pl.col("quantity") == quantity)
    for name in ("easy", "all", "difficult"):
        found = (
            rows.filter(pl.col("subset") == name)
            .group_by("epoch")
            .agg(mean=pl.col("value").mean(), low=pl.col("value").min(), high=pl.col("value").max())
        )
        found = found.sort("epoch")
        if len(found):
            axes.plot(found["epoch"], found["mean"], color=COLOURS[name], label=name)
            axes.fill_between(found["epoch"], found["low"], found["high"], color=COLOURS[name], alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
