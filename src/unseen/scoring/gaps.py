"""What a recorded run lacks: names that are too few, examples that never came, halves that were not measured."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl


def check_names(table: "pl.DataFrame", ids: list[str] | None, classes: list[str] | None, columns: int | None) -> None:
    """Before anything is written: whether every example and class has its name."""
    last, label = int(table["index"].max()), int(table["given_label"].max())  # type: ignore[arg-type]
    if ids is not None and len(ids) <= last:
        raise UnseenError(
            f"There are {len(ids):,} ids, and example {last:,} was recorded. Give ids for all examples, by index, and save again."
        )
    if classes is not None and len(classes) < (columns or label + 1):
        raise UnseenError(
            f"There are {len(classes):,} names of classes for {columns or label + 1:,} classes. Give one for each, and save again."
        )


def say_gaps(table: "pl.DataFrame", halves: list[dict[str, Tensor]], examples: int | None, marked: bool) -> dict[str, Any]:
    """What the tables lack, for ``summary.json``; warned of, each in a line with its number."""
    visits = table.group_by("index").len().sort("len", "index")
    recorded, gaps = visits["index"].to_numpy(), {}
    lines = []
    if examples is not None and len(visits) < examples:
        missing = np.setdiff1d(np.arange(examples), recorded)
        gaps["never_recorded"] = len(missing)
        lines.append(f"{len(missing):,} of {examples:,} examples never came, the first {missing[0]}: they have no row.")
    (_, least), (often, most) = visits.row(0), visits.row(-1)
    if not marked and least != most:
        lines.append(
            f"Examples came unequally often: example {often} {most} times, others {least}. An example's k-th visit counts as its epoch k; "
            "call recorder.end_epoch() after each epoch, and it counts once in it."
        )
    if halves:
        measured = halves[-1]["index"].numpy()
        gaps["not_measured"] = int((~np.isin(recorded, measured)).sum())
        if gaps["not_measured"]:
            lines.append(
                f"The halves of {gaps['not_measured']:,} of {len(recorded):,} recorded examples were not measured: their memorization is "
                "missing. Measure with a loader that gives every example once, without a sampler and without drop_last."
            )
        if examples is None and (unseen := int((~np.isin(measured, recorded)).sum())):
            lines.append(f"The halves of {unseen:,} examples were measured that were never recorded: they have no row.")
    for line in lines:
        warnings.warn(line, stacklevel=3)
    return gaps
