"""Figure 10: the more labels are random, the slower they are fitted; test accuracy peaks, then falls.

CIFAR-10, VGG-11 without batch norm, 0 to 50,000 of 50,000 labels random, the learning rate divided by 10 twice; and falling by a
cosine, to test the caption's remark that the steps cannot fit labels that are all random. Ordinary
networks, without masks. At small scale 10,000 images, VGG-11 narrowed. Cost there: 12 runs, about 30 minutes on two cores.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from unseen.plots import draw_curve
from unseen.recipes.claims import Claim
from unseen.recipes.fig5 import TINY, VGG
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, area, canvas, curve, curves_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SCHEDULES = ("step", "cosine")
SCALES: dict[str, dict[str, Any]] = {
    "paper": VGG | {"limit": 50_000, "history_every": 10},
    "small": VGG | {"width": 0.25, "limit": 10_000, "test_limit": 2000, "batch_size": 64, "epochs": 40, "milestones": (20, 30)},
    "tiny": VGG | TINY | {"width": 0.25},
}


def piece(scale: str, schedule: str, share: float) -> Piece:
    """An ordinary network on labels of which a share is random."""
    count = round(share * SCALES[scale]["limit"])
    settings = SCALES[scale] | {"schedule": schedule, "random_labels": count, "estimator": "plain"}
    return Piece(f"vgg-{schedule}-{count}", settings)


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from."""
    return [piece(scale, schedule, share) for share in SHARES for schedule in SCHEDULES]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy on the training labels and on the test set over the epochs, a colour per number of random labels, a column per schedule."""
    found = {
        (schedule, share): curves_of(run, {"train": run.scores["index"].to_list()})
        for schedule in SCHEDULES
        for share in SHARES
        for run in [study.run(piece(study.scale, schedule, share))]
    }
    figure = canvas(7, 3.2)
    for axes, schedule in zip(figure.subplots(1, 2, sharey=True), SCHEDULES, strict=True):
        for share in SHARES:
            label = f"{round(share * SCALES[study.scale]['limit']):,}"
            for subset, dash in (("train", "-"), ("test", ":")):
                words = label if subset == "train" else None
                draw_curve(axes, found[schedule, share], subset, "full", "accuracy", label=words, color=_colour(share), linestyle=dash)
        axes.set(title=f"{schedule} schedule", xlabel="epoch", ylim=(0, 1.02))
    left = figure.axes[0]
    left.set_ylabel("accuracy")
    for dash, words in (("-", "training"), (":", "test")):
        left.plot([], [], color="black", linestyle=dash, label=words)
    figure.legend(*left.get_legend_handles_labels(), title="random labels", loc="outside right center")
    return figure, _claims(study, found)


def _claims(study: Study, found: "dict[tuple[str, float], pl.DataFrame]") -> list[Claim]:
    claims = []
    for schedule in SCHEDULES:
        heights = [area(curve(found[schedule, share], "train", "full", "accuracy", 0)[1]) for share in SHARES]
        falls = [
            max(test) - test[-1] for share in SHARES[1:-1] for test in [curve(found[schedule, share], "test", "full", "accuracy", 0)[1]]
        ]
        ordered = sum(a > b for a, b in pairwise(heights)) / (len(heights) - 1)
        words = f"{schedule}: more random labels are fitted more slowly: share of neighbouring noise levels in this order"
        claims.append(study.claim("fig10", words, [ordered], at_least=1.0))
        words = f"{schedule}: test accuracy falls after its peak, mean over 20% to 80% random labels, by"
        claims.append(study.claim("fig10", words, [area(falls)], at_least=0.01))
    epochs, step = curve(found["step", 1.0], "train", "full", "accuracy", 0)
    first = max(value for epoch, value in zip(epochs, step, strict=True) if epoch <= max(epochs[0], SCALES[study.scale]["milestones"][0]))
    why = f"at the first division of the rate {first:.0%} of them are fitted, at the end {step[-1]:.0%}"
    known: Any = {"needs_paper_scale": True, "why": why}
    ends = {schedule: curve(found[schedule, 1.0], "train", "full", "accuracy", 0)[1][-1] for schedule in SCHEDULES}
    claims.append(
        study.claim("fig10", "step decay does not fit labels that are all random: accuracy on them", [ends["step"]], at_most=0.9, **known)
    )
    words = "… where a cosine fits them better: by"
    claims.append(study.claim("fig10", words, [ends["cosine"] - ends["step"]], at_least=0.02, **known))
    return claims


def _colour(share: float) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    red, green, blue, alpha = colormaps["viridis"](0.9 * share)
    return float(red), float(green), float(blue), float(alpha)
