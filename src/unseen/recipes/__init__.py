"""The paper's figures, and some beyond them: each file one figure, with its set-up, its drawing and its claims.

A recipe trains what is missing, measures what is missing, draws the figure, and checks the figure's claims as data. ``SCALES`` of each file
holds the set-up as published (``paper``: 200 epochs, for a GPU), one for two CPU cores (``small``) and one for a test (``tiny``: digits).
"""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from unseen.errors import UnseenError
from unseen.figures import style
from unseen.recipes.claims import Claim
from unseen.recipes.pieces import all_finished, count_finished
from unseen.recipes.pool import train_pieces
from unseen.recipes.study import SCALES, Study

VALUE = ("fig6", "fig5", "fig8", "fig9", "fig10", "fig3", "fig4", "fig2", "fig7", "early", "inputs", "robust")
"""What is trained first where time is short."""
NAMES = ("fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "inputs", "robust", "early")


def cook(
    names: "tuple[str, ...] | list[str]" = ("all",),
    scale: str = "small",
    out: Path = Path("docs/results"),
    runs: Path = Path("runs/recipes"),
    data_dir: Path | None = None,
    progress: bool = False,
) -> "Iterator[list[Claim]]":
    """Cook recipes one after the other and yield the claims of each.

    Args:
        names: of ``NAMES``, or ``all``.
        scale: tiny, small or paper.
        out: the folder of the figures, which go to OUT/<scale>/<name>/.
        runs: where the runs go; those that are there are not trained again, one that was stopped goes on.
        data_dir: where named data sets lie; see ``load``.
        progress: show a bar.

    Yields:
        The claims of a recipe, once its figure.png, figure.svg and claims.json are written.

    Raises:
        UnseenError: for a recipe or a scale that is not there.
    """
    study = Study(_checked(names, scale), Path(out), Path(runs), data_dir, progress)
    for name in NAMES if "all" in names else dict.fromkeys(names):
        with style():
            figure, claims = recipe_of(name).cook(study)
        study.write(name, figure, claims, recipe_of(name).pieces(scale))
        yield claims


def train(
    names: "tuple[str, ...] | list[str]",
    scale: str,
    minutes: float,
    runs: Path = Path("runs/recipes"),
    data_dir: Path | None = None,
    jobs: int = 0,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Train what fits into some minutes of the runs that recipes need, the most valuable first; the next call goes on from there.

    Args:
        names: of ``NAMES``, or ``all``.
        scale: tiny, small or paper.
        minutes: after which everything is stopped.
        runs: as for ``cook``.
        data_dir: see ``load``.
        jobs: processes side by side; 0: 3 on a graphics card, so that it works while others read and write, else 1.
        say: told what happens, a line each.

    Returns:
        The recipes whose runs are all there, which ``cook`` draws without training.

    Raises:
        UnseenError: for a recipe or a scale that is not there, where runs failed and no figure is ready, and where the minutes were too few
            to finish anything.
    """
    folder = Path(runs) / _checked(names, scale)
    if not minutes >= 0 or jobs < 0:
        raise UnseenError(
            f"--minutes is {minutes:g} and --jobs {jobs}. Allowed: a number of minutes, and processes from 1 up; 0 jobs choose."
        )
    chosen = [name for name in VALUE if "all" in names or name in names]
    pieces = [piece for name in chosen for piece in recipe_of(name).pieces(scale)]
    before, started = count_finished(pieces, folder), time.monotonic()
    jobs = jobs or (min(3, os.cpu_count() or 1) if torch.cuda.is_available() else 1)
    train_pieces(pieces, folder, data_dir, 60 * minutes, jobs, say)
    ready = [name for name in chosen if all_finished(recipe_of(name).pieces(scale), folder)]
    finished, total = count_finished(pieces, folder)
    if finished < total and not ready and time.monotonic() - started < 60 * minutes:
        raise UnseenError(
            f"{total - finished} of {total} runs could not be trained, so there is no figure to draw; the lines above say why. What is "
            "finished is kept, and the same command goes on from there."
        )
    if finished < total and (finished, total) == before:
        raise UnseenError(
            f"--minutes is {minutes:g}, in which none of the {total - finished} runs that are missing was finished. What they have is "
            "kept, and the same command goes on from there; or give it more minutes."
        )
    say(f"{finished} of {total} runs are there; figures to draw: {', '.join(ready) or 'none yet'}.")
    return ready


def recipe_of(name: str) -> Any:
    """The module of a recipe: ``pieces(scale)`` and ``cook(study)``."""
    return importlib.import_module(f"unseen.recipes.{name}")


def _checked(names: "tuple[str, ...] | list[str]", scale: str) -> str:
    """The scale. Raises UnseenError for a recipe or a scale that is not there."""
    unknown = [name for name in names if name not in (*NAMES, "all")]
    if unknown or scale not in SCALES or not names:
        raise UnseenError(
            f"There is no recipe {', '.join(unknown) or 'named'} at scale {scale!r}. The recipes are {', '.join(NAMES)} and all; "
            f"the scales are {', '.join(SCALES)}."
        )
    return scale
