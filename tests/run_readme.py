"""Execute the blocks of Markdown pages: Python, and the ``unseen`` commands of ``sh`` blocks, in order, each page in an empty folder."""

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block that is executed; ``bash`` blocks are only shown."""
    return re.findall(r"^```(python|sh)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> list[str]:
    return [block for language, block in blocks(page) if language == "python"]


def run_commands(block: str) -> None:
    from unseen.cli import main

    for line in block.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words and (words[0] != "unseen" or main(words[1:])):
            sys.exit(f"failed: {line}")


def run_page(path: Path) -> None:
    found = blocks(path.read_text(encoding="utf-8"))
    if not found:
        sys.exit(f"{path} has no block to execute")
    namespace: dict[str, object] = {"__name__": "__main__"}
    os.chdir(tempfile.mkdtemp())
    for number, (language, block) in enumerate(found, 1):
        print(f"{path.name}: block {number} of {len(found)}", flush=True)
        if language == "sh":
            run_commands(block)
        else:
            exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        run_page(page)
