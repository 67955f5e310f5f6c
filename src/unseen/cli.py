"""The command line: a thin face of the Python functions. Flags are the names of ``Config``'s fields."""

import errno
import io
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, Union

import tyro

from unseen import __version__
from unseen.commands import COMMANDS, SHARED, command_help, nearest_command, overview, printable
from unseen.errors import UnseenError
from unseen.torchrun import is_first

LINES = "\n\t"
COMPLETION = "--tyro-"
"""How flags begin that print or write what a shell completes; tyro makes that."""
NO_MEMORY = "not enough memory|out of memory|cannot allocate memory|failed to map segment"
LEAST_SPACE = 2**30
"""Bytes of address space under which PyTorch and Polars end the process while they are imported, without a word of ours."""
STATUS = {
    0: "done; also where the reader of the output went away",
    1: "an error that unseen does not know: a defect, please report it",
    2: "bad input, or a file that cannot be read or written; the line says which, and what to do",
    3: "the output is full or closed",
    4: "there is not enough memory",
    129: "the terminal was closed (SIGHUP); what was finished is kept",
    130: "Ctrl-C; what was finished is kept",
    143: "SIGTERM; what was finished is kept",
}
"""Exit statuses. 137 is the system's: it ends processes so where memory runs out; what was finished is kept then, too."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what ends it is said in one line.

    Args:
        arguments: of the command line; None: those of the process.

    Returns:
        The exit status, see ``STATUS``.
    """
    if (space := _address_space()) < LEAST_SPACE:
        needed = f"importing PyTorch and Polars takes {LEAST_SPACE / 2**30:.0f} GiB"
        print(f"unseen: ulimit -v allows {space / 2**30:.2f} GiB, and {needed}. Raise it.", file=sys.stderr)
        return 4
    try:
        words = sys.argv[1:] if arguments is None else arguments
        _check_encoding(words)
        if (told := _told(words)) is not None:
            print(told)
            return 0
        command = _parsed(words)
        with nullcontext() if is_first() else redirect_stdout(io.StringIO()):
            if is_first() or isinstance(command, SHARED):
                return _run(command)
    except UnseenError as error:
        process = "" if is_first() else f" (process {os.environ['RANK']})"
        print(f"unseen{process}: {printable(str(error), kept=LINES)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("\nunseen: stopped. What was finished is kept; the same command goes on, `unseen score` with --resume.", file=sys.stderr)
        return stop.status if isinstance(stop, _Terminated) else 130
    except BrokenPipeError:
        _discard_output()
        return 0
    except MemoryError as error:
        return _no_memory(error)
    except Exception as error:
        if type(error).__name__ == "ColumnNotFoundError" and type(error).__module__.startswith("polars"):  # imported on use
            said = printable(str(error).splitlines()[0])
            print(f"unseen: a table of the run lacks a column: {said}. Write it again, or restore it.", file=sys.stderr)
            return 2
        if isinstance(error, RuntimeError | ImportError) and re.search(NO_MEMORY, str(error), re.IGNORECASE):  # as PyTorch says it
            return _no_memory(error)
        raise
    return 0


def _told(words: Sequence[str]) -> str | None:
    """The help or the version, where that is asked for. Raises UnseenError for a command that is not there."""
    if not words or words[0] in ("--help", "-h", "help"):
        return overview(COMMANDS)
    if words[0] == "--version":
        return f"unseen {__version__}"
    if words[0].startswith(COMPLETION):
        return None
    if words[0] not in COMMANDS:
        raise UnseenError(nearest_command(words[0], COMMANDS))
    return command_help(words[0], COMMANDS[words[0]]) if {"--help", "-h"} & set(words[1:]) else None


def _parsed(words: Sequence[str]) -> Any:
    """The command with its flags."""
    if not words[0].startswith(COMPLETION):
        kind: Any = COMMANDS[words[0]]
        return tyro.cli(kind, prog=f"unseen {words[0]}", args=words[1:], config=(tyro.conf.OmitArgPrefixes,))
    arms = [Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()]
    union: Any = Union[tuple(arms)]  # noqa: UP007, of a list
    return tyro.cli(union, prog="unseen", args=words, config=(tyro.conf.OmitArgPrefixes,))


def _address_space() -> float:
    """Bytes that ``ulimit -v`` allows; without a limit, and on Windows, infinity."""
    try:
        import resource
    except ImportError:
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _run(command: Any) -> int:
    """Call a command, and print what to do next. Only what is wrong with the output itself is caught here: it is full, or closed."""
    try:
        if (following := command()) is not None:
            print(following)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF):
            raise
        _discard_output()
        print(f"unseen: the output cannot be written ({error.strerror}). What was finished is kept.", file=sys.stderr)
        return 3
    return 0


def _discard_output() -> None:
    """What could not be written is not tried again: else Python complains when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _no_memory(error: Exception) -> int:
    said = (str(error).splitlines() or [""])[0]
    advice = "What was finished is kept. Give more memory (ulimit -v), or less data: --limit, --image-size, --shards."
    print(f"unseen: there is not enough memory{': ' if said else ''}{printable(said)}. {advice}", file=sys.stderr)
    return 4


def _check_encoding(words: Sequence[str]) -> None:
    """Raise UnseenError for what the locale cannot read: Python marks such bytes, and no library takes them."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            encoding = sys.getfilesystemencoding()
            raise UnseenError(f"{word!r} is not text in this locale's encoding, {encoding}. Set LC_ALL=C.UTF-8 or PYTHONUTF8=1.")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems and containers send it, or SIGHUP, as a terminal that is closed."""

    status = 143


def _terminate(number: int, _: FrameType | None) -> None:
    stop = _Terminated()
    stop.status = 128 + number
    raise stop


def _open_missing_streams() -> bool:
    """Whether the output was closed by who started this. A file that is opened must not get its number, or texts would go into it."""
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for as long as the process lives
    return closed


def entry() -> None:
    """The console script."""
    if _open_missing_streams():
        print(
            "unseen: the output is closed, so that nothing could be told. Run it with an output: > /dev/null if none is wanted.",
            file=sys.stderr,
        )
        sys.exit(3)
    for name in ("SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays so
            signal.signal(number, _terminate)
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal's encoding lacks is written as \\u…, not an error
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


if __name__ == "__main__":
    entry()
