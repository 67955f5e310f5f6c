"""Files that appear whole or not at all, and locks: what killed writers leave, full disks, strangers' links, pipes in place of files."""

import errno
import glob
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from unseen.errors import UnseenError

try:
    import fcntl
except ImportError:  # on Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer is opened, and then refused, without a wait
CLOSED = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
PAUSE = 0.05  # seconds between two tries to take a lock
LEFTOVER = re.compile(r"\..+\.([0-9a-f]{16}|\d+)\.tmp")
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@contextmanager
def whole(final: Path, clear: bool = True, replace: bool = True) -> Iterator[Path]:
    """Yield a path to write to; what is written becomes ``final`` at the end. A full disk or a read-only folder is an UnseenError.

    The temporary file has a random name, is opened as a new one and never through a link, and its writer holds a lock on it while it
    lives. Where the system has /proc, the path yielded names the open file itself, so that nobody can put another in its place.

    Args:
        final: a new file, or one to replace: a regular file or a link, which is replaced and not followed.
        clear: delete what killed writers of the same file left.
        replace: whether a file that is there may be replaced.
    """
    temporary = _temporary(final)  # known before it is there: a stop that comes between still deletes it
    file: int | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _refuse_special(final)
        if clear:
            clear_leftovers(final.parent, final.name)
        while (file := _new_file(temporary)) is None:
            temporary = _temporary(final)
        yield path_of(file, temporary)
        _publish(file, temporary, final, replace)
    except OSError as error:
        raise UnseenError(_disk_error(final, error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("polars", "safetensors"):  # they wrap the operating system's errors in their own
            raise UnseenError(_disk_error(final, OSError(str(error)))) from error
        raise
    finally:
        _surely(_delete, temporary)
        if file is not None:
            with suppress(OSError):
                os.close(file)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``final``, which must not be there, at the end. Nothing stays after an error. Errors as ``whole``."""
    temporary, folder = None, None
    try:
        clear_leftovers(final.parent, final.name)
        while True:
            temporary = _temporary(final)
            temporary.mkdir()
            folder = os.open(temporary, os.O_RDONLY | NO_LINK | CLOSED)
            _hold(folder)
            if os.path.lexists(temporary):
                break
            os.close(folder)
        yield temporary
        _publish(folder, temporary, final, replace=False)
    except OSError as error:
        raise UnseenError(_disk_error(final, error)) from error
    finally:
        if temporary is not None:
            _surely(partial(shutil.rmtree, ignore_errors=True), temporary)
        if folder is not None:
            os.close(folder)


@contextmanager
def locked(lock: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes out; the system lets go of it with the process. Raises UnseenError where one has it, after so many seconds."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_RDWR | os.O_CREAT | NO_LINK | AT_ONCE | CLOSED, 0o666)  # a link in a stranger's run could lead anywhere
    except OSError as error:
        raise UnseenError(_disk_error(lock, error)) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise UnseenError(f"{lock} is no file, as the lock of a run is. Take it out.")
        last = time.monotonic() + patience
        while not _take(file):
            if time.monotonic() >= last:
                raise UnseenError(f"Another process is writing {lock.parent}. Wait until it is done, or choose another --out.")
            time.sleep(PAUSE)
        yield
    finally:
        os.close(file)


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def regular(path: Path, follow: bool = False) -> Iterator[Path]:
    """Yield a path to read a file from, after it was opened and found to be a regular one.

    Where the system has /proc, the path yielded names the open file itself.

    Args:
        path: of the file.
        follow: whether a link is meant, as where the user names it.

    Raises:
        OSError: at once, for a link, a folder, a pipe, a socket or a device.
    """
    file = open_regular(path, follow)
    try:
        yield path_of(file, path)
    finally:
        os.close(file)


def open_regular(path: Path | str, follow: bool = False, folder: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor.

    Args:
        path: of the file.
        follow: whether a link is meant, as where the user names it.
        folder: an open one that the path starts from; None: where the process is.

    Raises:
        OSError: as ``regular``.
    """
    try:
        file = os.open(path, os.O_RDONLY | AT_ONCE | CLOSED | (0 if follow else NO_LINK), dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and not follow:
            raise OSError(error.errno, "it is a link, which is not followed here", str(path)) from error
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "it is a socket or a device, not a file", str(path)) from error
        raise
    kind = stat.S_IFMT(os.fstat(file).st_mode)
    if kind != stat.S_IFREG:
        os.close(file)
        raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something else')}, not a file", str(path))
    return file


def open_below(root: int | Path, parts: Sequence[str]) -> int:
    """Open a regular file below a folder, no part of whose path is a link, and return its descriptor.

    Each folder is opened from the one above it, so that what is swapped meanwhile leads nowhere else.

    Args:
        root: an open folder, where the system can open from it, else its path.
        parts: names of the folders below it, and of the file.

    Raises:
        OSError: as ``regular``.
    """
    if not isinstance(root, int):
        return open_regular(root.joinpath(*parts))
    above = os.dup(root)
    try:
        for part in parts[:-1]:
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | NO_LINK | CLOSED, dir_fd=above)
            except NotADirectoryError as error:
                raise OSError(errno.ELOOP, "a folder of its path is a link", "/".join(parts)) from error
            os.close(above)
            above = below
        return open_regular(parts[-1], folder=above)
    finally:
        os.close(above)


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a stranger's file names, below the folder of that file. Raises UnseenError for one that leads elsewhere."""
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise UnseenError(f"{name!r} leads out of {folder}. Files that a table names are read below its own folder: put them there.")
    return path


def open_folder(path: Path) -> int | Path:
    """What ``open_below`` takes: an open folder, which the caller closes, or its path."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | CLOSED) if os.open in os.supports_dir_fd else path


def read_regular(path: Path, most: int, follow: bool = False) -> bytes:
    """All bytes of a regular file. Raises OSError as ``regular``, and for a file of more than ``most`` bytes."""
    with os.fdopen(open_regular(path, follow), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
        return file.read()


def path_of(file: int, path: Path) -> Path:
    """A path that names an open file whatever happens to its name, where the system has one; else ``path``."""
    opened = Path(f"/proc/self/fd/{file}")
    return opened if opened.exists() else path


def is_leftover(name: str) -> bool:
    """Whether the file is one that a writer leaves behind where it is killed."""
    return name == ".lock" or bool(LEFTOVER.fullmatch(name))


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete what killed writers left in a folder, of one file or of all: temporary files and folders whose lock nobody holds."""
    with suppress(OSError):
        for path in folder.glob(f".{glob.escape(name) if name else '*'}.*.tmp"):
            if LEFTOVER.fullmatch(path.name):
                with suppress(OSError):
                    _delete_abandoned(path)


def clear_leftovers_below(folder: Path) -> None:
    """``clear_leftovers`` of a folder and of those in it, as truths have their own below weights; never through a link."""
    if folder.is_dir() and not folder.is_symlink():
        clear_leftovers(folder)
        with os.scandir(folder) as inside:
            for below in [Path(entry.path) for entry in inside if entry.is_dir(follow_symlinks=False)]:
                clear_leftovers(below)


def _delete_abandoned(path: Path) -> None:
    """Delete a temporary file or folder if no writer that lives holds its lock. Process numbers say nothing: each container has its own.

    The lock is kept until it is gone: a writer that has made the file and waits for its lock then finds that it has no name any more.
    """
    if fcntl is None:
        return
    try:
        file = os.open(path, os.O_RDONLY | NO_LINK | AT_ONCE | CLOSED)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # a link, which no writer makes
            path.unlink(missing_ok=True)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # an error where it is held, or where a file system has no locks: then it stays
        shutil.rmtree(path) if stat.S_ISDIR(os.fstat(file).st_mode) else path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _surely(delete: Callable[[Path], None], temporary: Path) -> None:
    """Delete it, once more where a stop came in between."""
    try:
        delete(temporary)
    except BaseException:
        delete(temporary)
        raise


def _delete(temporary: Path) -> None:
    with suppress(OSError):  # an error here would hide the first
        temporary.unlink(missing_ok=True)


def _temporary(final: Path) -> Path:
    return final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")


def _new_file(temporary: Path) -> int | None:
    """The descriptor of a new file, which holds its lock. None: somebody took it for a leftover before it was locked."""
    file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | CLOSED, 0o666)
    _hold(file)
    if os.fstat(file).st_nlink:
        return file
    os.close(file)
    return None


def _hold(file: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks: then nobody can tell a leftover, and it stays
            fcntl.flock(file, fcntl.LOCK_EX)


def _publish(file: int, temporary: Path, final: Path, replace: bool) -> None:
    """Give what was written its name. Raises OSError where another file lies under the temporary name by now."""
    if not os.path.samestat(os.fstat(file), os.lstat(temporary)):
        raise OSError(errno.EBUSY, "another process put something else in its place")
    if not replace and os.path.lexists(final):
        raise OSError(errno.EEXIST, "something is there by now")
    os.replace(temporary, final)


def _refuse_special(final: Path) -> None:
    """Refuse to replace what is no file: a device, a pipe, a folder."""
    with suppress(FileNotFoundError):
        kind = stat.S_IFMT(os.lstat(final).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise UnseenError(f"{final} is {KINDS.get(kind, 'no file')}. A new or a regular file can be written: choose another --out.")


def _disk_error(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC or "os error 28" in str(error) or "no space left" in str(error).lower():
        return f"The disk is full: {path} could not be written. What was finished is safe; free some space, then --resume."
    return f"{path} could not be written ({error.strerror or error}). Choose another --out, then go on with --resume."
