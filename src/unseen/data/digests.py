"""What data are, in a few numbers that change with them: a fingerprint that a run keeps, and what changed since.

A fingerprint is a dictionary for JSON. Of a file it holds a hash of all bytes, in one pass at the speed of the disk; of a folder one for
each file, which is read again only where its size or its times changed; of arrays and ``Examples`` hashes of ids, labels and inputs, in
blocks of rows.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unseen.data.folders import is_run, is_system
from unseen.errors import UnseenError
from unseen.runs import open_regular

if TYPE_CHECKING:
    from unseen.data.examples import Examples

Fingerprint = dict[str, Any]
CHUNK = 2**20
ROWS = 4096
"""Rows of a block."""
BATCH = 512
"""Inputs that are in memory at once, where they are read from pictures."""
SHOWN = 3
COARSE_NS = 4 * 10**9
"""Nanoseconds in which two changes of a file may have the same time: FAT counts in 2 s, and the clocks of a file server differ."""
WAYS_ON = (
    "Score them as a new run (another --out), replace this one (--force), or give it the data that it was made of: put them back, or name "
    "where they are now."
)
FORMAT = 1
KINDS = {"file": "a file", "folder": "a folder", "name": "a name"}


def digest(source: Any, known: Fingerprint | None = None) -> Fingerprint:
    """The fingerprint of a path, of arrays, or of ``Examples``; a name that is no path (digits, hf:…) stands for itself.

    Args:
        source: a file or folder; ``Examples``; an array, a tensor, or a tuple of them.
        known: an earlier fingerprint of what should be the same. Files of a folder that have its size and times are not read again, and of
            a file that grew it is noted whether its beginning is the same.

    Cost: a pass over what is read.

    Raises:
        UnseenError: where a file cannot be read.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return {"format": FORMAT, "kind": "folder", "files": _folder(path, (known or {}).get("files", {}))}
        if path.exists():
            return {"format": FORMAT, "kind": "file", "name": path.name} | _file(path, (known or {}).get("bytes"))
        return {"format": FORMAT, "kind": "name", "name": str(source)}
    if isinstance(source, tuple | list):
        return {"format": FORMAT, "kind": "arrays", "parts": [_blocks(part) for part in source]}
    if hasattr(source, "labels") and hasattr(source, "ids"):
        return {"format": FORMAT, "kind": "examples"} | _examples(source)
    return {"format": FORMAT, "kind": "arrays", "parts": [_blocks(source)]}


def outline(path: Path) -> int:
    """Changes with the name, size or times of a file, or of one below a folder; nothing is read but these. Of this process alone."""
    facts = _walk(os.fspath(path), frozenset()) if path.is_dir() else [(path.name, path.stat())]
    found = 0
    for name, fact in facts:
        found = hash((found, name, fact.st_ino, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns))
    return found


def mark_of(fingerprint: Fingerprint) -> str:
    """Kind and sixteen hexadecimal digits of what the data hold: the same wherever they lie, and whatever their times."""
    if fingerprint["kind"] == "folder":
        said: Any = {name: facts[3] for name, facts in fingerprint["files"].items()}
    else:
        said = fingerprint["content"] if fingerprint["kind"] == "file" else fingerprint
    return f"{fingerprint['kind']}-{hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=8).hexdigest()}"


def content(examples: "Examples") -> str:
    """Sixteen hexadecimal digits that change with whatever a network that is trained on the examples depends on.

    These are inputs and their standardisation, labels, index and splits, in their order; ids and names of classes are none of it.

    Cost: a pass over the inputs; ``Lazy`` ones are read.
    """
    hashed = hashlib.blake2b(digest_size=8)
    for tensor in (examples.labels, examples.index, examples.mean, examples.std):
        _add_tensor(hashed, tensor)
    hashed.update(_text_hash(examples.split).encode())
    for places in torch.arange(len(examples)).split(BATCH):
        _add_tensor(hashed, examples.inputs[places] if isinstance(examples.inputs, torch.Tensor) else examples.inputs.gather(places))
    return hashed.hexdigest()


def _add_tensor(hashed: "hashlib.blake2b", tensor: torch.Tensor) -> None:
    values = tensor.detach().cpu().contiguous()
    hashed.update(f"{values.dtype} {tuple(values.shape)} ".encode())
    hashed.update(values.view(-1).view(torch.uint8).numpy().data if values.numel() else b"")


def difference(old: Fingerprint, new: Fingerprint) -> str | None:
    """What changed between two fingerprints, in a sentence, or None where nothing did. Times alone are no change."""
    if old.get("format") != new.get("format"):
        return None if old.get("format") is None else "the fingerprint is of another version of unseen"
    if old["kind"] != new["kind"]:
        return f"it was {KINDS.get(old['kind'], old['kind'])} and is {KINDS.get(new['kind'], new['kind'])}"
    told = {"file": _file_difference, "folder": _folder_difference, "examples": _rows_difference, "arrays": _arrays_difference}
    if old["kind"] in told:
        return told[old["kind"]](old, new)
    return None if old["name"] == new["name"] else f"it was {old['name']} and is {new['name']}"


