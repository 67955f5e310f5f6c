"""Figure 2: memorization has a long tail (a), and random labels are its far end (b).

MNIST, MLP 784-4096-10, learning rate 0.06, no momentum, batches of 256, 200 epochs in the paper; (b) with 20,000 random labels.
Cost at small scale: 3 seeds of 20 epochs each, about 15 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.plots import RANDOM, REAL
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, final_memorization, seeds_of
from unseen.runs import Run
from unseen.scoring import detection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER: dict[str, Any] = {"data": "mnist", "hidden": (4096,), "lr": 0.06, "momentum": 0.0, "batch_size": 256, "epochs": 200, "seeds": 3}
SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER | {"history_every": 10},
    "small": PAPER | {"epochs": 20, "history_every": 2},
    "tiny": PAPER | {"data": "digits", "hidden": (256,), "lr": 0.15, "epochs": 16, "batch_size": 32, "history_every": 4},
}
RANDOM_LABELS = {"paper": 20_000, "small": 20_000, "tiny": 300}


def clean_piece(scale: str) -> Piece:
    """Real labels; also read by figures 5, 7 and 9 and by ``early``."""
    return Piece("mnist", SCALES[scale])


def noisy_piece(scale: str) -> Piece:
    """A third of the labels random."""
    return Piece("mnist-random", SCALES[scale] | {"history_every": SCALES[scale]["epochs"], "random_labels": RANDOM_LABELS[scale]})


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from."""
    return [clean_piece(scale), noisy_piece(scale)]


def clean_run(study: Study) -> Run:
    """The run of ``clean_piece``."""
    return study.run(clean_piece(study.scale))


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Histograms of memorization, counts on a logarithmic axis; the claims as stated above."""
    clean, noisy = (study.run(piece) for piece in pieces(study.scale))
    figure = canvas(9, 3.2)
    left, right = figure.subplots(1, 2)
    _histogram(left, clean, "(a) real labels")
    _histogram(right, noisy, "(b) a third of the labels random")
    tails = [_share_of_top(gaps) for gaps, _ in _by_seed(clean)]
    spreads = [
        float(np.quantile(gaps, 0.99) - np.median(gaps)) / float(np.median(gaps) - np.quantile(gaps, 0.01)) for gaps, _ in _by_seed(clean)
    ]
    rocs = [detection(wrong, gaps)["auroc"] for gaps, wrong in _by_seed(noisy)]
    distances = [float(np.median(gaps[wrong]) - np.median(gaps[~wrong])) for gaps, wrong in _by_seed(noisy)]
    return figure, [
        study.claim("fig2", "(a) the 5% most memorized hold at least half of all memorization above 0", tails, at_least=0.5),
        study.claim("fig2", "(a) the tail is on the right: (q99 − median) / (median − q01) of memorization", spreads, at_least=2),
        study.claim("fig2", "(b) memorization tells wrong labels from right ones: AUROC", rocs, at_least=0.95),
        study.claim("fig2", "(b) median memorization of wrong minus of right labels, nats", distances, at_least=1),
    ]


def _by_seed(run: Run) -> list[tuple[Any, Any]]:
    """Per seed: memorization of the training examples, and which labels are wrong."""
    scores = run.scores.filter("trained")
    wrong = (scores["given_label"] != scores["true_label"]).to_numpy() if "true_label" in scores.columns else np.zeros(len(scores), bool)
    table = final_memorization(run.history)
    order = scores.select("index")
    return [
        (order.join(table.filter(table["seed"] == seed), on="index", maintain_order="left")["memorization"].to_numpy(), wrong)
        for seed in seeds_of(table)
    ]


def _share_of_top(gaps: Any, top: float = 0.05) -> float:
    positive = np.sort(np.maximum(gaps, 0))[::-1]
    return float(positive[: round(top * len(positive))].sum() / positive.sum())


def _histogram(axes: "Axes", run: Run, title: str, bins: int = 60) -> None:
    gaps, wrong = _by_seed(run)[0]
    edges = np.linspace(gaps.min(), gaps.max(), bins + 1).tolist()
    axes.hist(gaps[~wrong], edges, color=REAL, label="real labels")
    if wrong.any():
        axes.hist(gaps[wrong], edges, color=RANDOM, alpha=0.75, label="random labels")
        axes.legend(frameon=False)
    axes.set(yscale="log", xlabel="memorization (nats)", ylabel="training examples", title=title)
    axes.spines[["top", "right"]].set_visible(False)
