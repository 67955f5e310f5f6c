"""No result of other data, ever: what a run was made of is noted in it, and looked at whenever the data are loaded again."""

from pathlib import Path
from typing import Any

from unseen.data import NAMES, Shards, data_folder, difference, digest, is_stream, refuse_other
from unseen.errors import UnseenError
from unseen.runs import Run

NAME = "fingerprint.json"


def fingerprint(data: Any, data_dir: str | Path | None, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """What the data are in a few numbers; None for shards and streams, each of which is compared when it is read again.

    Args:
        data: what ``load`` takes.
        data_dir: where named sets lie.
        known: of what should be the same, so that files of a folder that did not change are not read again.
    """
    if isinstance(data, Shards) or is_stream(data):
        return None
    named = isinstance(data, str) and data in NAMES and (data_folder(data_dir) / data).exists()
    return digest(data_folder(data_dir) / data if named else data, known)


def noted_fingerprint(run: Run) -> dict[str, Any] | None:
    """What is noted of the data in the run; older runs do not know. Raises UnseenError for a broken file."""
    return run.read_json(NAME) if (run.path / NAME).exists() else None


def refuse_other_data(run: Run, data: Any, data_dir: str | Path | None) -> None:
    """Raise UnseenError, which says what changed, where these are not the data that the run was made of."""
    if (old := noted_fingerprint(run)) is None:
        return
    try:
        new = fingerprint(data, data_dir, old)
        if new is not None and difference(old, new):
            refuse_other(old, new, data if isinstance(data, str) else f"This {type(data).__name__}", run.path)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnseenError(
            f"{run.path / NAME} is no fingerprint of data ({error!r}). Restore it, or start the run again with --force."
        ) from error
