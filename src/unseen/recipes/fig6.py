"""Figure 6: what is learned from difficult examples carries over to easy ones, and hardly the other way round.

CIFAR-10, VGG-11 as in figure 5, whose scores say what is easy and what is difficult. One run trains on the easiest examples alone and
watches the most difficult ones, the other the reverse; both subsets have the same size, both networks are ordinary ones.
Cost at small scale: two runs of three seeds on a fifth of the images, about 3 minutes on two cores.
"""

from typing import TYPE_CHECKING

from unseen.judge import run_subsets
from unseen.plots import COLOURS, draw_curve
from unseen.recipes.claims import Claim
from unseen.recipes.fig5 import PLAIN, SHARE, cifar_scores
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, curve, curves_of, seeds_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def transfer(scale: str, trained: str) -> Piece:
    """Trained on the easy or the difficult subset alone; both are watched."""
    watch = (f"easy:{SHARE}", f"difficult:{SHARE}")
    return Piece(f"cifar-{trained}-only", PLAIN[scale] | {"train_on": f"{trained}:{SHARE}", "watch": watch}, cifar_scores(scale))


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from, the scores first."""
    return [cifar_scores(scale), *(transfer(scale, trained) for trained in ("easy", "difficult"))]


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """Accuracy over the epochs on both subsets, trained on either."""
    figure, last, names = canvas(7, 2.9), {}, {"easy": "easiest", "difficult": "most difficult"}
    for axes, trained, watched in zip(figure.subplots(1, 2, sharey=True), ("easy", "difficult"), ("difficult", "easy"), strict=True):
        run = study.run(transfer(study.scale, trained))
        curves = curves_of(run, run_subsets(run))
        for name, words, dash in ((trained, "training", "-"), (watched, "not trained on", ":")):
            draw_curve(axes, curves, name, "full", "accuracy", label=f"{name}, {words}", color=COLOURS[name], linestyle=dash)
        axes.set(title=f"trained on the {names[trained]} {SHARE:.0%}", xlabel="epoch", ylim=(0, 1.02))
        axes.legend(loc="best")
        last[trained] = _last(curves, watched)
    figure.axes[0].set_ylabel("accuracy")
    gains = [back - forth for back, forth in zip(last["difficult"], last["easy"], strict=True)]
    return figure, [
        study.claim(
            "fig6", "accuracy on easy after training on difficult minus that on difficult after training on easy", gains, at_least=0.1
        ),
        study.claim("fig6", "difficult → easy transfers: accuracy on easy", last["difficult"], at_least=0.2),
        study.claim("fig6", "easy → difficult hardly does: accuracy on difficult", last["easy"], at_most=0.2),
    ]


def _last(curves: "pl.DataFrame", subset: str) -> list[float]:
    return [curve(curves, subset, "full", "accuracy", seed)[1][-1] for seed in seeds_of(curves)]
