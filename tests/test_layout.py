"""The shape of the package: imports go down the README's list, and the list is complete."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unseen"


def listed() -> list[str]:
    """Module names in the order of the README's file tree."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("src/unseen/")[2].partition("```")[0]
    return re.findall(r"^  ([a-z_]+)\.py ", tree, flags=re.MULTILINE)


def imported(module: str) -> set[str]:
    """Modules of the package that a module imports, at the top or in a function; imports for types alone do not count."""
    found = set()
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unseen"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & {path.stem for path in PACKAGE.glob("*.py")}


def test_the_readme_lists_every_module():
    assert sorted(listed()) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", listed())
def test_imports_go_down_the_list(module):
    order = listed()
    assert imported(module) <= set(order[: order.index(module)])


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
