"""A folder of pictures: which files are examples, of which split and class, and which are not read and why."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unseen.data.decoding import DAMAGE, formats
from unseen.data.images import Pictures
from unseen.data.raw import Raw
from unseen.data.reading import Reading, Skipped, tally
from unseen.data.split_names import FILLERS, ORDER, Split, split_of
from unseen.errors import UnseenError

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".avif",
    ".jp2", ".tga", ".ico",
}  # fmt: skip
NO_PICTURES = {
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".mat", ".npy", ".npz", ".parquet", ".pkl", ".py",
    ".ipynb", ".log", ".zip", ".db", ".ini", ".toml", ".cfg", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".sh", ".lst", ".names", ".data",
}  # fmt: skip
SYSTEM = {
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "desktop.ini",
    "__pycache__",
}
LINK_DEPTH = 2  # links to folders are followed where splits and classes stand, not below

HIDDEN = "hidden or of the system"
NO_PICTURE = "not a picture that Pillow can read"
NO_CLASS = "in no class folder"
OTHER_FOLDER = "in a folder that is no split, beside folders that are"
LINKED = "behind a link to a folder"

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """A picture that is an example: its path's parts below the folder, its split's folder or "", and its class."""

    parts: Parts
    split: Split | None
    folder: str
    label: str


@dataclass(frozen=True)
class Tree:
    """What lies below a folder. pictures, others, hidden, linked: the parts of files; empty: of folders without anything in them."""

    pictures: list[Parts]
    others: list[Parts]
    hidden: list[Parts]
    linked: list[Parts]
    empty: list[Parts]

    def below(self, base: Parts) -> list[Parts]:
        """The pictures below a folder, their parts relative to it."""
        return [parts[len(base) :] for parts in self.pictures if parts[: len(base)] == base]


def image_folder(path: Path) -> Raw:
    """A folder per class, or a folder per split with a folder per class each; ids are paths relative to ``path``.

    Splits may be named in any usual way (``split_names``), and all of them are read: train is trained on, the others are the test split.
    A folder called train that holds pictures directly is a class.
    """
    tree = walk(path)
    members, skipped = members_of(tree, path)
    paths = [path.joinpath(*member.parts) for member in members]
    has_test = any(member.split not in (None, "train") for member in members)
    return Raw(
        name=path.resolve().name,
        inputs=Pictures(partial(_pick, paths), [str(file) for file in paths]),
        labels=[member.label for member in members],
        test=_mask([member.split not in (None, "train") for member in members]) if has_test else None,
        ids=["/".join(member.parts) for member in members],
        reading=Reading(
            kind="image folder",
            found=sum(len(files) for files in (tree.pictures, tree.others, tree.hidden, tree.linked)),
            unit="files",
            sources=dict(Counter(member.folder or "all" for member in members)),
            skipped=skipped,
            notes=_notes(members),
            suspicious=_deeper(members, path),
        ),
    )


def walk(path: Path) -> Tree:
    """Everything below a folder, in order; what is a picture is decided by content where the suffix does not."""
    tree = Tree([], [], [], [], [])
    lists = {"hidden": tree.hidden, "empty": tree.empty, "linked": tree.linked}
    try:
        for parts, kind in _entries(path, ()):
            known = lists.get(kind, tree.others if kind == "odd" else None)
            if known is None:
                known = tree.pictures if is_picture(path.joinpath(*parts)) else tree.others
            known.append(parts)
    except OSError as error:
        raise UnseenError(f"Cannot look into {path}: {error}. Allow reading it, or take that folder out.") from error
    for files in (tree.pictures, tree.others, tree.hidden, tree.linked, tree.empty):
        files.sort()
    return tree


def _entries(path: Path, parts: Parts, hidden: bool = False) -> Iterator[tuple[Parts, str]]:
    """What is below a folder, with its kind: file, hidden, linked (a folder behind a link), odd (no regular file), empty (a folder)."""
    with os.scandir(path) as entries:
        listed = list(entries)
    hidden = hidden or bool(parts and is_run(entry.name for entry in listed))
    if not listed and parts and not hidden:
        yield parts, "empty"
    for entry in listed:
        here, is_hidden = (*parts, entry.name), hidden or is_system(entry.name)
        if entry.is_dir() and not (entry.is_symlink() and (len(here) > LINK_DEPTH or is_hidden)):
            yield from _entries(path / entry.name, here, is_hidden)
        elif is_hidden:
            yield here, "hidden"
        elif entry.is_dir():
            yield here, "linked"
        else:
            yield here, "file" if entry.is_file() or entry.is_symlink() else "odd"


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system for itself."""
    return name.startswith(".") or name.lower() in SYSTEM


