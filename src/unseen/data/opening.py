"""A source before its pictures are read: to see what it is like, then to read it once."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.data.examples import Examples, rows
from unseen.data.images import PROBES, Lazy, Pictures
from unseen.data.loading import columns_of, planned, with_pictures
from unseen.data.picturing import read_pictures
from unseen.data.raw import Raw
from unseen.data.sources import read


def opened(data: object, data_dir: str | Path | None = None, **columns: Any) -> Raw | Examples:
    """A source whose tables are read, and whose pictures are not: ``load`` and ``inspect`` take it in place of the source.

    Args:
        data: what ``load`` takes.
        data_dir: see ``load``.
        columns: what ``load`` is told of columns and of the format of a table.
    """
    return data if isinstance(data, Examples | Raw) else read(data, data_dir, columns_of(**columns))


def sample(source: Raw | Examples, count: int = 1, image_size: int | None = None) -> Examples:
    """Up to so many examples of a source, spread evenly, to see what all are like. They are all of the train split.

    Raises:
        UnseenError: for labels, ids or an index that cannot be used, and where none of the pictures can be read.
    """
    if isinstance(source, Examples):
        return source.select(_evenly(len(source), count))
    plan = planned(source, is_piece=True)
    some = _evenly(len(plan.labels), max(count, PROBES) if isinstance(source.inputs, Pictures) else count)
    if isinstance(source.inputs, Pictures):
        found = read_pictures(source.inputs, some, image_size, skip_damaged=True)
        inputs, some = found.inputs, found.positions
        reading = with_pictures(source.reading, found.survey, {}, source.inputs.names)
    else:
        inputs, reading = rows(source.inputs, some).float(), source.reading
    few = some.tolist()
    channels = inputs.shape[0] if isinstance(inputs, Lazy) else inputs.shape[1]
    return Examples(
        inputs=inputs,
        labels=plan.labels[some],
        index=plan.index[some],
        ids=[plan.ids[place] for place in few],
        split=["train"] * len(few),
        classes=plan.classes,
        mean=torch.zeros(channels),
        std=torch.ones(channels),
        name=source.name,
        texts=None if source.texts is None else [source.texts[place] for place in few],
        reading=reading,
    )


def _evenly(count: int, number: int) -> Tensor:
    return torch.linspace(0, count - 1, min(number, count)).long()
