"""Beyond the paper: random inputs beside random labels (Zhang et al. 2017, figure 1).

MNIST as in figure 3: real labels; 60,000 random labels; real labels on images whose pixels are shuffled, each by its own permutation; real
labels on Gaussian noise. How soon does a network fit each of them, and what does it say of examples it never saw?
Cost at small scale: four runs of 20 epochs on 20,000 images, about 6 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

from unseen.recipes.claims import Claim
from unseen.recipes.fig2 import PAPER
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, area, canvas, curve, curves_of, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER | {"limit": 60_000},
    "small": PAPER
    | {"epochs": 20, "limit": 20_000, "test_limit": 2000, "hidden": (1024,), "batch_size": 64, "history_every": 2, "seeds": 1},
    "tiny": PAPER
    | {"data": "digits", "hidden": (256,), "lr": 0.15, "epochs": 16, "batch_size": 16, "limit": 400, "history_every": 4, "seeds": 1},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "real": {},
    "random labels": {"random_labels": -1},
    "shuffled pixels": {"random_inputs": "pixels"},
    "Gaussian inputs": {"random_inputs": "gaussian"},
}


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from, in the order of ``SETTINGS``."""
    base = SCALES[scale]
    changes = [{key: base["limit"] if value == -1 else value for key, value in change.items()} for change in SETTINGS.values()]
    names = [f"inputs-{name.replace(' ', '-').lower()}" for name in SETTINGS]
    return [Piece(name, base | change) for name, change in zip(names, changes, strict=True)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy of both halves on the training examples over the epochs, a colour per setting."""
    found: dict[str, pl.DataFrame] = {}
    for name, piece in zip(SETTINGS, pieces(study.scale), strict=True):
        run = study.run(piece)
        found[name] = curves_of(run, {"train": run.scores.filter("trained")["index"].to_list()})
    figure = canvas(8, 3.2)
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("seen", "unseen"), strict=True):
        for name, curves in found.items():
            axes.plot(*curve(curves, "train", side, "accuracy", 0), label=name)
        axes.set(xlabel="epoch", ylabel="accuracy", title=f"{side} half")
    figure.axes[0].legend(frameon=False, fontsize=8)
    heights = {name: _heights(curves) for name, curves in found.items()}
    claims = [
        study.claim("inputs", f"{name}: fitted, accuracy of the seen half at the end", [_last(found[name], "seen")], at_least=0.9)
        for name in found
    ]
    faster = [real - random for real, random in zip(heights["real"], heights["random labels"], strict=True)]
    claims.append(study.claim("inputs", "real data is fitted sooner than random labels: mean accuracy minus theirs", faster, at_least=0.1))
    unseen = [_last(found[name], "unseen") for name in ("random labels", "Gaussian inputs")]
    words = "nothing is learned that carries over from random labels or Gaussian inputs: accuracy of the unseen half"
    return figure, [*claims, study.claim("inputs", words, [max(unseen)], at_most=0.15)]


def _heights(curves: "pl.DataFrame") -> list[float]:
    return [area(curve(curves, "train", "seen", "accuracy", seed)[1]) for seed in seeds_of(curves)]


def _last(curves: "pl.DataFrame", side: str) -> float:
    return curve(curves, "train", side, "accuracy", 0)[1][-1]
