"""The lowest versions are those that SECURITY.md speaks of."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["hub"] + project["optional-dependencies"]["plots"]
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in lines)


def test_floors_are_those_of_the_page():
    found = floors()
    told = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert len(told) >= 7 and {name: found[name] for name in told} == told


def test_no_release_that_is_known_to_be_unsafe_is_allowed():
    found = {name: tuple(map(int, version.split("."))) for name, version in floors().items()}
    safe = {"pillow": (10, 3), "datasets": (4, 0), "jinja2": (3, 1, 6), "torch": (2, 6), "pyarrow": (14, 0, 1), "tqdm": (4, 66, 3)}
    assert all(found[name] >= version for name, version in safe.items())