def refuse_other(old: Fingerprint | None, new: Fingerprint, what: str, run: Path) -> None:
    """Raise UnseenError, with the three ways on, where data are not what they were. old: None for a run that has no fingerprint."""
    if old is not None and (changed := difference(old, new)):
        raise UnseenError(f"{what} is not what {run} was made of: {changed}. {WAYS_ON}")


@dataclass
class _Hash:
    """A hash, and how many bytes and lines it has seen."""

    def __post_init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.bytes: int = 0
        self.lines: int = 0

    def add(self, chunk: bytes) -> None:
        self.hash.update(chunk)
        self.bytes += len(chunk)
        self.lines += chunk.count(b"\n")


def _file(path: Path, before: int | None = None) -> Fingerprint:
    """Bytes, lines and content of a file; where it is longer than before, the same of its beginning."""
    whole = _Hash()
    start: Fingerprint | None = None
    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as file:
            while chunk := file.read(CHUNK if before is None or whole.bytes >= before else min(CHUNK, before - whole.bytes)):
                whole.add(chunk)
                if whole.bytes == before:
                    start = {"bytes": whole.bytes, "lines": whole.lines, "content": whole.hash.copy().hexdigest()}
    except OSError as error:
        raise _unreadable(path, error) from error
    facts = {"bytes": whole.bytes, "lines": whole.lines, "content": whole.hash.hexdigest()}
    return facts | ({"start": start} if start and whole.bytes > start["bytes"] else {})


