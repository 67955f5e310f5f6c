"""Figure 5: easy examples are learned faster than difficult ones, those trained on and those of the test set alike.

MNIST with the MLP of figure 2, and CIFAR-10 with VGG-11 without batch norm (learning rate 0.01, momentum 0.9, divided by 10 at
epochs 100 and 150; 200 epochs in the paper); real labels. What is easy and what is difficult is computed beforehand, by a run that
trains on train and test together (``--join-test``), so that test examples have scores too; the curves are another run's, trained on
train alone.
At small scale CIFAR-10 is cut to 4,000 training and 1,000 test images and VGG-11 narrowed. Cost there: about 15 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

from unseen.dynamics import class_names
from unseen.plots import draw_curves
from unseen.recipes import fig2
from unseen.recipes.claims import Claim
from unseen.recipes.study import Study, area_between, canvas, curves_of
from unseen.runs import Run
from unseen.subsets import find_subsets

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SHARE = 0.2
PAPER: dict[str, Any] = {"data": "cifar10", "model": "vgg11", "lr": 0.01, "momentum": 0.9, "batch_size": 256, "epochs": 200}
PAPER |= {"schedule": "step", "milestones": (100, 150)}
CUT: dict[str, Any] = {"width": 0.25, "groups": 0, "tied": True, "batch_size": 32, "lr": 0.02}
SCALES: dict[str, dict[str, Any]] = {
    "paper": PAPER | {"seeds": 3},
    "small": PAPER | CUT | {"limit": 4000, "test_limit": 1000, "epochs": 30, "milestones": (22, 27), "history_every": 2},
    "tiny": PAPER | CUT | {"data": "digits", "limit": 200, "test_limit": 60, "epochs": 6, "milestones": (4, 5)},
}


def cifar_scores(study: Study) -> Run:
    """Train and test scored together; also read by figures 6 and 8."""
    settings = SCALES[study.scale]
    return study.score("cifar-joined", **settings | {"history_every": settings["epochs"], "seeds": 1}, join_test=True)


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy over the epochs: a panel each for train and test of both data sets."""
    settings = fig2.SCALES[study.scale]
    beforehand = study.score("mnist-joined", **settings | {"history_every": settings["epochs"], "seeds": 1}, join_test=True)
    pairs = {"MNIST, MLP": (fig2.clean_run(study), beforehand)}
    pairs["CIFAR-10, VGG-11"] = study.score("cifar", **SCALES[study.scale]), cifar_scores(study)
    figure, claims = canvas(12, 3.0), []
    panels = figure.subplots(1, 4, sharey=True)
    for number, (title, (run, scored)) in enumerate(pairs.items()):
        for split, side, place in (("train", "seen", 0), ("test", "full", 1)):
            curves = _curves(run, scored.scores, split)
            axes = panels[2 * number + place]
            draw_curves(axes, curves, "accuracy", [side], ["easy", "difficult"])
            axes.set_title(f"{title}, {split}")
            words = f"{title}, {split}: accuracy of the easiest minus that of the most difficult fifth, mean over epochs"
            claims.append(study.claim("fig5", words, area_between(curves, "easy", "difficult", side), at_least=0.05))
    panels[-1].legend(frameon=False, fontsize=8)
    return figure, claims


def _curves(run: Run, scores: "pl.DataFrame", split: str) -> "pl.DataFrame":
    texts = [f"{name}={split}/{name}:{SHARE}" for name in ("easy", "difficult")]
    return curves_of(run, find_subsets(texts, run.examples, scores, class_names(run)))
