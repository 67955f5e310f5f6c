"""Files that appear whole or not at all, and locks: what a killed writer leaves, a full disk, a stranger's link."""

import errno
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unseen.errors import UnseenError


@contextmanager
def whole(final: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``final`` at the end. A full disk or a read-only folder is an UnseenError."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final)
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        raise UnseenError(_disk_error(final, error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("polars", "safetensors"):  # they wrap the operating system's errors in their own
            raise UnseenError(_disk_error(final, OSError(str(error)))) from error
        raise
    finally:
        with suppress(OSError):  # in a folder that cannot be written there is nothing to delete, and an error here would hide the first
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Keep other processes out; the system lets go of it with the process. Raises UnseenError where one has it."""
    import fcntl  # not on Windows

    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)  # a link in a stranger's run could lead anywhere
    except OSError as error:
        raise UnseenError(_disk_error(lock, error)) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnseenError(f"Another process is writing {lock.parent}. Wait until it is done, or choose another --out.") from error
        yield
    finally:
        os.close(file)


def is_leftover(name: str) -> bool:
    """Whether the file is one that a writer leaves behind where it is killed."""
    return name == ".lock" or bool(re.fullmatch(r"\..+\.\d+\.tmp", name))


def _remove_leftovers(final: Path) -> None:
    """Delete what killed writers of this file left, and a file of this process's name, which could be a stranger's link."""
    for path in final.parent.glob(f".{glob.escape(final.name)}.*.tmp"):
        writer = path.name.split(".")[-2]
        if writer == str(os.getpid()) or (writer.isdigit() and not _is_alive(int(writer))):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _disk_error(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC or "os error 28" in str(error) or "no space left" in str(error).lower():
        return f"The disk is full: {path} could not be written. What was finished is safe; free some space, then --resume."
    return f"{path} could not be written ({error.strerror or error}). Choose another --out, then go on with --resume."
