"""Decisions applied: a cleaned copy of a data set, never in place, never outside its destination, whole or not at all.

Decisions are a CSV with the columns id, decision (keep, drop or relabel) and label (the class name, for relabel), as the report writes
it; examples that it does not name stay. Or a text file with the id of everything that stays, one per line, as ``unseen prune`` writes it.
"""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unseen.data import TARGETS, declared_classes, image_folder
from unseen.errors import UnseenError
from unseen.runs import open_run

DECISIONS = ("keep", "drop", "relabel")
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Decision:
    """What happens to an example: keep, drop, or relabel to the class called ``label``."""

    kind: str
    label: str = ""


Decisions = Callable[[str], Decision]


def apply(
    decisions: str | Path, source: str | Path, destination: str | Path, target: str | None = None, id_column: str | None = None
) -> dict[str, int]:
    """Write the cleaned copy of ``source`` to ``destination``. Returns how many examples were kept, dropped and relabelled.

    Args:
        decisions: a .csv of decisions, or a .txt of ids that stay.
        source: a folder with a folder of images per class; a .csv, .tsv or .parquet; or a run folder, for data of any other kind: then the
            copy is a table of index, id and label of the training examples that stay.
        destination: of the same kind (a table for a run folder); it must not be there yet.
        target, id_column: of a table: the column of classes, and the one that names examples (else ids are row/0, row/1, …).

    Raises UnseenError, and writes nothing, for: an id or a class that the source does not have; ids and class names that could lead out
    of the destination; links in a folder; unknown decisions; decisions that contradict each other; a destination that is there.
    """
    source, destination = Path(source), Path(destination)
    _check_places(source, destination)
    if source.is_dir() and (source / "config.json").exists():
        writer = _write_run
    elif source.is_dir():
        writer = _write_folder
    elif source.suffix in SEPARATORS:
        writer = _write_csv
    elif source.suffix == ".parquet":
        writer = _write_parquet
    else:
        kinds = "a folder of images per class, a .csv, .tsv or .parquet file, or a run folder"
        raise UnseenError(f"Cannot copy {source}. Allowed: {kinds}. For other data give the run folder, and get a list of indices.")
    given, listed = read_decisions(Path(decisions))
    default = Decision("drop" if listed else "keep")
    with _whole(destination) as temporary:
        counts: Counter[str] = Counter()

        def decide(example: str) -> Decision:
            decision = given.get(example, default)
            counts[decision.kind] += 1
            return decision

        writer(source, temporary, _Task(given, decide, target, id_column))
    return {kind: counts[kind] for kind in DECISIONS}


@dataclass(frozen=True)
class _Task:
    """What the writers need: the decisions given, the decision on each example, and the names of columns."""

    given: dict[str, Decision]
    decide: Decisions
    target: str | None
    id_column: str | None

    def check(self, ids: Iterable[str], classes: Iterable[str], source: Path) -> None:
        """Refuse decisions on examples, and classes, that are not there."""
        known, names = set(ids), sorted(set(classes))
        for example, decision in self.given.items():
            if example not in known:
                raise UnseenError(f"{source} has no example with the id {example!r}. Nothing was written. Correct the decisions' id.")
            if decision.kind == "relabel" and decision.label not in names:
                shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
                raise UnseenError(f"{example} is to become {decision.label!r}, which is no class of {source}. The classes are {shown}.")


