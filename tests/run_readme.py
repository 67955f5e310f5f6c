"""Execute the blocks of Markdown pages: Python, and the ``unseen`` commands of ``sh`` blocks, in order, each page in an empty folder.

A ``text`` block right behind an ``sh`` block is what the commands print, in part: each of its lines must be there, but for its numbers.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block that is executed; ``bash`` blocks are only shown."""
    return [(language, block) for language, block, _ in _blocks(page)]


def _blocks(page: str) -> list[tuple[str, str, str]]:
    """With the output that the page shows behind it, or none."""
    return re.findall(r"^```(python|sh)\n(.*?)^```(?:\n+```text\n(.*?)^```)?", page, flags=re.MULTILINE | re.DOTALL)


def masked(line: str) -> str:
    """A line without what differs between machines: numbers, the space around them, the length of bars."""
    return re.sub(r"[\s─█]+", " ", re.sub(r"[\d.,]+", "#", line)).strip()


def missing_lines(shown: str, printed: str) -> list[str]:
    """Lines that a page shows and the commands did not print."""
    there = {masked(line) for line in printed.splitlines()}
    return [line for line in shown.splitlines() if masked(line) not in there]


def python_blocks(page: str) -> list[str]:
    return [block for language, block in blocks(page) if language == "python"]


def run_commands(block: str, shown: str = "") -> None:
    from unseen.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed) if shown else contextlib.nullcontext():
        _run_lines(block, main)
    if lines := missing_lines(shown, printed.getvalue()):
        sys.exit(f"not printed: {lines[0]}\nbut:\n{printed.getvalue()}")


def _run_lines(block: str, main: Callable[[list[str]], int]) -> None:
    for line in block.replace("\\\n", "").splitlines():
        command, _, file = line.partition(" > ")
        words = shlex.split(command, comments=True)
        with contextlib.ExitStack() as stack:
            if file:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(file.strip(), "w", encoding="utf-8"))))
            if words and (words[0] != "unseen" or main(words[1:])):
                sys.exit(f"failed: {line}")


def run_page(path: Path) -> None:
    found = _blocks(path.read_text(encoding="utf-8"))
    if not found:
        sys.exit(f"{path} has no block to execute")
    namespace: dict[str, object] = {"__name__": "__main__"}
    os.chdir(tempfile.mkdtemp())
    for number, (language, block, shown) in enumerate(found, 1):
        print(f"{path.name}: block {number} of {len(found)}", flush=True)
        if language == "sh":
            run_commands(block, shown)
        else:
            exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        run_page(page)
