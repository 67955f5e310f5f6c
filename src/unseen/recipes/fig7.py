"""Figure 7: what easy and difficult images of MNIST look like, class by class.

Real labels, the run of figure 2 (a). A column per class; above each image its memorization and (label, what the half that trained on
it says, what the half that never saw it says). Cost: none beyond figure 2.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from unseen.data import Examples
from unseen.plots import draw_images
from unseen.recipes import fig2
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, final_memorization, seeds_of
from unseen.runs import Run
from unseen.scoring import run_examples

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

ROWS = 3
LINES = "label\nseen half\nunseen half\nmemorization"
SHARE = 0.05


def pieces(scale: str) -> list[Piece]:
    """The run that the gallery shows."""
    return [fig2.clean_piece(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """The gallery, and its claims."""
    return gallery(study, "fig7", fig2.clean_run(study))


def gallery(study: Study, name: str, run: Run) -> "tuple[Figure, list[Claim]]":
    """The easiest images of each class above, the most difficult ones below; and whether the easy ones are typical, and right."""
    _, examples = run_examples(run, data_dir=study.data_dir, as_scored=False)
    classes = range(len(examples.classes))
    scores = run.scores.filter("trained").sort("memorization")
    figure = canvas(0.95 * len(classes), 1.35 * 2 * ROWS)
    panels = figure.subplots(2 * ROWS, len(classes))
    for label in classes:
        own = scores.filter(scores["given_label"] == label)
        chosen = [*own.head(ROWS).to_dicts(), *own.tail(ROWS).reverse().to_dicts()]
        draw_images([row[label] for row in panels], chosen, examples, stacked=True)
    for row in panels:
        row[0].annotate(LINES, (0, 1), (-6, 3), "axes fraction", "offset points", ha="right", va="bottom", fontsize=6.5, linespacing=1.2)
    figure.suptitle("the three easiest images of each class, and below them the three most difficult", fontsize=9)
    agreed = _easy(scores)
    right = (agreed["predicted_seen"] == agreed["given_label"]) & (agreed["predicted_unseen"] == agreed["given_label"])
    share = float(right.mean())  # type: ignore[arg-type]
    words = "easy images are typical: distance to their class's mean image over that of difficult ones"
    return figure, [
        study.claim(name, f"both halves are right about the easiest {SHARE:.0%} of each class: share", [share], at_least=0.95),
        study.claim(name, words, _distances(run, examples), at_most=0.95),
    ]


def _easy(scores: "pl.DataFrame", highest: bool = False) -> "pl.DataFrame":
    """The easiest (or most difficult) share of each class."""
    import polars as pl

    rank = pl.col("memorization").rank("ordinal", descending=highest).over("given_label")
    return scores.filter(rank <= (SHARE * pl.len().over("given_label")).ceil())


def _distances(run: Run, examples: Examples) -> list[float]:
    """Per seed: mean distance of easy images to the mean image of their class, over that of difficult ones."""
    train = examples.train
    pixels = torch.cat([train.batch(some)[0].flatten(1) for some in torch.arange(len(train)).split(4096)])
    means = torch.stack([pixels[train.labels == label].mean(0) for label in range(len(train.classes))])
    distance = dict(zip(train.index.tolist(), (pixels - means[train.labels]).norm(dim=1).tolist(), strict=True))
    table, ratios = final_memorization(run.history).join(run.scores.filter("trained").select("index", "given_label"), on="index"), []
    for seed in seeds_of(table):
        ends = [_easy(table.filter(table["seed"] == seed), highest) for highest in (False, True)]
        near, far = (np.mean([distance[i] for i in end["index"].to_list()]) for end in ends)
        ratios.append(float(near / far))
    return ratios
