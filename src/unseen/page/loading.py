"""The data of a run, for its page: loaded again where they are, or a sentence on how to see them."""

import re
from pathlib import Path
from typing import Any

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.runs import Run
from unseen.scoring import noted_mark, run_examples


def load_examples(run: Run, data: Any = None, data_dir: str | Path | None = None) -> tuple[Examples | None, str]:
    """The run's examples, or None and what to do to see them."""
    if _shows_only(data):
        return None, ""
    noted_mark(run)  # a broken file is no reason to go on without
    try:
        return run_examples(run, data, data_dir=data_dir, as_scored=False)[1], ""
    except UnseenError as error:
        if data is not None:
            raise
        if re.fullmatch(r".+-[0-9a-f]{8}", run.config.data.data):  # how ``score`` names what came from Python
            return None, "No pictures: this run was made of data from Python. report(run, data=…) with the same data shows them."
        note = f"No pictures: the run's data could not be loaded ({error}). --data-dir says where they are; in Python, report(run, data=…)."
        return None, note


def _shows_only(data: Any) -> bool:
    """Whether data is something to show (texts, a frame) and not what a run is made of."""
    import polars as pl

    return isinstance(data, pl.DataFrame | list)