def is_run(names: Iterable[str]) -> bool:
    """Whether a folder of these files is a run's, whose figures are no examples: ``unseen score .`` makes one inside of the data."""
    return {"config.json", ".lock"} <= set(names)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture: by its suffix (then a damaged one is refused later), else by its first bytes."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    from PIL import Image

    try:
        with Image.open(path, formats=[name for name in formats() if name != "TGA"]):  # which has no mark of its own
            return True
    except (*DAMAGE, Image.DecompressionBombError):
        return False


def members_of(tree: Tree, path: Path) -> tuple[list[Member], tuple[Skipped, ...]]:
    """The examples, train before test, and all other files with the reason why they are none."""
    base = _descended(tree, ())
    folders = _folders(tree, base)
    splits = _split_folders(tree, base, folders, path)
    members, reasons = [], []
    for parts in tree.pictures:
        member, reason = _placed(parts, base, splits)
        if member:
            members.append(member)
        else:
            reasons.append((reason, "/".join(parts)))
    _refuse_empty(tree, [start for _, start in splits.values()] or [base], path)
    if not members:
        raise UnseenError(f"{path} has no class folders. Allowed: {path}/CLASS/image.png. Make one folder per class.")
    members.sort(key=lambda member: ORDER.index(member.split or "train"))
    for reason, files in ((NO_PICTURE, tree.others), (HIDDEN, tree.hidden), (LINKED, tree.linked)):
        reasons += [(reason, "/".join(parts)) for parts in files]
    return members, tally(reasons)


def _placed(parts: Parts, base: Parts, splits: dict[str, tuple[Split, Parts]]) -> tuple[Member | None, str]:
    """A picture as a member, or why it is none."""
    if parts[: len(base)] != base or len(parts) < len(base) + 2:
        return None, NO_CLASS
    top = parts[len(base)]
    if not splits:
        return Member(parts, None, "", top), ""
    if top not in splits:
        return None, OTHER_FOLDER
    split, start = splits[top]
    if parts[: len(start)] != start or len(parts) < len(start) + 2:
        return None, NO_CLASS
    return Member(parts, split, top, parts[len(start)]), ""


def _split_folders(tree: Tree, base: Parts, folders: list[str], path: Path) -> dict[str, tuple[Split, Parts]]:
    """The folders that are splits, with the place of their class folders; none where folders are classes."""
    found = {name: split for name in folders if (split := split_of(name)) and _holds_classes(tree, (*base, name))}
    others = [name for name in folders if name not in found]
    unlabelled = [name for name in others if split_of(name) not in (None, "train")]
    if "train" not in found.values():
        if folders and all(split_of(name) for name in folders) and len(folders) > 1:
            raise UnseenError(
                f"{path} has the folders {', '.join(folders)}, which are names of splits. Allowed: one named train with a folder per class "
                "in it, or a folder per class. Put the pictures into folders of their classes, or name the folders after classes."
            )
        _refuse_hidden_splits(tree, base, folders, bool(found), path)
        return {}
    if others and not unlabelled and len(found) == 1:
        raise UnseenError(
            f"{path} holds {next(iter(found))!r} with folders in it, like a split, and {others[0]!r}, like a class. Allowed: folders of "
            f"splits, or folders of classes. Rename {next(iter(found))!r} if it is a class, or move the others away if it is a split."
        )
    return {name: (split, _descended_in_split(tree, (*base, name), split)) for name, split in found.items()}


def _others_of(folders: list[str], inside: str) -> str:
    others = [name for name in folders if name != inside]
    return f"{len(others)} folders stand" if len(others) > 1 else f"the folder {others[0]} stands"


