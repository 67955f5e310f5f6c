"""Where a run comes from: made here by this user, or a stranger's, whose paths lead nowhere without consent.

A run that is made here holds ``origin.json``: the folder that its relative paths start from, and a mark, see ``marks``.
"""

import os
from pathlib import Path

from unseen.errors import UnseenError
from unseen.runs.marks import marked_home
from unseen.runs.run import Run

HUB = "hf:"
NETWORKS = (HUB, "timm:")
"""Features whose weights lie in a folder, or are fetched."""


def home_of(run: Run) -> Path | None:
    """The folder that the run's relative paths start from, where this user made it; None for a stranger's run."""
    return marked_home(run.path, run.read_json("config.json"))


def source_of(run: Run, names: tuple[str, ...] = ()) -> str:
    """What to load as the run's data: a name, ``hf:owner/name``, or a path, a relative one from where the run was made.

    Args:
        run: whose data are meant.
        names: of data sets that need no path.

    Raises:
        UnseenError: for a stranger's run that names what lies outside of its own folder, or on the network, unless the run is trusted
            (``--trust-paths``, ``open_run(path, trust_paths=True)``).
    """
    config = run.config
    data = config.data.data
    home = home_of(run)
    mine = home is not None or run.trusted
    flat = config.flat()
    lists = [text for text in (*flat["watch"], flat["train_on"]) if text and "@" in text]
    networks = [kind for kind in (flat["features"] or "").split("+") if kind.startswith(NETWORKS)]
    for said in [*lists, flat["scores"], *networks]:
        if said and not mine:
            raise _foreign(run, said)
    if data in names:
        return data
    if data.startswith(HUB):
        if not mine:
            raise _foreign(run, data)
        return data
    inside = run.path / data
    if not mine and data and inside.resolve().is_relative_to(run.path.resolve()) and inside.exists():
        return str(inside)
    if not mine and _names_a_place(data):
        raise _foreign(run, data)
    if home is not None and (home / data).exists():
        return str(home / data)
    return data


def _names_a_place(data: str) -> bool:
    """Whether this can be a path: nobody is told which ones are there."""
    return os.path.lexists(data) or os.sep in data or "." in data


def _foreign(run: Run, said: str) -> UnseenError:
    return UnseenError(
        f"{run.path} names {said!r}, outside of its own folder, and it was not made here by you. If you know where it comes from, add "
        "--trust-paths (open_run(path, trust_paths=True))."
    )
