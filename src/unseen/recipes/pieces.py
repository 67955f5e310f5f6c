"""Pieces of the recipes: the runs that figures are drawn from, as data, so that they can be planned before any is trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unseen.runs import Run
from unseen.scoring import settings_of


@dataclass(frozen=True)
class Piece:
    """One run.

    Attributes:
        name: of its folder, before the digest of its configuration.
        settings: options of ``Config``, with data and model.
        scores: the piece whose scores say what is easy and what is difficult, for one that trains on a part; it comes first.
    """

    name: str
    settings: Mapping[str, Any]
    scores: "Piece | None" = None

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.settings["data"])

    @property
    def model(self) -> str:
        """The network's name."""
        return str(self.settings.get("model", "mlp"))

    def options(self, runs: Path) -> dict[str, Any]:
        """What ``score`` takes; by turn-over dropout unless told."""
        options = {"estimator": "turnover"} | {name: value for name, value in self.settings.items() if name not in ("data", "model")}
        return options | ({"scores": str(self.scores.folder(runs))} if self.scores else {})

    def folder(self, runs: Path) -> Path:
        """Its run's folder below ``runs``, that of the scale."""
        return runs / f"{self.name}-{settings_of(self.data, self.model, self.options(runs)).digest()}"


def all_finished(pieces: Iterable[Piece], runs: Path) -> bool:
    """Whether the runs of all pieces are there, with those whose scores they need."""
    finished, total = count_finished(pieces, runs)
    return finished == total


def count_finished(pieces: Iterable[Piece], runs: Path) -> tuple[int, int]:
    """How many of the runs of these pieces are there, and how many they are; each counts once."""
    folders = {piece.folder(runs) for piece in in_order(pieces)}
    return sum(Run(folder).finished for folder in folders), len(folders)


def in_order(pieces: Iterable[Piece]) -> list[Piece]:
    """Each piece once, and after the scores that it needs."""
    found: dict[str, Piece] = {}
    for piece in pieces:
        for one in (piece.scores, piece):
            if one is not None:
                found.setdefault(repr(one), one)
    return list(found.values())


def run_facts(runs: Path, piece: Piece) -> dict[str, Any]:
    """What a finished piece was trained on and how long: name, epochs, seeds, hardware, torch, seconds of training and of measuring."""
    run = Run(piece.folder(runs))
    config, summary = run.config, run.summary
    facts = {"name": piece.name, "epochs": config.training.epochs, "seeds": config.seeds}
    return facts | {name: summary[name] for name in ("hardware", "torch", "training_seconds", "measuring_seconds") if name in summary}
