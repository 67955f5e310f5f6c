"""The command line: a thin face of the Python functions. Flags are the names of ``Config``'s fields."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import tyro

from unseen.commands import COMMANDS, SHARED, printable
from unseen.errors import UnseenError
from unseen.torchrun import is_first

LINES = "\n\t"


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM."""
    arms = [Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()]
    union: Any = arms[0]
    for arm in arms[1:]:
        union = union | arm
    try:
        _check_encoding(sys.argv[1:] if arguments is None else arguments)
        command: Any = tyro.cli(union, prog="unseen", args=arguments, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
        with nullcontext() if is_first() else redirect_stdout(io.StringIO()):
            if is_first() or isinstance(command, SHARED):
                command()
    except UnseenError as error:
        process = "" if is_first() else f" (process {os.environ['RANK']})"
        print(f"unseen{process}: {printable(str(error), kept=LINES)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("\nunseen: stopped. What was finished is kept; the same command goes on, `unseen score` with --resume.", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at the end
        return 0
    return 0


def _check_encoding(words: Sequence[str]) -> None:
    """Raise UnseenError for what the locale cannot read: Python marks such bytes, and no library takes them."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            encoding = sys.getfilesystemencoding()
            raise UnseenError(f"{word!r} is not text in this locale's encoding, {encoding}. Set LC_ALL=C.UTF-8 or PYTHONUTF8=1.")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems and containers send it."""


def _terminate(_: int, __: FrameType | None) -> None:
    raise _Terminated


def entry() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal's encoding lacks is written as \\u…, not an error
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


if __name__ == "__main__":
    entry()
