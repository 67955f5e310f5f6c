"""What would be read of a source, and what not, without training: the whole record, with duplicates and an estimate."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.checks import check_finite
from unseen.data.decoding import DamagedError
from unseen.data.examples import Examples, rows
from unseen.data.images import Pictures, Survey, survey
from unseen.data.loading import Plan, check_options, columns_of, completed, limited, planned, with_pictures
from unseen.data.picturing import decode_all, seconds_each, unread
from unseen.data.precision import narrowed
from unseen.data.raw import Raw
from unseen.data.reading import Reading
from unseen.data.sources import read

CHUNK = 64  # pictures at a time
PATIENCE = 20.0  # seconds within which all pictures are decoded, to find the damaged ones
HASHED = 2**20  # bytes of a file at a time


def inspect(
    data: object,
    *,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    target: str | None = None,
    image_column: str | None = None,
    text: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    drop: str | Sequence[str] = (),
    separator: str | None = None,
    encoding: str | None = None,
    test_fraction: float = 0.2,
    image_size: int | None = None,
    seed: int = 0,
) -> Reading:
    """What ``load`` would read with the same arguments.

    Tables are read whole. Of pictures all headers are read, and the pixels too where that takes less than 20 seconds; damaged ones are
    listed in place of refused. Beyond ``Examples.reading`` it has duplicates of files and of rows, the memory of the inputs and the seconds
    that reading takes.

    Raises:
        UnseenError: as ``load``, for data that it would refuse for another reason than damaged pictures.

    Example:
        >>> reading = inspect("digits", limit=500)
        >>> reading.splits, reading.shape, reading.duplicate_rows
        ({'train': 500, 'test': 394}, (1, 8, 8), 0)
    """
    check_options(limit, test_limit, test_fraction, image_size)
    if isinstance(data, Examples):
        return data.reading
    started = time.perf_counter()
    columns = columns_of(target, image_column, id_column, text, split_column, drop, separator, encoding)
    raw = data if isinstance(data, Raw) else read(data, data_dir, columns)
    plan = planned(raw, (limit, test_limit), test_fraction, seed)
    reading = limited(raw, plan)
    seconds = time.perf_counter() - started
    if isinstance(raw.inputs, Pictures):
        return _of_pictures(raw, raw.inputs, plan, reading, image_size, seconds)
    inputs = rows(raw.inputs, plan.kept)
    check_finite(inputs, [plan.ids[place] for place in plan.kept.tolist()], raw.columns)
    inputs = narrowed(inputs)
    train = int((~plan.test[plan.kept]).sum())
    reading = completed(reading, plan.labels[plan.kept], train, plan, inputs)
    duplicates = len(plan.kept) - len(set(raw.texts)) if raw.texts is not None else equal_rows(inputs)
    return replace(reading, duplicate_rows=duplicates, seconds=round(seconds, 3))


def _of_pictures(raw: Raw, pictures: Pictures, plan: Plan, reading: Reading, image_size: int | None, seconds: float) -> Reading:
    """The record of pictures: all headers, pixels where there is time, equal files."""
    started = time.perf_counter()
    seen = survey(pictures, plan.kept, image_size)
    seconds += time.perf_counter() - started
    damaged, each = _damaged(pictures, plan.kept, seen)
    good = torch.tensor([place not in damaged for place in plan.kept.tolist()], dtype=torch.bool)
    kept = plan.kept[good]
    if not len(kept):
        raise next(iter(damaged.values()))
    reading = with_pictures(reading, seen, damaged, pictures.names)
    reading = completed(reading, plan.labels[kept], int((~plan.test[kept]).sum()), plan, unread(pictures, kept, seen))
    if each * len(kept) > PATIENCE:
        reading = reading.noting(f"Only the headers of the pictures were read: decoding all takes about {each * len(kept):,.0f} s.")
    return replace(
        reading,
        duplicate_files=equal_files(pictures, kept) if pictures.has_headers else None,
        memory_bytes=seen.bytes_of(len(kept)),
        seconds=round(seconds + each * len(kept), 3),
    )


def _damaged(pictures: Pictures, positions: Tensor, seen: Survey) -> tuple[dict[int, DamagedError], float]:
    """The damaged pictures by position, and the seconds that one picture takes. Those whose header is damaged are known already."""
    whole = [place for place in positions.tolist() if place not in seen.damaged]
    each, damaged = seconds_each(pictures, seen, whole)
    if each * len(whole) <= PATIENCE:
        for start in range(0, len(whole), CHUNK):
            damaged |= decode_all(pictures, seen, whole[start : start + CHUNK])[1]
    return seen.damaged | damaged, each


def equal_rows(inputs: Tensor) -> int:
    """How many rows (N, ...) are equal to one before them."""
    if not len(inputs):
        return 0
    flat = np.ascontiguousarray(inputs.flatten(1).numpy())
    if not flat.shape[1]:
        return len(flat) - 1
    keys = flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize)))[:, 0]
    return len(flat) - len(set(keys.tolist()))


def equal_files(pictures: Pictures, positions: Tensor) -> int | None:
    """How many pictures have the bytes of one before them; None where they are neither files nor bytes."""
    found: Counter[bytes] = Counter()
    for chunk in torch.split(positions, CHUNK):
        for item in pictures.fetch(chunk.tolist()):
            content = _hash(item)
            if content is None:
                return None
            found[content] += 1
    return sum(found.values()) - len(found)


def _hash(item: Any) -> bytes | None:
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(item, bytes):
        digest.update(item)
        return digest.digest()
    if not isinstance(item, str | Path):
        return None
    with Path(item).open("rb") as file:
        while part := file.read(HASHED):
            digest.update(part)
    return digest.digest()
