"""A cleaned copy of a table: of a CSV every byte that stays, of a parquet file its types and metadata, of a run its index."""

import csv
import gzip
import re
import zlib
from pathlib import Path
from typing import Any

from unseen.curate.task import Task
from unseen.data import TARGETS, declared_classes, decoded, records, sniff, with_field
from unseen.errors import UnseenError
from unseen.runs import open_run, read_regular, refuse_large, regular

TEXTS = (".csv", ".tsv", ".tab")
LARGEST = 2**40


def is_text_table(path: Path) -> bool:
    """Whether a file is a CSV or TSV by its name, in any case, packed by gzip or not."""
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return stem.suffix.lower() in TEXTS


def write_text_table(source: Path, destination: Path, task: Task) -> None:
    """Copy the rows that stay, to the byte; comments and blank lines, which are no rows, stay too. Raises UnseenError as ``apply``."""
    data = _content(source)
    dialect = sniff(data, source)
    try:
        mark, text, codec = decoded(data, dialect)
        found = list(records(text, dialect))
    except UnicodeDecodeError as error:
        raise UnseenError(f"{source} is no table that can be read: byte {error.start} is no {error.encoding}. Repair the file.") from error
    except UnseenError as error:
        raise UnseenError(f"{source} is not a table that can be read: {error}") from error
    numbered = any(re.fullmatch(r"column_\d+", name or "") for name in (task.target, task.id_column))
    first = next((place for place, record in enumerate(found) if record.fields), None)
    if first is None:
        raise UnseenError(f"{source} is empty. Nothing was written. Give the table that the decisions are about.")
    header = [f"column_{place}" for place in range(1, len(found[first].fields) + 1)] if numbered else _names(found[first].fields)
    body = range(first + (not numbered), len(found))
    rows = [place for place in body if found[place].is_row(len(header))]
    for number, place in enumerate(rows):
        if len(found[place].fields) != len(header):
            raise UnseenError(f"Row {number} of {source} has {len(found[place].fields)} fields, the header {len(header)}. Repair the file.")
    target = header.index(_column(header, task.target, source))
    named = header.index(_column(header, task.id_column, source)) if task.id_column else target
    ids = _row_ids([found[place].fields[named] for place in rows], task)
    decided = task.decide(ids, (found[place].fields[target] for place in rows), source)
    kept = {place: found[place].raw for place in range(len(found))}
    for place, decision in zip(rows, decided, strict=True):
        if decision.kind == "drop":
            del kept[place]
        elif decision.kind == "relabel":
            kept[place] = with_field(found[place], target, decision.label, dialect)
    task.copied.extend(found[place].raw.strip() for place in sorted(set(body) - set(rows)) if found[place].raw.strip())
    _write(destination, source, data, mark + "".join(kept.values()).encode(codec))


def _content(source: Path) -> bytes:
    try:
        data = read_regular(source, LARGEST, follow=True)
        return gzip.decompress(data) if source.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UnseenError(f"Cannot read {source}: {error}. Repair the file.") from error


def _write(destination: Path, source: Path, before: bytes, after: bytes) -> None:
    if source.suffix.lower() == ".gz":
        after = read_regular(source, LARGEST, follow=True) if after == before else gzip.compress(after, mtime=0)
    destination.write_bytes(after)


def _names(fields: list[str]) -> list[str]:
    stripped = [name.strip() for name in fields]
    return stripped if len(set(stripped)) == len(stripped) else fields


def write_parquet(source: Path, destination: Path, task: Task) -> None:
    """Copy the rows that stay, with types, declared classes and metadata. Raises UnseenError as ``apply``."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with regular(source, follow=True) as opened:
            refuse_large(opened, source)
            table = pq.read_table(opened)  # type: ignore[no-untyped-call]
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        raise UnseenError(f"Cannot read {source}: {error}. Repair the file.") from error
    target = _column(table.column_names, task.target, source)
    values = table.column(target).to_pylist()
    written = (table.schema.metadata or {}).get(b"huggingface", b"{}").decode("utf-8", "replace")
    declared = declared_classes(written).get(target)
    codes = dict(zip(declared, range(len(declared)), strict=True)) if declared else {_name(value): value for value in values}
    named = table.column(_column(table.column_names, task.id_column, source)).to_pylist() if task.id_column else values
    decided = task.decide(_row_ids(named, task), codes, source)
    new = [codes[decision.label] if decision.kind == "relabel" else value for decision, value in zip(decided, values, strict=True)]
    place, field = table.column_names.index(target), table.schema.field(target)
    table = table.set_column(place, field, pa.array(new, field.type))
    kept = [row for row, decision in enumerate(decided) if decision.kind != "drop"]
    pq.write_table(table.take(pa.array(kept, pa.int64())), destination)  # type: ignore[no-untyped-call]


def _name(value: Any) -> str:
    """The class of a value, as ``score`` names it: a float that is a whole number without its point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def write_run(source: Path, destination: Path, task: Task) -> None:
    """A table of index, id and label of the training examples that stay. Raises UnseenError as ``apply``."""
    run = open_run(source)
    classes = run.classes
    everyone = run.examples.select("index", "id", "split", "given_label").rows()
    decided = task.decide((row[1] for row in everyone), classes, source)
    with destination.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "id", "label"))
        for (index, example, split, label), decision in zip(everyone, decided, strict=True):
            if split != "train":
                task.counts[decision.kind] -= 1  # neither kept nor dropped: named below
            elif decision.kind != "drop":
                writer.writerow((index, example, decision.label or classes[label]))
    if others := sum(split != "train" for _, _, split, _ in everyone):
        task.left.append(f"{others} examples that are not trained on")


def _row_ids(values: list[Any], task: Task) -> list[str]:
    return [f"row/{row}" for row in range(len(values))] if task.id_column is None else [str(value) for value in values]


def _column(names: list[str], wanted: str | None, source: Path) -> str:
    column = wanted or next((name for name in TARGETS if name in names), None)
    if column not in names:
        raise UnseenError(f"{source} has no column {column or TARGETS[0]!r}. Its columns are {', '.join(names)}. Name one of them.")
    return str(column)
