"""A cleaned copy of a folder of files: examples where they belong, everything else as it was."""

import os
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unseen.curate.task import Task
from unseen.data import image_folder
from unseen.errors import UnseenError
from unseen.runs import open_below, open_folder

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def write_folder(source: Path, destination: Path, task: Task) -> None:
    """Copy the examples that stay, each below its class, and every other file to where it was. destination: a new, empty folder.

    Nothing is read through a link, whatever is put in a file's place meanwhile.

    Raises:
        UnseenError: as ``apply``.
    """
    for example, decision in task.given.items():
        _refuse_unsafe("id", example)
        if "/" in decision.label or "\\" in decision.label:
            raise UnseenError(f"{example} is to become {decision.label!r}. A class is one folder: its name has no slash.")
    raw = image_folder(source)
    ids, labels = list(raw.ids or ()), [str(label) for label in raw.labels]
    for example in ids:
        _refuse_links(source, example)
    decided = task.decide(ids, labels, source)
    others = _others(source, set(ids), task)
    taken = {folded(name) for name in others}
    taken |= {folded(example) for example, decision in zip(ids, decided, strict=True) if decision.kind != "relabel"}
    disk, root = Disk(destination), open_folder(source)
    try:
        for example, old, decision in zip(ids, labels, decided, strict=True):
            if decision.kind == "drop":
                continue
            place = example
            if decision.kind == "relabel":
                place = _free_place(PurePosixPath(example), old, decision.label, taken)
                taken.add(folded(place))
            _copy(root, source, example, disk.place(place))
        for name in others:
            _copy(root, source, name, disk.place(name))
    finally:
        if isinstance(root, int):
            os.close(root)
    task.copied.extend(others)


def folded(name: str) -> str:
    """What names have in common that some disks take for one: capitals and small letters, letters in one piece or in two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Disk:
    """The folder that is written to, on a disk that may take two names for one: then two classes would become one, or a file be lost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, set[str]] = {}

    def place(self, name: str) -> Path:
        """Where a file of that name goes; the folders above it are made. Raises UnseenError where the disk has it already as another."""
        parts = PurePosixPath(name).parts
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            others = self.names.setdefault(folded(path), set())
            if path in others:
                continue
            if others and os.path.lexists(self.folder / path):
                raise UnseenError(
                    f"{path} and {min(others)} are the same on the disk of {self.folder.parent}, which does not tell such names apart. "
                    "Choose a destination on another disk, or rename one of them in the source. Nothing was written."
                )
            others.add(path)
            if depth < len(parts):
                (self.folder / path).mkdir()
        return self.folder / name


def _others(source: Path, examples: set[str], task: Task) -> list[str]:
    """Paths of all files that are no examples; links and what is no file are noted as left out."""
    found = []
    for path, kind in _files(source):
        name = path.relative_to(source).as_posix()
        if name not in examples:
            if kind == "file":
                found.append(name)
            else:
                task.left.append(f"{name} ({kind})")
    return found


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_symlink():
            yield Path(entry.path), "a link"
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path), "file" if entry.is_file(follow_symlinks=False) else "no regular file"


def _copy(root: int | Path, source: Path, name: str, place: Path) -> None:
    """Copy a file with its time and rights, read below the root and never through a link."""
    try:
        file = open_below(root, PurePosixPath(name).parts)
    except OSError as error:
        raise UnseenError(f"{source / name} cannot be copied: {error.strerror}. Nothing was written.") from error
    with os.fdopen(file, "rb") as read, os.fdopen(os.open(place, NEW, 0o666), "wb") as written:
        shutil.copyfileobj(read, written, 2**20)
        facts = os.fstat(read.fileno())
    os.chmod(place, stat.S_IMODE(facts.st_mode) & 0o777)
    os.utime(place, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _free_place(example: PurePosixPath, old: str, label: str, taken: set[str]) -> str:
    """Where a relabelled file goes: the same path below the other class; after its old class where that name is taken.

    taken: names in use, without capitals, for disks that do not tell A from a. The class is the last folder of its name but the file's own
    below a folder of the same name, as train/train/1.png.
    """
    parts = list(example.parts)
    depth = _depth(parts, old)
    parts[depth] = label
    place = PurePosixPath(*parts)
    while folded(str(place)) in taken:
        place = place.with_name(f"{old}-{place.name}")
    return str(place)


def _depth(parts: list[str], old: str) -> int:
    """Which folder of the path is the class: the first of its name, or the second where the first is the split of the same name."""
    first = parts.index(old)
    return first + 1 if first == 0 and parts[1] == old and len(parts) > 2 else first


def _refuse_unsafe(what: str, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UnseenError(f"The {what} {name!r} leads out of the data set. Allowed: paths below it, without '..'. Remove it.")


def _refuse_links(source: Path, example: str) -> None:
    place = source
    for part in PurePosixPath(example).parts:
        place = place / part
        if place.is_symlink():
            raise UnseenError(f"{place} is a link. A copy follows none: put the file itself there, or take it out.")
