"""Beyond the paper: does easy before difficult survive another optimiser, width or batch size?

MNIST with a third of the labels random, as in figure 3; the MLP with 256 to 16,384 hidden units, SGD with momentum, Adam, batches of 64
to 1,024. Easy: labels that are right; difficult: labels that are wrong.
Cost at small scale: nine runs on 6,000 images, about 10 minutes on two cores.
"""

from typing import TYPE_CHECKING, Any

from unseen.judge import run_subsets
from unseen.recipes.claims import Claim
from unseen.recipes.fig2 import PAPER
from unseen.recipes.pieces import Piece
from unseen.recipes.study import Study, canvas, curve, curves_of, seeds_of
from unseen.scoring import detection

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

BASE = PAPER | {"watch": ("easy=right", "difficult=wrong"), "seeds": 1}
SCALES: dict[str, dict[str, Any]] = {
    "paper": BASE | {"random_labels": 20_000},
    "small": BASE
    | {"limit": 6000, "test_limit": 1000, "random_labels": 2000, "epochs": 20, "batch_size": 64, "hidden": (1024,), "history_every": 2},
    "tiny": BASE
    | {"data": "digits", "hidden": (256,), "limit": 500, "random_labels": 150, "epochs": 10, "batch_size": 16, "history_every": 2},
}
CHANGES: dict[str, dict[str, Any]] = {
    "as in figure 2": {},
    "256 units": {"hidden": (256,)},
    "4,096 units": {"hidden": (4096,)},
    "16,384 units": {"hidden": (16384,)},
    "momentum 0.9": {"momentum": 0.9, "lr": 0.01},
    "Adam": {"optimizer": "adam", "lr": 0.0003},
    "batch 4 times as large": {"batch_size": 4.0, "lr": 0.12},
    "batch 4 times as small": {"batch_size": 0.25, "lr": 0.03},
}


def pieces(scale: str) -> list[Piece]:
    """The runs that the figure is drawn from, in the order of ``_changes``."""
    base = SCALES[scale]
    found = []
    for name, change in _changes(scale).items():
        scaled = {
            key: round(value * base[key]) if isinstance(value, float) and key == "batch_size" else value for key, value in change.items()
        }
        found.append(Piece(f"robust-{name.replace(' ', '-').replace(',', '').lower()}", base | scaled))
    return found


def _changes(scale: str) -> dict[str, dict[str, Any]]:
    return {name: change for name, change in CHANGES.items() if scale != "tiny" or name not in ("4,096 units", "16,384 units")}


def cook(study: Study) -> "tuple[Figure, list[Claim]]":
    """A pair of bars per change: how far ahead easy is, and how well memorization finds the wrong labels."""
    ahead, rocs = {}, {}
    for name, piece in zip(_changes(study.scale), pieces(study.scale), strict=True):
        run = study.run(piece)
        ahead[name] = _leads(curves_of(run, run_subsets(run)))
        scores = run.scores
        rocs[name] = detection((scores["given_label"] != scores["true_label"]).to_numpy(), scores["memorization"].to_numpy())["auroc"]
    figure = canvas(8, 3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(list(ahead), [values[0] for values in ahead.values()], color="#4477aa")
    right.barh(list(rocs), list(rocs.values()), color="#cc6677")
    left.set(xlabel="accuracy of easy minus difficult, where largest", xlim=(0, 1))
    right.set(xlabel="AUROC of wrong labels by memorization", xlim=(0.5, 1))
    left.invert_yaxis()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    words = "{}: easy is learned first: largest lead of its accuracy over that of difficult"
    return figure, [study.claim("robust", words.format(name), values, at_least=0.3) for name, values in ahead.items()]


def _leads(curves: "pl.DataFrame") -> list[float]:
    """Per seed: the largest lead of easy. (A mean over the epochs would say how long a run went on after all was learned.)"""
    pairs = [[curve(curves, name, "seen", "accuracy", seed)[1] for name in ("easy", "difficult")] for seed in seeds_of(curves)]
    return [max(a - b for a, b in zip(*pair, strict=True)) for pair in pairs]
