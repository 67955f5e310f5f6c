"""Figure 5: easy examples are learned faster than difficult ones, those trained on and those of the test set alike.

MNIST with the MLP of figure 2, and CIFAR-10 with VGG-11 without batch norm (learning rate 0.01, momentum 0.9, divided by 10 at
epochs 100 and 150; 200 epochs in the paper); real labels. What is easy and what is difficult is computed beforehand, by a run that
trains on train and test together (``--join-test``), so that test examples have scores too; the curves are
those of an ordinary network (``--estimator plain``), trained on train alone.

The scores of CIFAR-10: masks of two groups of channels, the same in all layers, so that half of the images train each half of the network
as a whole; one cycle of the learning rate until the seen half has all its labels; the mean over seeds, each with another split of the
images. With masks of one's own for every image the unseen half of VGG-11 learns nothing (LOG.md).
At small scale CIFAR-10 is cut to 20,000 training and 2,000 test images and VGG-11 narrowed. Cost there: about 40 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

from unseen.data import find_subsets
from unseen.judge import class_names
from unseen.plots import COLOURS, draw_curve
from unseen.recipes import fig2
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, area_between, canvas, curves_of
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SHARE = 0.2
VGG: dict[str, Any] = {"data": "cifar10", "model": "vgg11", "lr": 0.01, "momentum": 0.9, "batch_size": 256, "epochs": 200}
VGG |= {"schedule": "step", "milestones": (100, 150)}
CUT: dict[str, Any] = {"limit": 20_000, "test_limit": 2000, "batch_size": 64, "lr": 0.02}
TINY: dict[str, Any] = {"data": "digits", "limit": 200, "test_limit": 60, "batch_size": 16, "lr": 0.02, "epochs": 4, "milestones": (2, 3)}
HALVES: dict[str, Any] = {"data": "cifar10", "model": "vgg11", "groups": 2, "tied": True, "join_test": True}
HALVES |= {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "onecycle"}  # until the seen half fits
SCORED: dict[str, dict[str, Any]] = {  # by turn-over dropout: two groups, so that each half is trained as a whole
    "paper": HALVES | {"batch_size": 128, "epochs": 60, "seeds": 3},
    "small": HALVES | {"limit": 20_000, "test_limit": 2000, "batch_size": 64, "width": 0.5, "epochs": 20, "seeds": 3},
    "tiny": HALVES | TINY | {"width": 0.25, "seeds": 2},
}
PLAIN: dict[str, dict[str, Any]] = {  # ordinary networks, whose dynamics are looked at
    "paper": VGG | {"estimator": "plain", "history_every": 10},
    "small": VGG | CUT | {"estimator": "plain", "width": 0.25, "epochs": 20, "milestones": (10, 15), "history_every": 2, "seeds": 3},
    "tiny": VGG | TINY | {"estimator": "plain", "width": 0.25},
}


def cifar_scores(scale: str) -> Piece:
    """Train and test scored together; also read by figures 6 and 8."""
    settings = SCORED[scale]
    return Piece("cifar-joined", settings | {"history_every": settings["epochs"]})


def _sources(scale: str) -> dict[str, tuple[Piece, Piece]]:
    """Per data set: the ordinary networks, and what was scored beforehand."""
    settings = fig2.SCALES[scale]
    beforehand = Piece("mnist-joined", settings | {"history_every": settings["epochs"], "seeds": 1, "join_test": True})
    return {
        "MNIST, MLP": (Piece("mnist-plain", settings | {"estimator": "plain"}), beforehand),
        "CIFAR-10, VGG-11": (Piece("cifar-plain", PLAIN[scale]), cifar_scores(scale)),
    }


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from."""
    return [piece for pair in reversed(_sources(scale).values()) for piece in reversed(pair)]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy over the epochs: a panel each for train and test of both data sets."""
    pairs = {title: (study.run(plain), study.run(scored)) for title, (plain, scored) in _sources(study.scale).items()}
    figure, claims = canvas(7, 2.9), []
    for axes, (title, (run, scored)) in zip(figure.subplots(1, 2, sharey=True), pairs.items(), strict=True):
        for split, words, dash in (("train", "training", "-"), ("test", "test", ":")):
            curves = _curves(run, scored.scores, split)
            for name in ("easy", "difficult"):
                draw_curve(axes, curves, name, "full", "accuracy", label=f"{name}, {words}", color=COLOURS[name], linestyle=dash)
            words = f"{title}, {split}: accuracy of the easiest minus that of the most difficult fifth, mean over epochs"
            claims.append(study.claim("fig5", words, area_between(curves, "easy", "difficult", "full"), at_least=0.05))
        axes.set(title=title, xlabel="epoch", ylim=(0, 1.02))
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="lower right")
    return figure, claims


def _curves(run: Run, scores: "pl.DataFrame", split: str) -> "pl.DataFrame":
    texts = [f"{name}={split}/{name}:{SHARE}" for name in ("easy", "difficult")]
    return curves_of(run, find_subsets(texts, run.examples, scores, class_names(run)))
