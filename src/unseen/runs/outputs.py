"""Files that the user names by --out: a new or a regular one, and none that a run needs; and the runs below a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unseen.errors import UnseenError
from unseen.runs.run import FOLDERS, Run
from unseen.runs.schema import is_own


@contextmanager
def writing_out(path: Path) -> Iterator[Path]:
    """Yield a path whose content becomes ``path``, a file that the user named by --out. Raises UnseenError for one of a run's own."""
    for folder in (path.parent.resolve(), path.parent.resolve().parent):
        inside = folder == path.parent.resolve() or path.parent.resolve().name in FOLDERS
        if inside and (folder / "config.json").exists() and is_own(path.name):
            raise UnseenError(f"{path} is one of the run's own files. Choose another --out.")
    with Run(path.parent).writing(path.name) as temporary:
        yield temporary


def list_runs(root: Path) -> list[Run]:
    """All runs below a folder, newest last."""
    found = sorted(root.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent) for path in found]
