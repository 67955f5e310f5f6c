"""Decisions on examples: keep, drop or relabel, as the report, a person or ``unseen prune`` wrote them.

A CSV with the columns id, decision and label (the class name, for relabel), as the report writes it; examples that it does not name or
that were skipped stay. A column ``data`` says of which data the decisions are, by ``mark_of`` their fingerprint.
Or a text file with the id of everything that stays, one per line, as ``unseen prune`` writes it.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unseen.curate.spreadsheet import original
from unseen.errors import UnseenError
from unseen.runs import read_regular

DECISIONS = ("keep", "drop", "relabel")
UNDECIDED = "skip"  # looked at and left open; such an example stays as it is
LARGEST = 2**30
LARGEST_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Decision:
    """What happens to an example: keep, drop, or relabel to the class called ``label``."""

    kind: str
    label: str = ""


@dataclass(frozen=True)
class Given:
    """What a file decides.

    Args:
        decisions: by id.
        is_list: whether it is a list of ids that stay (.txt).
        data: what the column of that name says; empty where there is none.
    """

    decisions: dict[str, Decision]
    is_list: bool = False
    data: str = ""


def read_decisions(path: Path) -> Given:
    """What a file decides. Raises UnseenError for what cannot be understood."""
    try:
        text = read_regular(path, LARGEST, follow=True).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnseenError(f"Cannot read the decisions {path}: {error}. Give decisions.csv or keep.txt.") from error
    if "\0" in text:
        raise UnseenError(f"{path} has a NUL in line {text[: text.index(chr(0))].count(chr(10)) + 1}. Remove it.")
    if path.suffix == ".txt":
        return Given({line.rstrip("\r"): Decision("keep") for line in text.split("\n") if line.strip()}, is_list=True)
    limit = csv.field_size_limit(LARGEST_FIELD)
    try:
        return _read_rows(text, path)
    finally:
        csv.field_size_limit(limit)


def _read_rows(text: str, path: Path) -> Given:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, Decision] = {}
    data = set()
    try:
        if not {"id", "decision"} <= set(rows.fieldnames or ()):
            raise UnseenError(f"{path} has the columns {', '.join(rows.fieldnames or ()) or 'none'}; it must have id, decision and label.")
        for row in rows:
            if (row["decision"] or "").strip() == UNDECIDED:
                continue
            example, decision = row["id"] or "", _decision(row, path)
            data.add(row.get("data") or "")
            if found.setdefault(example, decision) != decision:
                raise UnseenError(f"{path} decides twice on {example!r}: {found[example].kind} and {decision.kind}. Leave one.")
    except csv.Error as error:
        raise UnseenError(f"{path} is not a CSV ({error}, line {rows.line_num}). Save it again.") from error
    if len(data - {""}) > 1:
        raise UnseenError(f"{path} decides on examples of {len(data - {''})} data sets, as its column data says. Keep those of one.")
    return Given(found, data=max(data, default=""))


def _decision(row: dict[str, Any], path: Path) -> Decision:
    kind, label = (row["decision"] or "").strip(), row.get("label") or ""
    if kind not in DECISIONS:
        raise UnseenError(f"{path} decides {kind!r} on {row['id']!r}. Allowed: {', '.join(DECISIONS)}.")
    if kind == "relabel" and not label:
        raise UnseenError(f"{path} relabels {row['id']!r} without a label. Put the class name into the column label.")
    return Decision(kind, label if kind == "relabel" else "")


def resolved(given: dict[str, Decision], ids: Iterable[str], classes: Iterable[str], source: Path) -> dict[str, Decision]:
    """Decisions by the ids of the source, with its names of classes; an apostrophe that kept a spreadsheet from computing is taken away.

    Raises:
        UnseenError: for an id or a class that the source does not have, an id that could be either of two, and two decisions on one.
    """
    known, names = set(ids), sorted(set(classes))
    found: dict[str, Decision] = {}
    for written, decision in given.items():
        example, other = written, original(written)
        if other != written and other in known:
            if written in known:
                raise UnseenError(f"{written!r} can be that example of {source} or {other!r}. Nothing was written. Rename one of them.")
            example = other
        if example not in known:
            raise UnseenError(f"{source} has no example with the id {example!r}. Nothing was written. Correct the decisions' id.")
        label = decision.label
        if decision.kind == "relabel" and label not in names and original(label) in names:
            label = original(label)
        if decision.kind == "relabel" and label not in names:
            shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            raise UnseenError(f"{example} is to become {label!r}, which is no class of {source}. The classes are {shown}.")
        if found.setdefault(example, Decision(decision.kind, label)) != Decision(decision.kind, label):
            raise UnseenError(f"There are two decisions on {example!r}. Leave one.")
    return found
