"""The shape of the package: rooms on floors, imports that go down, and rooms that are entered by their door."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import unseen

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unseen"
PATHS = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent != PACKAGE, path.name != "__init__.py", path))


def listed() -> list[str]:
    """Rooms and files at the top, from the ground up, as CONTRIBUTING.md lists them."""
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("src/unseen/")[2].partition("```")[0]
    return re.findall(r"^  ([a-z_]+)(?:\.py|/) ", tree, flags=re.MULTILINE)


def rooms() -> list[str]:
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def offered(room: str) -> set[str]:
    """What a room's ``__init__`` imports from its files, or defines."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    doors = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"unseen.{room}.")]
    made = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    made += [ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)]
    made += [ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {alias.asname or alias.name for node in doors for alias in node.names} | set(made)


def room_of(path: Path) -> str:
    """The room that a file is in; its own name where it stands at the top."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str, list[str]]]:
    """Line, module and names of every import of the package, wherever it stands: in functions and for types too, and by name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").partition(".")[0] == "unseen"):
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            if node.module == "unseen":
                found += [(node.lineno, f"unseen.{alias.name}", []) for alias in node.names]
            else:
                found.append((node.lineno, str(node.module), [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, []) for alias in node.names if alias.name.partition(".")[0] == "unseen"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and "unseen" in ast.unparse(node.args[0]):
            argument = node.args[0]
            module = argument.value if isinstance(argument, ast.Constant) else ast.literal_eval(argument.values[0])  # type: ignore[attr-defined]
            found.append((node.lineno, str(module).rstrip("."), []))
    return found


def test_contributing_lists_every_room_and_file_at_the_top():
    there = {room_of(path) for path in PATHS} - {"__init__"}
    assert sorted(listed()) == sorted(there)
    assert len(there) <= 25


@pytest.mark.parametrize(
    "path", [path for path in PATHS if path != PACKAGE / "__init__.py"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down(path):
    order, here = listed(), room_of(path)
    below = order[: order.index(here)]
    for line, module, names in imports(path):
        there = (module.split(".") + names)[1] if module != "unseen" else "unseen"
        if there == "__version__":
            continue  # the one thing that stands above them all
        assert there in [*below, here], f"{path.name}:{line} imports {module}, which stands above {here}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_entered_by_their_door(path):
    """From another room only what its ``__init__`` offers."""
    here = room_of(path)
    for line, module, names in imports(path):
        parts = module.split(".")
        if len(parts) > 1 and parts[1] in rooms() and parts[1] != here:
            assert len(parts) == 2, f"{path.name}:{line} reaches into {parts[1]}: {module}"
            missing = set(names) - offered(parts[1])
            assert not missing, f"{path.name}:{line}: {parts[1]} does not offer {missing}"


@pytest.mark.parametrize("room", rooms())
def test_a_room_says_what_belongs_there(room):
    text = import_module(f"unseen.{room}").__doc__ or ""
    assert len(re.findall(r"[.!](?:\s|$)", text)) >= 2, f"{room}/__init__.py says it in two sentences or more"


@pytest.mark.parametrize("room", ["", *rooms()])
def test_a_module_and_a_function_do_not_share_a_public_name(room):
    folder = PACKAGE / room
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert not modules & (offered(room) if room else set(unseen.__all__))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_tests_lie_in_the_same_rooms():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} - {"reliability", "audit", "gpu"}
    assert folders <= set(rooms())


@pytest.mark.parametrize("room", rooms())
def test_there_is_no_circle_in_a_room(room):
    folder = PACKAGE / room
    files = {f"unseen.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}": path for path in folder.rglob("*.py")}
    needs = {name: {module for _, module, _ in imports(path)} & set(files) for name, path in files.items()}
    while free := [name for name, wanted in needs.items() if not wanted & set(needs)]:
        for name in free:
            del needs[name]
    assert not needs, f"these import each other: {sorted(needs)}"
