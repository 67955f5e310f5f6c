"""Figure 3: with random labels among them, easy examples are learned first, and test accuracy peaks when they are.

MNIST, 20,000 of 60,000 labels random, MLP 784-4096-10, learning rate 0.01, batches of 256, 200 epochs in the paper. Easy: labels
that are right; difficult: labels that are wrong. Curves are those of each example's own seen half; test accuracy is that of a half (a
test example has one too), and beside it that of the full network, which averages what single halves memorize away.
Cost at small scale: 3 seeds of 50 epochs with gradients (figure 4 reads them), about 25 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

from unseen.judge import run_subsets
from unseen.plots import draw_curves
from unseen.recipes.claims import Claim
from unseen.recipes.study import Study, area_between, canvas, curve, curves_of, seeds_of
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

WATCH = ("easy=right", "difficult=wrong")
PAPER: dict[str, Any] = {
    "data": "mnist", "hidden": (4096,), "lr": 0.01, "momentum": 0.0, "batch_size": 256, "epochs": 200, "seeds": 3,
    "random_labels": 20_000, "watch": WATCH, "gradients_every": 5, "gradient_examples": 1000,
}  # fmt: skip
SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "small": PAPER | {"epochs": 50, "history_every": 2, "gradient_examples": 500},
    "tiny": PAPER
    | {"data": "digits", "hidden": (256,), "lr": 0.03, "epochs": 20, "batch_size": 32, "random_labels": 400}
    | {"gradient_examples": 60, "history_every": 2},
}


def noisy_run(study: Study) -> Run:
    """The run that figures 3 and 4 read."""
    return study.score("mnist-random-slow", **SCALES[study.scale])


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Loss and accuracy of easy and difficult examples and of the test set, over the epochs."""
    run = noisy_run(study)
    curves = curves_of(run, run_subsets(run))
    figure = canvas(9, 3.2)
    left, right = figure.subplots(1, 2)
    draw_curves(left, curves, "loss", ["seen"], ["easy", "difficult"])
    draw_curves(right, curves, "accuracy", ["seen"], ["easy", "difficult"])
    draw_curves(right, curves, "accuracy", ["seen", "full"], ["test"])
    right.legend(frameon=False, fontsize=8)
    peaks = [_at_peak(curves, seed) for seed in seeds_of(curves)]
    of_full = [_at_peak(curves, seed, "full")["fall"] for seed in seeds_of(curves)]
    early = [_improvement(curves, seed) for seed in seeds_of(curves)]
    ahead = area_between(curves, "easy", "difficult")
    words = "difficult improves a little within the first fifth of the epochs: its loss falls by (nats)"
    return figure, [
        study.claim("fig3", "easy is learned faster: mean over epochs of its accuracy minus that of difficult", ahead, at_least=0.3),
        study.claim("fig3", words, early, at_least=0.01),
        study.claim(
            "fig3", "where test accuracy of a half peaks, easy is fitted: its accuracy", [peak["easy"] for peak in peaks], at_least=0.9
        ),
        study.claim("fig3", "… and difficult is not: its accuracy", [peak["difficult"] for peak in peaks], at_most=0.5),
        study.claim("fig3", "after its peak test accuracy of a half falls, by", [peak["fall"] for peak in peaks], at_least=0.005),
        study.claim("fig3", "… and that of the full network", of_full, at_least=0.005),
    ]


def _at_peak(curves: "pl.DataFrame", seed: int, side: str = "seen") -> dict[str, float]:
    """Accuracy of each subset where that of the test set, on one side, is highest, and how far it falls until the end."""
    epochs, test = curve(curves, "test", side, "accuracy", seed)
    best = max(range(len(test)), key=test.__getitem__)
    at_best = {name: curve(curves, name, "seen", "accuracy", seed)[1][best] for name in ("easy", "difficult")}
    return at_best | {"epoch": epochs[best], "fall": test[best] - test[-1]}


def _improvement(curves: "pl.DataFrame", seed: int) -> float:
    """Largest fall of difficult's loss below its first value, within the first fifth of the epochs."""
    _, losses = curve(curves, "difficult", "seen", "loss", seed)
    early = losses[: max(2, len(losses) // 5)]
    return early[0] - min(early)
