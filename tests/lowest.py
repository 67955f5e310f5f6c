"""Print the lowest versions that pyproject.toml allows, as constraints of pip: what ``make test-lowest`` installs."""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(text: str, extras: tuple[str, ...] = ("dev",)) -> list[str]:
    """A line ``name==version`` per dependency. Exits where one has no lower bound.

    >>> lowest('[project]\\ndependencies = ["torch>=2.6", "cleanlab[datalab]>=2.9,<3"]\\noptional-dependencies = {dev = []}')
    ['torch==2.6', 'cleanlab==2.9']
    >>> lowest('[project]\\nname = "u"\\ndependencies = []\\noptional-dependencies = {a = ["x>=1"], dev = ["u[a]", "y>=2"]}')
    ['y==2', 'x==1']
    """
    project = tomllib.loads(text)["project"]
    wanted, asked = list(project["dependencies"]), list(extras)
    for extra in asked:  # grows: an extra may ask for others of this project
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project.get('name')}\[([\w,-]+)\]", line)
            asked += [name for name in own[1].split(",") if name not in asked] if own else []
            wanted += [] if own else [line]
    found = []
    for line in wanted:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)(?:,.*)?", line)
        if not match:
            sys.exit(f"{line!r} in pyproject.toml has no lower bound: write NAME>=VERSION.")
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    print(*lowest(PROJECT.read_text(encoding="utf-8")), sep="\n")
