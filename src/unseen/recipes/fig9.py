"""Figure 9: the accuracies of both halves settle within few epochs.

The MLP of figure 2 on MNIST, and a compact convolutional transformer (CCT) on Fashion-MNIST; real labels, training examples. Which CCT
the paper takes is not known here: at paper scale this is CCT-7/3x1, at small scale CCT-2/3x2 (both Hassani et al. 2021).
At small scale the first 20,000 images of Fashion-MNIST. Cost there: about 80 minutes on two cores for the CCT.
"""

from typing import TYPE_CHECKING, Any

from unseen.plots import RANDOM, REAL, draw_curve
from unseen.recipes import fig2
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, curve, curves_of, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

WITHIN = 0.03
PAPER: dict[str, Any] = {"data": "fashion-mnist", "model": "cct", "batch_size": 128, "epochs": 200}
SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "small": PAPER | {"model": "cct2", "epochs": 24, "limit": 20_000, "test_limit": 1000, "history_every": 2, "seeds": 3},
    "tiny": PAPER | {"data": "digits", "model": "cct2", "epochs": 4, "limit": 400, "test_limit": 60},
}


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from."""
    return [Piece("cct", SCALES[scale]), fig2.clean_piece(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy of the seen and the unseen half over the epochs, a panel per network."""
    runs = {"MLP, MNIST": fig2.clean_run(study), "CCT, Fashion-MNIST": study.run(pieces(study.scale)[0])}
    figure, claims = canvas(7, 2.9), []
    for axes, (title, run) in zip(figure.subplots(1, 2), runs.items(), strict=True):
        curves = curves_of(run, {"training examples": run.scores.filter("trained")["index"].to_list()})
        for side, color, dash in (("seen", REAL, "-"), ("unseen", RANDOM, "--")):
            draw_curve(axes, curves, "training examples", side, "accuracy", label=f"{side} half", color=color, linestyle=dash)
        axes.set(title=f"{title}, training images", xlabel="epoch", ylim=(0, 1.02))
        for side in ("seen", "unseen"):
            words = f"{title}: the {side} half stays within {WITHIN:.0%} of its last accuracy from this share of the epochs on"
            claims.append(study.claim("fig9", words, [_settled(curves, side, seed) for seed in seeds_of(curves)], at_most=0.5))
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="lower right")
    return figure, claims


def _settled(curves: "pl.DataFrame", side: str, seed: int) -> float:
    """The first epoch from which on accuracy stays near its last value, as a share of all epochs."""
    epochs, values = curve(curves, "training examples", side, "accuracy", seed)
    away = [epoch for epoch, value in zip(epochs, values, strict=True) if abs(value - values[-1]) > WITHIN]
    return next(epoch for epoch in epochs if not away or epoch > away[-1]) / epochs[-1]