def _refuse_hidden_splits(tree: Tree, base: Parts, folders: list[str], has_split: bool, path: Path) -> None:
    """Folders that would be classes, but look like splits, or hold them: nobody can know."""
    deep = ((name, parts) for name in folders for parts in tree.below((*base, name)) if len(parts) > 2)
    inside = next((name for name, parts in deep if split_of(parts[0]) == "train"), None)
    if inside is not None:
        raise UnseenError(
            f"{path.joinpath(*base, inside)} holds a train split, and {_others_of(folders, inside)} beside it. Allowed: splits or "
            f"classes at the top. Give {path.joinpath(*base, inside)} alone."
        )
    if has_split and all(_holds_classes(tree, (*base, name)) for name in folders):
        raise UnseenError(
            f"{path} has the folders {', '.join(folders)} with folders in them; some are named as splits, and none as train. Allowed: one "
            "named train, or a folder per class. Name the split that is trained on train."
        )


def _holds_classes(tree: Tree, base: Parts) -> bool:
    """Whether a folder's pictures lie in folders below it, not in itself."""
    depths = [len(parts) > 1 for parts in tree.below(base)]
    return bool(depths) and sum(depths) * 2 > len(depths)


def _descended(tree: Tree, base: Parts) -> Parts:
    """The folder where classes or splits stand: further down where one folder holds everything, as in an unpacked archive."""
    while (only := _only_folder(tree, base)) and split_of(only) != "train":
        base = (*base, only)
    return base


def _descended_in_split(tree: Tree, base: Parts, split: Split) -> Parts:
    """The same below a split's folder, where the one folder has the split's name again, or a name such as ``images``."""
    while (only := _only_folder(tree, base)) and (split_of(only) == split or only.lower() in FILLERS):
        base = (*base, only)
    return base


def _only_folder(tree: Tree, base: Parts) -> str | None:
    """The one folder below which all pictures lie, in folders again."""
    below = tree.below(base)
    folders = {parts[0] for parts in below}
    return next(iter(folders)) if len(folders) == 1 and all(len(parts) > 2 for parts in below) else None


def _folders(tree: Tree, base: Parts) -> list[str]:
    return sorted({parts[0] for parts in tree.below(base) if len(parts) > 1})


def _refuse_empty(tree: Tree, places: list[Parts], path: Path) -> None:
    """A class folder without a picture is refused, unless all it holds is of a kind that is none, as annotations."""
    for start in places:
        depth = len(start) + 1
        filled = {parts[:depth] for parts in tree.pictures}
        unknown = [parts for parts in tree.others if len(parts) > depth and Path(parts[-1]).suffix.lower() not in NO_PICTURES]
        for parts in (*tree.empty, *unknown):
            if parts[: depth - 1] == start and len(parts) >= depth and parts[:depth] not in filled:
                folder, allowed = path.joinpath(*parts[:depth]), ", ".join(sorted(IMAGE_SUFFIXES))
                other = f"; it holds {parts[-1]}, which is none" if len(parts) > depth else ""
                raise UnseenError(f"The class folder {folder} holds no images{other}. Allowed: {allowed}. Fill it or delete it.")


def _notes(members: list[Member]) -> tuple[str, ...]:
    """What to say of the splits: which are the test split, and classes that only they have."""
    tests = sorted({member.folder for member in members if member.split not in (None, "train")})
    train = {member.label for member in members if member.split in (None, "train")}
    strange = sorted({member.label for member in members} - train)
    return tuple(
        note
        for note in (
            f"The splits {' and '.join(tests)} are both measured and never trained on." if len(tests) > 1 else "",
            f"The class {strange[0]!r} is only in a split that is not trained on." if strange else "",
        )
        if note
    )


def _deeper(members: list[Member], path: Path) -> tuple[str, ...]:
    """What to say where every class folder holds the same folders again: those may be the classes, and the first ones folds or years."""
    below: dict[Parts, set[str]] = {}
    for member in members:
        place = member.parts.index(member.label, 1 if member.folder else 0)
        below.setdefault(member.parts[: place + 1], set()).add(member.parts[place + 1] if len(member.parts) > place + 2 else "")
    inside = {frozenset(names) for names in below.values()}
    if len(below) < 2 or len(inside) > 1 or "" in next(iter(inside)) or len(next(iter(inside))) < 2:
        return ()
    (first, *_), names = below, sorted(next(iter(inside)))
    return (
        f"Each class folder, such as {'/'.join(first)}, holds the same {len(names)} folders, such as {names[0]}. If those are the classes, "
        f"give {path.joinpath(*first)} alone, or join the folders of one name.",
    )


def _mask(values: list[bool]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.bool)


def _pick(items: list[Any], positions: list[int]) -> list[Any]:
    return [items[position] for position in positions]