def _folder(folder: Path, known: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Of each file below a folder, by its path: bytes, times in nanoseconds (of content, of anything), content.

    A file that is as young as the fingerprint could be written again without a change of its times, where the clock of the disk is
    coarse: in place of its times stand zeros, so that it is read again.
    """
    found = {}
    youngest = time.time_ns() - COARSE_NS
    for path, facts in _walk(os.fspath(folder), frozenset()):
        name = path[len(os.fspath(folder)) :].lstrip(os.sep).replace(os.sep, "/")
        now = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        before = known.get(name)
        if before and before[:3] == now:
            found[name] = before
        else:
            times = [0, 0] if max(now[1:]) > youngest else now[1:]
            found[name] = [facts.st_size, *times, _content_of(path, facts.st_size)]
    return found


def _content_of(path: str, size: int) -> str:
    """The hash of a file's bytes, as ``_file`` has it; ``size``: what it is expected to have."""
    hashed = hashlib.blake2b(digest_size=16)
    try:
        file = open_regular(path, follow=True)
        try:
            asked = min(CHUNK, size + 1)
            while chunk := os.read(file, asked):
                hashed.update(chunk)
                if len(chunk) < asked:  # the end: no second call for it, which small files would feel
                    break
        finally:
            os.close(file)
    except OSError as error:
        raise _unreadable(path, error) from error
    return hashed.hexdigest()


def _unreadable(path: str | Path, error: OSError) -> UnseenError:
    return UnseenError(f"{path} cannot be read: {error.strerror or error}. Allow reading it, or take it out of the data.")


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below a folder, by name, as the readers look: links are followed; what a system hides or makes for itself is left out.

    A folder that holds itself is entered once.
    """
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:
        return
    above = above | {(here.st_dev, here.st_ino)}
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    if len(above) > 1 and is_run(entry.name for entry in listed):
        return
    for entry in listed:
        if is_system(entry.name):
            continue
        try:
            facts = entry.stat()
        except OSError:  # a link to nothing
            continue
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(entry.path, above)
        elif stat.S_ISREG(facts.st_mode):
            yield entry.path, facts


def _examples(examples: "Examples") -> Fingerprint:
    """Ids, labels and inputs in blocks of rows; inputs that are read batch by batch are left to the files that they are in."""
    labels = examples.labels.cpu()
    counts = torch.bincount(labels, minlength=len(examples.classes)).tolist()
    found: Fingerprint = {
        "rows": len(labels),
        "classes": dict(zip(examples.classes, counts, strict=True)),
        "labels": _hashes(labels.numpy()),
    }
    found["ids"] = [_text_hash(examples.ids[start : start + ROWS]) for start in range(0, len(labels), ROWS)]
    if isinstance(examples.inputs, torch.Tensor):
        found["inputs"] = _hashes(examples.inputs.detach().cpu().numpy())
    return found


def _blocks(part: Any) -> Fingerprint:
    """Of one array; of anything else, as a torch data set, nothing but its length: nobody can know more without reading all of it."""
    if not isinstance(part, torch.Tensor | np.ndarray | list | tuple) and not hasattr(part, "__array__"):
        return {"rows": len(part), "type": type(part).__name__, "shape": [], "blocks": []}
    array = part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else np.asarray(part)
    if array.dtype.kind in "OUST":
        array = np.array([str(value) for value in array.ravel()], dtype=object)
        hashes = [_text_hash(array[start : start + ROWS].tolist()) for start in range(0, len(array), ROWS)]
        return {"rows": len(array), "type": "text", "shape": list(array.shape[1:]), "blocks": hashes}
    array = np.atleast_1d(array)
    return {"rows": len(array), "type": str(array.dtype), "shape": list(array.shape[1:]), "blocks": _hashes(array)}


def _hashes(array: np.ndarray[Any, Any]) -> list[str]:
    """A hash of each ``ROWS`` rows of an array of numbers."""
    pieces = (np.ascontiguousarray(array[start : start + ROWS]) for start in range(0, len(array), ROWS))
    return [hashlib.blake2b(piece.view(np.uint8).data if piece.ndim and piece.size else b"", digest_size=8).hexdigest() for piece in pieces]


def _text_hash(texts: list[str]) -> str:
    hashed = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "little") + data)
    return hashed.hexdigest()


def _file_difference(old: Fingerprint, new: Fingerprint) -> str | None:
    if old["content"] == new["content"]:
        return None
    name, more = new["name"], new["lines"] - old["lines"]
    if new.get("start", {}).get("content") == old["content"]:
        return f"{more:,} lines were added at the end of {name}, the others are the same" if more else f"{name} goes on where it ended"
    if more:
        return f"{name} has {new['lines']:,} lines and had {old['lines']:,}"
    return f"the content of {name} changed ({old['bytes']:,} bytes before, {new['bytes']:,} now)"


def _folder_difference(old: Fingerprint, new: Fingerprint) -> str | None:
    before, after = old["files"], new["files"]
    gone, come = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    places = {before[name][3]: name for name in gone}
    moved = {name: places[after[name][3]] for name in come if after[name][3] in places}
    gone, come = [name for name in gone if name not in moved.values()], [name for name in come if name not in moved]
    changed = sorted(name for name in before.keys() & after.keys() if before[name][3] != after[name][3])
    parts = [_some(come, "added"), _some(gone, "removed"), _some(changed, "changed")]
    parts.append(_some([f"{origin} to {name}" for name, origin in moved.items()], "moved, with another label where that is its folder"))
    return "; ".join(part for part in parts if part) or None


def _some(names: list[str], what: str) -> str:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names):,} file{'s were' if len(names) > 1 else ' was'} {what} ({shown})" if names else ""


def _rows_difference(old: Fingerprint, new: Fingerprint) -> str | None:
    """Of ``Examples``: rows added or removed, else which of ids, labels and inputs changed, and where first."""
    if old["rows"] != new["rows"]:
        more = new["rows"] - old["rows"]
        full = min(old["rows"], new["rows"]) // ROWS
        same = full and all(old[name][:full] == new[name][:full] for name in ("ids", "labels", "inputs") if name in old and name in new)
        tail = f"; the first {full * ROWS:,} are the same" if same else ""
        return f"{abs(more):,} rows were {'added' if more > 0 else 'removed'} ({old['rows']:,} before, {new['rows']:,} now){tail}"
    parts = []
    for name in ("ids", "labels", "inputs"):
        if name in old and name in new and (blocks := _changed_blocks(old[name], new[name])):
            end = min((blocks[0] + 1) * ROWS, new["rows"])
            parts.append(f"{name} changed, first in rows {blocks[0] * ROWS:,} to {end - 1:,}")
    counts = [
        f"{name} {old['classes'].get(name, 0):,} to {new['classes'].get(name, 0):,}"
        for name in sorted(old["classes"].keys() | new["classes"].keys())
        if old["classes"].get(name, 0) != new["classes"].get(name, 0)
    ]
    if counts:
        parts.append(f"examples by class changed ({', '.join(counts[:SHOWN])}{', …' if len(counts) > SHOWN else ''})")
    return "; ".join(parts) or None


def _arrays_difference(old: Fingerprint, new: Fingerprint) -> str | None:
    if len(old["parts"]) != len(new["parts"]):
        return f"it was {len(old['parts'])} arrays and is {len(new['parts'])}"
    for place, (before, after) in enumerate(zip(old["parts"], new["parts"], strict=True)):
        for fact in ("rows", "type", "shape"):
            if before[fact] != after[fact]:
                return f"array {place} has {fact} {after[fact]} and had {before[fact]}"
        if blocks := _changed_blocks(before["blocks"], after["blocks"]):
            return f"array {place} changed, first in rows {blocks[0] * ROWS:,} to {min((blocks[0] + 1) * ROWS, after['rows']) - 1:,}"
    return None


def _changed_blocks(old: list[str], new: list[str]) -> list[int]:
    return [place for place, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
