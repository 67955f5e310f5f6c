"""Execute the Python blocks of a Markdown page, in order, in one namespace and an empty folder."""

import os
import re
import sys
import tempfile
from pathlib import Path


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def main(path: Path) -> None:
    blocks = python_blocks(path.read_text(encoding="utf-8"))
    if not blocks:
        sys.exit(f"{path} has no Python block")
    namespace: dict[str, object] = {"__name__": "__main__"}
    os.chdir(tempfile.mkdtemp())
    for number, block in enumerate(blocks, 1):
        print(f"{path.name}: block {number} of {len(blocks)}", flush=True)
        exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
