"""What all recipes share: runs that are trained where they are missing, and results that are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.figures import new_figure
from unseen.judge import subset_curves
from unseen.recipes.claims import Claim, check, write_claims
from unseen.recipes.pieces import Piece, in_order, run_facts
from unseen.runs import Run
from unseen.scoring import score

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SCALES = ("tiny", "small", "paper")


@dataclass(frozen=True)
class Study:
    """Where and how large recipes are cooked.

    Args:
        scale: of ``SCALES``.
        out: folder of the results.
        runs: folder of the runs, shared by all recipes.
        data_dir: see ``load``.
    """

    scale: str
    out: Path
    runs: Path
    data_dir: Path | None = None
    progress: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the runs of this scale."""
        return self.runs / self.scale

    def run(self, piece: Piece) -> Run:
        """The run of a piece: trained, resumed, or found finished; before it the one whose scores it needs."""
        if piece.scores is not None:
            self.run(piece.scores)
        options = piece.options(self.folder)
        folder = piece.folder(self.folder)
        return score(piece.data, piece.model, out=folder, data_dir=self.data_dir, resume=True, progress=self.progress, **options)

    def claim(
        self, figure: str, words: str, numbers: Sequence[float], at_least: float | None = None, at_most: float | None = None, **known: Any
    ) -> Claim:
        """A claim at this scale; see ``check``."""
        return check(figure, self.scale, words, numbers, at_least, at_most, **known)

    def write(self, name: str, figure: "Figure", claims: Sequence[Claim], pieces: Sequence[Piece]) -> None:
        """Write OUT/<scale>/<name>/: figure.png, figure.svg and claims.json, the same bytes for the same runs, and what those runs took."""
        from matplotlib import rc_context

        folder = Run(self.out / self.scale / name)
        with folder.writing("figure.png") as path:
            figure.savefig(path, dpi=130, bbox_inches="tight", format="png")
        with folder.writing("figure.svg") as path, rc_context({"svg.hashsalt": name}):
            figure.savefig(path, bbox_inches="tight", format="svg", metadata={"Date": None})
        with folder.writing("claims.json") as path:
            write_claims(path, claims)
        folder.write_json("runs.json", [run_facts(self.folder, piece) for piece in in_order(pieces)])


def canvas(width: float, height: float) -> "Figure":
    """A figure of so many inches, laid out by itself."""
    return new_figure(width, height)


def final_memorization(history: "pl.DataFrame") -> "pl.DataFrame":
    """seed, index and memorization of the last epoch measured: what each seed alone says."""
    import polars as pl

    last = history.filter(pl.col("epoch") == pl.col("epoch").max())
    return last.select("seed", "index", memorization=pl.col("loss_unseen") - pl.col("loss_seen")).sort("seed", "index")


def curve(curves: "pl.DataFrame", subset: str, side: str, quantity: str, seed: int) -> tuple[list[int], list[float]]:
    """Epochs and values of one curve of ``subset_curves``."""
    import polars as pl

    rows = curves.filter(pl.col("subset") == subset, pl.col("side") == side, pl.col("seed") == seed).sort("epoch")
    return rows["epoch"].to_list(), rows[quantity].to_list()


def seeds_of(table: "pl.DataFrame") -> list[int]:
    """The seeds of a table, in order."""
    return table["seed"].unique().sort().to_list()


def area(values: Sequence[float]) -> float:
    """Mean height of a curve: how soon something is learned, in one number."""
    return sum(values) / len(values)


def area_between(curves: "pl.DataFrame", high: str, low: str, side: str = "seen", quantity: str = "accuracy") -> list[float]:
    """Per seed: mean over the epochs of one subset's curve minus another's."""
    return [
        area(curve(curves, high, side, quantity, seed)[1]) - area(curve(curves, low, side, quantity, seed)[1]) for seed in seeds_of(curves)
    ]


def curves_of(run: Run, subsets: Mapping[str, Sequence[int]]) -> "pl.DataFrame":
    """``subset_curves`` of a run, with the test examples as the subset ``test``."""
    import polars as pl

    test = run.examples.filter(pl.col("split") == "test")["index"].to_list()
    return subset_curves(run.history, dict(subsets) | ({"test": test} if test else {}))
