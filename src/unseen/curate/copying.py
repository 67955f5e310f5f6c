"""Decisions applied: a cleaned copy of a data set, never in place, never outside its destination, whole or not at all.

What is not judged is copied as it is; what is not copied is named.
"""

import os
from collections import Counter
from pathlib import Path

from unseen.curate.decisions import DECISIONS, Given, read_decisions
from unseen.curate.folders import write_folder
from unseen.curate.tables import write_parquet, write_run, write_text_table
from unseen.curate.task import Task
from unseen.data import digest, is_csv, is_picture, mark_of
from unseen.errors import UnseenError
from unseen.runs import Run, whole, whole_folder
from unseen.scoring import noted_mark, refuse_other_data


class Applied(dict[str, int]):
    """How many examples were kept, dropped and relabelled.

    Attributes:
        copied: paths (or lines of a table) that were copied without being judged.
        left: what is not in the copy, each with why.
    """

    copied: list[str]
    left: list[str]


def apply(
    decisions: str | Path,
    source: str | Path,
    destination: str | Path,
    target: str | None = None,
    id_column: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> Applied:
    """Write the cleaned copy of ``source`` to ``destination``.

    Args:
        decisions: a .csv of decisions, or a .txt of ids that stay.
        source: a folder with a folder of images per class; a .csv, .tsv or .parquet; or a run folder, for data of any other kind: then the
            copy is a table of index, id and label of the training examples that stay.
        destination: of the same kind (a table for a run folder); it must not be there yet.
        target: of a table, the column of classes.
        id_column: of a table, the column that names examples; else ids are row/0, row/1, …
        separator: of a CSV, where it was given to ``score``; else it is found, as there.
        encoding: see ``separator``.

    Every other file of a folder, and every other line of a table, is copied as it is; links and what is no file are left out and named.
    Of a table all that stays keeps its bytes, but for the label of a row that is relabelled.

    Returns:
        How many examples were kept, dropped and relabelled.

    Raises:
        UnseenError: for what follows, and then nothing is written: an id or a class that the source does not have; ids and class names that
            could lead out of the destination; a source that is not what was decided on, where the decisions say it;
            links in place of examples; unknown decisions; decisions that contradict each other; a
            destination that is there.
    """
    source, destination = Path(source), Path(destination)
    _check_places(source, destination)
    is_run = source.is_dir() and (source / "config.json").exists()
    if source.is_dir() and not is_run:
        _refuse_tables(source)
        writer, place = write_folder, whole_folder(destination)
    elif is_run or is_csv(source) or source.suffix.lower() == ".parquet":
        writer = write_run if is_run else write_text_table if is_csv(source) else write_parquet
        place = whole(destination, replace=False)
    else:
        kinds = "a folder of images per class, a .csv, .tsv or .parquet file, or a run folder"
        raise UnseenError(f"Cannot copy {source}. Allowed: {kinds}. For other data give the run folder, and get a list of indices.")
    given = read_decisions(Path(decisions))
    _refuse_other_data(given, Path(decisions), source, is_run)
    task = Task(given.decisions, "drop" if given.is_list else "keep", target, id_column, separator, encoding, Counter(), [], [])
    with place as temporary:
        writer(source, temporary, task)
    applied = Applied({kind: task.counts[kind] for kind in DECISIONS})
    applied.copied, applied.left = task.copied, task.left
    return applied


def _refuse_tables(source: Path) -> None:
    """Raise UnseenError for a folder of tables without a folder of pictures: each is copied alone."""
    try:
        inside = sorted(file for pattern in ("*", "*/*") for file in source.glob(pattern) if file.is_file())
    except OSError as error:  # it changed meanwhile
        raise UnseenError(f"{error.filename} could not be read ({error.strerror}). Copy {source} when nothing changes it.") from error
    tables = [file for file in inside if is_csv(file) or file.suffix.lower() in (".parquet", ".jsonl")]
    if tables and not any(file.parent != source and is_picture(file) for file in inside if file not in tables):
        raise UnseenError(
            f"{source} is a folder of tables, such as {tables[0].name}. Allowed: one table, or a folder of pictures by class. Give the "
            "table that the decisions are about; of several, `unseen apply DECISIONS RUN LIST.parquet` lists what stays."
        )


def _refuse_other_data(given: Given, decisions: Path, source: Path, is_run: bool) -> None:
    """Raise UnseenError where the source is not what was decided on: by the column data, or the run that a list of ids lies in.

    Nobody knows of data that came from Python whether they are those of a file.
    """
    run = Run(decisions.parent)
    wanted = (noted_mark(run) if given.is_list else given.data) or ""
    if not wanted or not (is_run or wanted.startswith(("file-", "folder-"))):
        return
    if given.is_list and not is_run:
        refuse_other_data(run, source, None)  # which says what changed
        return
    found = noted_mark(Run(source)) if is_run else mark_of(digest(source))
    if found is not None and found != wanted:
        raise UnseenError(
            f"{decisions} decides on other data than {source}: it changed since, or is another. Score it and decide again, give the data "
            "that were decided on, or, where the ids still name the same examples, take the column data out of the decisions."
        )


def _check_places(source: Path, destination: Path) -> None:
    if not source.exists():
        raise UnseenError(f"{source} is not there. Give the folder or file that the decisions are about.")
    if os.path.lexists(destination):
        raise UnseenError(f"{destination} is there already. A cleaned copy never replaces anything: name a new place.")
    if not destination.parent.is_dir():
        raise UnseenError(f"The folder {destination.parent} is not there. Make it, or choose another destination.")
    if source.is_dir() and destination.resolve().is_relative_to(source.resolve()):
        raise UnseenError(f"{destination} lies inside {source}, which would change it. Choose a place outside.")
