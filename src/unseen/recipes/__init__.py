"""The paper's figures, and some beyond them: each file one figure, with its set-up, its drawing and its claims.

A recipe trains what is missing, measures what is missing, draws the figure, and checks the figure's claims as data. ``SCALES`` of each file
holds the set-up as published (``paper``: 200 epochs, for a GPU), one for two CPU cores (``small``) and one for a test (``tiny``: digits).
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unseen.errors import UnseenError
from unseen.recipes.claims import Claim
from unseen.recipes.study import SCALES, Study

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
        names: of ``NAMES``, or ``all``. scale: tiny, small or paper. out: the folder of the figures, OUT/<scale>/<name>/. runs: where the
        runs go; those that are there are not trained again, one that was stopped goes on. data_dir: see ``load``.

    Each writes figure.png, figure.svg and claims.json.

    Raises:
        UnseenError: for a recipe or a scale that is not there.
    """
    unknown = [name for name in names if name not in (*NAMES, "all")]
    if unknown or scale not in SCALES or not names:
        raise UnseenError(
            f"There is no recipe {', '.join(unknown) or 'named'} at scale {scale!r}. The recipes are {', '.join(NAMES)} and all; "
            f"the scales are {', '.join(SCALES)}."
        )
    study = Study(scale, Path(out), Path(runs), data_dir, progress)
    for name in NAMES if "all" in names else dict.fromkeys(names):
        recipe: Any = importlib.import_module(f"unseen.recipes.{name}")
        figure, claims = recipe.cook(study)
        study.write(name, figure, claims)
        yield claims
