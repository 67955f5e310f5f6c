"""What the cards show of each example: which pictures, texts or rows the page holds, and where they come from."""

import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from unseen.data import NAMES, Examples
from unseen.page.packing import smallest
from unseen.page.rows import rows, texts
from unseen.page.tables import Points
from unseen.page.thumbnails import is_images, sheets
from unseen.runs import Run, source_of

RELATED = 1200  # others that are shown beside the examples of the page
MOST_TEXT = 12_000_000  # characters


def wanted(points: Points, limit: int) -> list[int]:
    """Positions whose pictures the page holds, the most needed first: by turns from each list, both ends, and both ends of every class."""
    count = len(points.scores)
    labels = points.scores["given_label"].to_numpy()
    by_class = np.argsort(labels, kind="stable")  # most memorized first within a class
    runs = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
    each = max(2, min(24, limit // (4 * len(runs))))
    ends = (places for run in runs for places in zip_longest(run[:each], run[::-1][:each]))
    turns = zip_longest(*(places.tolist() for places in points.lists.values()), range(count), range(count - 1, -1, -1))
    head = (place for _, turn in zip(range(limit // 4), turns, strict=False) for place in turn)
    order = chain(head, (place for pair in ends for place in pair), (place for turn in turns for place in turn))
    unique = dict.fromkeys(int(place) for place in order if place is not None)
    return list(unique)[:limit]


def media(
    run: Run, examples: Examples | None, data: Any, points: Points, limit: int, others: list[list[Any]], home: Path
) -> tuple[dict[str, Any] | None, np.ndarray]:
    """Pictures, texts or rows of the examples of a page and of those related to them; appends its number, or -1, to each of ``others``.

    Args:
        run: of the page.
        examples: its data, where they could be loaded.
        data: what was given in their place: texts, a frame, or what the run was made of.
        points: of the page.
        limit: of pictures, or of rows of a table; texts are all held up to 12 million characters.
        others: index, id and label of related examples.
        home: the folder of the page, from which it finds original files.

    Returns:
        What ``sheets`` or ``rows`` give, with its kind, and per example 0 or 1 + its number there.
    """
    source = source_of(run, NAMES) if data is None and examples is not None else data
    shown = wanted(points, limit if limit < 4000 or (examples is not None and is_images(examples)) else len(points.scores))
    numbers = np.zeros(len(points.scores), np.int64)
    index = points.scores["index"].to_numpy()[shown].tolist()
    places = {value: number for number, value in enumerate(index)}
    for other in others[:RELATED]:
        places.setdefault(other[0], len(places))
    found = _pictures(home, examples, source, list(places)) if examples is not None and is_images(examples) else None
    found = found or _texts(examples, source, list(places))
    if found:
        held = len(found["rows"]) if "rows" in found else len(places)
        numbers[shown[:held]] = np.arange(1, min(held, len(shown)) + 1)
        places = {value: number for value, number in places.items() if number < held}
    for other in others:
        other.append(places.get(other[0], -1) if found else -1)
    return found, smallest(numbers)


def _pictures(home: Path, examples: Examples, source: Any, index: list[int]) -> dict[str, Any]:
    positions = {value: position for position, value in enumerate(examples.index.tolist())}
    folder = Path(source) if isinstance(source, str | Path) and Path(source).is_dir() else None
    if folder and not (folder / examples.ids[0]).is_file():
        folder = None
    found: dict[str, Any] = {"kind": "images"} | sheets(examples, [positions[value] for value in index], folder)
    return found | ({"folder": os.path.relpath(folder.resolve(), home.resolve())} if folder else {})


def _texts(examples: Examples | None, source: Any, index: list[int]) -> dict[str, Any] | None:
    if examples is not None and examples.texts is not None:
        known = dict(zip(examples.index.tolist(), examples.texts, strict=True))
        found: dict[str, Any] | None = texts(_up_to([known[value] for value in index]))
    else:
        found = rows(source, index, examples)
        if found:
            found["rows"] = _up_to(found["rows"])
    return {"kind": "rows"} | found if found else None


def _up_to(held: Sequence[Any]) -> list[Any]:
    """The first of them, up to ``MOST_TEXT`` characters in all."""
    sizes = np.cumsum([len(one) if isinstance(one, str) else sum(map(len, one)) for one in held])
    return list(held[: int(np.searchsorted(sizes, MOST_TEXT, side="right"))])
