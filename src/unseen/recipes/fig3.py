"""Figure 3: with random labels among them, easy examples are learned first, and test accuracy peaks when they are.

MNIST, 20,000 of 60,000 labels random, MLP 784-4096-10, learning rate 0.01, batches of 256, 200 epochs in the paper. Easy: labels
that are right; difficult: labels that are wrong. Drawn are an ordinary network, as the paper trains it, and the halves of turn-over
dropout: each example's own seen half, and for test accuracy a half too (a test example has one). The halves have fewer units for as many
labels and steps twice as large, so they are further on after as many epochs.
Cost at small scale: 3 seeds of 50 epochs with gradients (figure 4 reads them), and 3 without masks, about 40 minutes on two cores.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from unseen.judge import run_subsets
from unseen.plots import COLOURS, draw_curve
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, area_between, canvas, curve, curves_of, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

WATCH = ("easy=right", "difficult=wrong")
PAPER: dict[str, Any] = {
    "data": "mnist", "hidden": (4096,), "lr": 0.01, "momentum": 0.0, "batch_size": 256, "epochs": 200, "seeds": 3,
    "random_labels": 20_000, "watch": WATCH, "gradients_every": 5, "gradient_examples": 1000,
}  # fmt: skip
SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER | {"history_every": 5},
    "small": PAPER | {"epochs": 50, "history_every": 2, "gradient_examples": 500},
    "tiny": PAPER
    | {"data": "digits", "hidden": (256,), "lr": 0.03, "epochs": 20, "batch_size": 32, "random_labels": 400}
    | {"gradient_examples": 60, "history_every": 2},
}


def noisy_piece(scale: str) -> Piece:
    """The run that figures 3 and 4 read."""
    return Piece("mnist-random-slow", SCALES[scale])


def ordinary_piece(scale: str) -> Piece:
    """An ordinary network on the same labels, as the paper trains here."""
    return Piece("mnist-random-slow-plain", SCALES[scale] | {"estimator": "plain", "gradients_every": 0})


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from."""
    return [noisy_piece(scale), ordinary_piece(scale)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Loss and accuracy of easy and difficult examples and of the test set over the epochs: of an ordinary network, and of the halves."""
    half, ordinary = (study.run(piece) for piece in (noisy_piece(study.scale), ordinary_piece(study.scale)))
    curves, of_ordinary = (curves_of(run, run_subsets(run)) for run in (half, ordinary))
    figure = canvas(7, 5)
    for row, (title, own, side) in zip(
        figure.subplots(2, 2, sharex=True),
        (("ordinary network", of_ordinary, "full"), ("halves of turn-over dropout", curves, "seen")),
        strict=True,
    ):
        for axes, quantity in zip(row, ("loss", "accuracy"), strict=True):
            for name, dash in (("easy", "-"), ("difficult", "-"), ("test", ":")):
                words = "test" if name == "test" else f"{name}, training"
                draw_curve(axes, own, name, side, quantity, label=words, color=COLOURS[name], linestyle=dash)
            axes.set(
                ylabel="loss (nats)" if quantity == "loss" else "accuracy", title=title, ylim=(0, None if quantity == "loss" else 1.02)
            )
    for axes in figure.axes[2:]:
        axes.set_xlabel("epoch")
    figure.axes[0].legend()
    peaks = [_at_peak(curves, seed) for seed in seeds_of(curves)]
    falls = [_at_peak(of_ordinary, seed, "full")["fall"] for seed in seeds_of(of_ordinary)]
    early = [_improvement(curves, seed) for seed in seeds_of(curves)]
    ahead = area_between(curves, "easy", "difficult")
    fitted = max(curve(of_ordinary, "difficult", "full", "accuracy", seed)[1][-1] for seed in seeds_of(of_ordinary))
    why = f"at the end an ordinary network has at most {fitted:.0%} of the random labels, and only their fit lets test accuracy fall"
    claim = partial(study.claim, "fig3")
    return figure, [
        claim("easy is learned faster: mean over epochs of its accuracy minus that of difficult", ahead, at_least=0.3),
        claim("difficult improves a little within the first fifth of the epochs: its loss falls by (nats)", early, at_least=0.01),
        claim("where test accuracy of a half peaks, easy is fitted: its accuracy", [peak["easy"] for peak in peaks], at_least=0.9),
        claim("… and difficult is not: its accuracy", [peak["difficult"] for peak in peaks], at_most=0.5),
        claim("after its peak test accuracy of a half falls, by", [peak["fall"] for peak in peaks], at_least=0.005),
        claim("… and that of an ordinary network", falls, at_least=0.005, needs_paper_scale=True, why=why),
    ]


def _at_peak(curves: "pl.DataFrame", seed: int, side: str = "seen") -> dict[str, float]:
    """Accuracy of each subset where that of the test set, on one side, is highest, and how far it falls until the end."""
    epochs, test = curve(curves, "test", side, "accuracy", seed)
    best = max(range(len(test)), key=test.__getitem__)
    at_best = {name: curve(curves, name, side, "accuracy", seed)[1][best] for name in ("easy", "difficult")}
    return at_best | {"epoch": epochs[best], "fall": test[best] - test[-1]}


def _improvement(curves: "pl.DataFrame", seed: int) -> float:
    """Largest fall of difficult's loss below its first value, within the first fifth of the epochs."""
    _, losses = curve(curves, "difficult", "seen", "loss", seed)
    early = losses[: max(2, len(losses) // 5)]
    return early[0] - min(early)
