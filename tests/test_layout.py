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
    return re.findall(r"^  ([a-z_]+)(?:\.py|/) ", tree, flags=re.MULTILINE)


def modules() -> set[str]:
    """Modules and folders of the package."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}


def imported(module: str) -> set[str]:
    """What a module, or a folder's files, import of the package, at the top or in a function; imports for types alone do not count."""
    found = set()
    for path in [PACKAGE / f"{module}.py"] if (PACKAGE / f"{module}.py").exists() else (PACKAGE / module).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unseen"):
                parts = node.module.split(".")
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return (found & modules()) - {module}


def test_the_readme_lists_every_module():
    assert sorted(listed()) == sorted(modules())


@pytest.mark.parametrize("module", listed())
def test_imports_go_down_the_list(module):
    order = listed()
    assert imported(module) <= set(order[: order.index(module)])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