def read_decisions(path: Path) -> tuple[dict[str, Decision], bool]:
    """Decisions by id, and whether the file is a list of ids that stay (.txt). Raises UnseenError for what cannot be understood."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnseenError(f"Cannot read the decisions {path}: {error}. Give decisions.csv or keep.txt.") from error
    if "\0" in text:
        raise UnseenError(f"{path} has a NUL in line {text[: text.index(chr(0))].count(chr(10)) + 1}. Remove it.")
    if path.suffix == ".txt":
        return {line.rstrip("\r"): Decision("keep") for line in text.split("\n") if line.strip()}, True
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, Decision] = {}
    try:
        if not {"id", "decision"} <= set(rows.fieldnames or ()):
            raise UnseenError(f"{path} has the columns {', '.join(rows.fieldnames or ()) or 'none'}; it must have id, decision and label.")
        for row in rows:
            example, decision = row["id"] or "", _decision(row, path)
            if found.setdefault(example, decision) != decision:
                raise UnseenError(f"{path} decides twice on {example!r}: {found[example].kind} and {decision.kind}. Leave one.")
    except csv.Error as error:
        raise UnseenError(f"{path} is not a CSV ({error}, line {rows.line_num}). Save it again.") from error
    return found, False


def _decision(row: dict[str, Any], path: Path) -> Decision:
    kind, label = (row["decision"] or "").strip(), row.get("label") or ""
    if kind not in DECISIONS:
        raise UnseenError(f"{path} decides {kind!r} on {row['id']!r}. Allowed: {', '.join(DECISIONS)}.")
    if kind == "relabel" and not label:
        raise UnseenError(f"{path} relabels {row['id']!r} without a label. Put the class name into the column label.")
    return Decision(kind, label if kind == "relabel" else "")


def _write_folder(source: Path, destination: Path, task: _Task) -> None:
    for example, decision in task.given.items():
        _refuse_unsafe("id", example)
        if "/" in decision.label or "\\" in decision.label:
            raise UnseenError(f"{example} is to become {decision.label!r}. A class is one folder: its name has no slash.")
    raw = image_folder(source)
    ids = list(raw.ids or ())
    task.check(ids, raw.labels, source)
    taken = {example for example in ids if task.given.get(example, Decision("keep")).kind != "relabel"}
    destination.mkdir()
    for example in ids:
        _refuse_links(source, example)
        decision = task.decide(example)
        if decision.kind == "drop":
            continue
        place = example
        if decision.kind == "relabel":
            place = _free_place(PurePosixPath(example), int((source / "train").is_dir()), decision.label, taken)
            taken.add(place)
        (destination / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / example, destination / place)


def _free_place(example: PurePosixPath, depth: int, label: str, taken: set[str]) -> str:
    """Where a relabelled file goes: the same path below the other class; after its old class where that name is taken."""
    parts = list(example.parts)
    old, parts[depth] = parts[depth], label
    place = PurePosixPath(*parts)
    while str(place) in taken:
        place = place.with_name(f"{old}-{place.name}")
    return str(place)


def _write_csv(source: Path, destination: Path, task: _Task) -> None:
    separator = SEPARATORS[source.suffix]
    with source.open(encoding="utf-8-sig", newline="") as file:
        try:
            header, *rows = csv.reader(file, delimiter=separator, strict=True)
        except (csv.Error, ValueError, UnicodeDecodeError) as error:
            raise UnseenError(f"{source} is not a table that can be read: {error}. Repair the file.") from error
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise UnseenError(f"Row {number} of {source} has {len(row)} fields, the header {len(header)}. Repair the file.")
    place = header.index(_column(header, task.target, source))
    ids = _row_ids(rows if task.id_column is None else [row[header.index(_column(header, task.id_column, source))] for row in rows], task)
    task.check(ids, (row[place] for row in rows), source)
    with destination.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        for example, row in zip(ids, rows, strict=True):
            decision = task.decide(example)
            if decision.kind == "relabel":
                row[place] = decision.label
            if decision.kind != "drop":
                writer.writerow(row)


def _write_parquet(source: Path, destination: Path, task: _Task) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source)  # type: ignore[no-untyped-call]
    except (pa.ArrowException, OSError) as error:
        raise UnseenError(f"Cannot read {source}: {error}. Repair the file.") from error
    target = _column(table.column_names, task.target, source)
    values = table.column(target).to_pylist()
    written = (table.schema.metadata or {}).get(b"huggingface", b"{}").decode("utf-8", "replace")
    declared = declared_classes(written).get(target)
    codes = dict(zip(declared, range(len(declared)), strict=True)) if declared else {str(value): value for value in values}
    named = table.column(_column(table.column_names, task.id_column, source)).to_pylist() if task.id_column else values
    ids = _row_ids(named, task)
    task.check(ids, codes, source)
    decided = [task.decide(example) for example in ids]
    new = [codes[decision.label] if decision.kind == "relabel" else value for decision, value in zip(decided, values, strict=True)]
    place, field = table.column_names.index(target), table.schema.field(target)
    table = table.set_column(place, field, pa.array(new, field.type))
    kept = [row for row, decision in enumerate(decided) if decision.kind != "drop"]
    pq.write_table(table.take(pa.array(kept, pa.int64())), destination)  # type: ignore[no-untyped-call]


def _write_run(source: Path, destination: Path, task: _Task) -> None:
    run = open_run(source)
    classes = run.classes
    everyone = run.examples.select("index", "id", "split", "given_label").rows()
    task.check((row[1] for row in everyone), classes, source)
    with destination.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "id", "label"))
        for index, example, split, label in everyone:
            decision = task.decide(example) if split == "train" else Decision("drop")
            if decision.kind != "drop":
                writer.writerow((index, example, decision.label or classes[label]))


def _row_ids(values: list[Any], task: _Task) -> list[str]:
    return [f"row/{row}" for row in range(len(values))] if task.id_column is None else [str(value) for value in values]


def _column(names: list[str], wanted: str | None, source: Path) -> str:
    column = wanted or next((name for name in TARGETS if name in names), None)
    if column not in names:
        raise UnseenError(f"{source} has no column {column or TARGETS[0]!r}. Its columns are {', '.join(names)}. Name one of them.")
    return str(column)


def _check_places(source: Path, destination: Path) -> None:
    if not source.exists():
        raise UnseenError(f"{source} is not there. Give the folder or file that the decisions are about.")
    if os.path.lexists(destination):
        raise UnseenError(f"{destination} is there already. A cleaned copy never replaces anything: name a new place.")
    if not destination.parent.is_dir():
        raise UnseenError(f"The folder {destination.parent} is not there. Make it, or choose another destination.")
    if source.is_dir() and destination.resolve().is_relative_to(source.resolve()):
        raise UnseenError(f"{destination} lies inside {source}, which would change it. Choose a place outside.")


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


@contextmanager
def _whole(destination: Path) -> Iterator[Path]:
    """Yield a temporary place beside the destination that becomes it at the end; nothing stays after an error."""
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.rename(temporary, destination)
    except OSError as error:
        raise UnseenError(f"{destination} could not be written ({error.strerror or error}). Choose another place.") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
