"""Pictures read: all into one tensor where that fits, else batch by batch; damaged ones are collected."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.decoding import DamagedError, OtherShapeError, decode
from unseen.data.images import LARGEST_KEPT, PROBES, Lazy, Pictures, Survey, damaged_error, survey
from unseen.errors import UnseenError

CHUNK = 1024
CHUNK_BYTES = 2**28  # of pictures at a time, encoded or decoded
SMALL = 64 * 64  # pixels of a picture that one thread decodes as fast as several
THREAD_BYTES = 2**29  # of pictures that are being decoded
TIMED = 16  # pictures that are decoded to see how long one takes
LARGEST_UNSAID = 2**28  # pixels of all pictures that are read without a word
PATIENCE = 10.0  # seconds of reading that are said before it starts


@dataclass(frozen=True)
class ReadPictures:
    """Inputs (M, ...), the positions they came from, int64 (M,), what was seen of them, and what was damaged, by position."""

    inputs: Tensor | Lazy
    positions: Tensor
    survey: Survey
    damaged: dict[int, DamagedError]


def read_pictures(
    pictures: Pictures,
    positions: Tensor,
    image_size: int | None = None,
    memory_gib: float = 4.0,
    skip_damaged: bool = False,
    say: Callable[[str], None] | None = None,
) -> ReadPictures:
    """The pictures at these positions in one shape: a tensor where that takes at most ``memory_gib``, else ``Lazy``.

    Pictures of one size keep it, up to 128 x 128 pixels. Where sizes differ or are larger, or ``image_size`` is given, each is
    squeezed, whole, to a square of that side (32 by default; PIL's bicubic filter, after EXIF rotation). Grey pictures have one
    channel, unless there is a coloured one among them; transparent ones are put on white (on black, where what is opaque is white
    itself). The shape is guessed from 64 pictures spread evenly; one of another shape makes all headers be read, or, where pictures
    have none, is refused.

    Raises:
        UnseenError: that names all damaged pictures, unless ``skip_damaged``.
    """
    probes = positions[torch.linspace(0, len(positions) - 1, min(PROBES, len(positions))).long()]
    seen = survey(pictures, probes, image_size)
    try:
        if not pictures.has_headers or seen.bytes_of(len(positions)) <= memory_gib * 2**30:
            return _read(pictures, positions, seen, memory_gib, skip_damaged, say)
    except OtherShapeError:
        if not pictures.has_headers:
            raise
    return _read(pictures, positions, survey(pictures, positions, image_size), memory_gib, skip_damaged, say)


def unread(pictures: Pictures, positions: Tensor, seen: Survey) -> Lazy:
    """The pictures as inputs that are read when they are asked for."""
    return Lazy(partial(_gather, pictures, seen), positions, seen.form.shape)


def seconds_each(pictures: Pictures, seen: Survey, where: list[int]) -> tuple[float, dict[int, DamagedError]]:
    """Seconds that decoding a picture takes, from 16 of them spread evenly, and which of these are damaged."""
    few = where[:: max(1, len(where) // TIMED)][:TIMED]
    started = time.perf_counter()
    _, damaged = decode_all(pictures, seen, few)
    return (time.perf_counter() - started) / max(len(few), 1), damaged


def _announce(pictures: Pictures, positions: Tensor, seen: Survey, say: Callable[[str], None]) -> None:
    """Say how long reading takes and how much memory, where it is long."""
    if seen.largest * len(positions) < LARGEST_UNSAID:
        return
    seconds = seconds_each(pictures, seen, positions.tolist())[0] * len(positions)
    if seconds > PATIENCE:
        mebibytes = seen.bytes_of(len(positions)) / 2**20
        say(f"Reading {len(positions):,} pictures takes about {seconds:,.0f} s, and {mebibytes:,.0f} MiB of memory.")


def _read(
    pictures: Pictures, positions: Tensor, seen: Survey, memory_gib: float, skip_damaged: bool, say: Callable[[str], None] | None
) -> ReadPictures:
    if say:
        _announce(pictures, positions, seen, say)
    lazy = unread(pictures, positions, seen)
    if seen.bytes_of(len(positions)) > memory_gib * 2**30:
        damaged = seen.damaged
        if skip_damaged:  # a batch that asks for a damaged picture would end the training
            damaged = {place: error for _, bad in _chunks(pictures, positions, seen) for place, error in bad.items()}
        _refuse_damaged(damaged, pictures.names, skip_damaged)
        kept = torch.tensor([place not in damaged for place in positions.tolist()], dtype=torch.bool)
        return ReadPictures(lazy.select(kept.nonzero()[:, 0]), positions[kept], seen, damaged)
    held: Tensor | None = None
    filled, damaged, kept_positions = 0, dict[int, DamagedError](), []
    for (good, arrays), bad in _chunks(pictures, positions, seen):
        damaged |= bad
        if not len(arrays):
            continue
        if held is None:
            held = torch.empty((len(positions), *seen.form.shape), dtype=arrays.dtype)
        if held.dtype != arrays.dtype and torch.uint8 in (held.dtype, arrays.dtype):
            raise UnseenError(
                f"{pictures.names[good[0]]} has values of type {arrays.dtype}, others {held.dtype}. Allowed: one type for all."
            )
        held = held.to(torch.promote_types(held.dtype, arrays.dtype))
        held[filled : filled + len(arrays)] = arrays
        filled += len(arrays)
        kept_positions += good
    _refuse_damaged(damaged, pictures.names, skip_damaged)
    if held is None:
        raise damaged_error(damaged, pictures.names, len(damaged))
    return ReadPictures(held[:filled], torch.tensor(kept_positions), seen, damaged)


def _chunks(pictures: Pictures, positions: Tensor, seen: Survey) -> Iterator[tuple[tuple[list[int], Tensor], dict[int, DamagedError]]]:
    """Pairs of ((positions, inputs) of those that could be read, the errors of the others), a few pictures at a time."""
    encoded = seen.largest // 2 if seen.largest > LARGEST_KEPT else 0  # bytes of a large picture as its source gives it, at most
    size = max(1, min(CHUNK, CHUNK_BYTES // max(seen.bytes_of(1), encoded)))
    for chunk in torch.split(positions, size):
        yield decode_all(pictures, seen, chunk.tolist())


def decode_all(pictures: Pictures, seen: Survey, where: list[int]) -> tuple[tuple[list[int], Tensor], dict[int, DamagedError]]:
    """Decode these pictures. Threads help only where decoding, which frees the interpreter, is most of the work."""
    items = pictures.fetch(where)

    def one(place: int, item: object) -> np.ndarray[Any, Any] | DamagedError:
        try:
            return decode(item, pictures.names[place], seen.form)
        except DamagedError as error:
            return error

    if seen.largest <= SMALL or len(seen.form.shape) < 3:
        found = [one(place, item) for place, item in zip(where, items, strict=True)]
    else:
        workers = max(1, min(os.cpu_count() or 1, THREAD_BYTES // (8 * seen.largest)))  # a picture and its copy in RGBA
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(one, where, items))
    good = [place for place, result in zip(where, found, strict=True) if not isinstance(result, DamagedError)]
    arrays = [result for result in found if not isinstance(result, DamagedError)]
    damaged = {place: result for place, result in zip(where, found, strict=True) if isinstance(result, DamagedError)}
    return (good, torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0)), damaged


def _gather(pictures: Pictures, seen: Survey, positions: Tensor) -> Tensor:
    """Decode these pictures. Raises UnseenError for damaged ones, all of the batch in one message."""
    (_, arrays), damaged = decode_all(pictures, seen, positions.tolist())
    _refuse_damaged(damaged, pictures.names, False)
    return arrays


def _refuse_damaged(damaged: dict[int, DamagedError], names: list[str], skip: bool) -> None:
    if damaged and not skip:
        raise damaged_error(damaged, names)
