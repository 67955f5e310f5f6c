"""No result of other data, ever: what a run was made of is noted in it, and looked at whenever the data are loaded again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unseen.data import NAMES, Shards, data_folder, difference, digest, is_stream, mark_of, outline, refuse_other
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
    place = _place(data, data_dir)
    return digest(data if place is None else place, known)


def _place(data: Any, data_dir: str | Path | None) -> Path | None:
    """Where the files of the data lie; None for data that are not in files."""
    if not isinstance(data, str | Path):
        return None
    place = data_folder(data_dir) / data if data in NAMES else Path(data)
    try:
        return place if data and place.exists() else None
    except OSError:  # a name that is too long for a path
        return None


def _outline(place: Path) -> int | None:
    """None for what cannot be looked at: the reader says why."""
    try:
        return outline(place)
    except OSError:
        return None


@contextmanager
def unchanged(data: Any, data_dir: str | Path | None) -> Iterator[None]:
    """Raise UnseenError at the end where files of the data were written meanwhile: nobody knows then which of the two was read."""
    place = _place(data, data_dir)
    before = None if place is None else _outline(place)
    yield
    if place and before is not None and _outline(place) != before:
        raise UnseenError(f"{place} was written while it was read. Wait until nothing writes there, then start again.")


def noted_fingerprint(run: Run) -> dict[str, Any] | None:
    """What is noted of the data in the run; older runs do not know. Raises UnseenError for a broken file."""
    return run.read_json(NAME) if (run.path / NAME).exists() else None


def noted_mark(run: Run) -> str | None:
    """What decisions on a run's examples carry, to say of which data they are; None where the run does not know. Errors as above."""
    noted = noted_fingerprint(run)
    try:
        return None if noted is None else mark_of(noted)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise _no_fingerprint(run, error) from error


def refuse_other_data(run: Run, data: Any, data_dir: str | Path | None) -> None:
    """Raise UnseenError, which says what changed, where these are not the data that the run was made of."""
    if (old := noted_fingerprint(run)) is None:
        return
    try:
        new = fingerprint(data, data_dir, old)
        if new is not None:
            refuse_other(old, new, str(data) if isinstance(data, str | Path) else f"This {type(data).__name__}", run.path)
    except UnseenError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise _no_fingerprint(run, error) from error


def refuse_other_scores(run: Run, scores: Run) -> None:
    """Raise UnseenError where the run whose scores rank a run's examples was made of other data: its index names other examples."""
    old, new = noted_fingerprint(scores), noted_fingerprint(run)
    if old is None or new is None or old["kind"] != new["kind"] or scores.path == run.path:
        return  # nobody knows
    try:
        changed = difference(old, new)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise _no_fingerprint(scores, error) from error
    if changed:
        raise UnseenError(
            f"The scores of {scores.path} are of other data than those of {run.path}: {changed}. Score these data first, and give that run "
            "with --scores."
        )


def _no_fingerprint(run: Run, error: Exception) -> UnseenError:
    return UnseenError(f"{run.path / NAME} is no fingerprint of data ({error!r}). Restore it, or start the run again with --force.")
