"""Pictures of any kind to tensors, channels first: all at once, or batch by batch where they do not fit.

A picture is a file path, encoded bytes, the hub's ``{bytes, path}``, a PIL image, an array or a tensor.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data.decoding import (
    WHITE,
    DamagedError,
    Form,
    Header,
    OtherShapeError,
    Shape,
    channels_first,
    decode,
    header,
    opaque_brightness,
)
from unseen.errors import UnseenError

__all__ = [
    "Form",
    "Lazy",
    "OtherShapeError",
    "Pictures",
    "ReadPictures",
    "Survey",
    "channels_first",
    "decode_all",
    "read_pictures",
    "survey",
]

CHUNK = 1024
CHUNK_BYTES = 2**28  # of pictures at a time, encoded or decoded
PROBES = 64
DEFAULT_SIZE = 32  # pixels a side: what the networks of this library are made for
LARGEST_KEPT = 128 * 128  # pixels of a picture that keeps its size
SMALL = 64 * 64  # pixels of a picture that one thread decodes as fast as several
THREAD_BYTES = 2**29  # of pictures that are being decoded
NEARLY_WHITE = 224  # opaque pixels brighter than this cannot be seen on white
SHOWN_DAMAGED = 20


@dataclass(frozen=True)
class Lazy:
    """Inputs that are read when a batch asks for them.

    Args:
        read: from positions in the source, int64 (B,), to inputs (B, *shape).
        positions: int64 (N,), where in the source the N examples stand.
        shape: of one example.
    """

    read: Callable[[Tensor], Tensor]
    positions: Tensor
    shape: Shape

    def __len__(self) -> int:
        """How many examples."""
        return len(self.positions)

    def gather(self, positions: Tensor) -> Tensor:
        """Inputs (B, *shape) of these examples. Args: positions, int64 (B,) on the CPU, in [0, N)."""
        return self.read(self.positions[positions])

    def select(self, positions: Tensor) -> "Lazy":
        """The same inputs, fewer or in another order; nothing is read."""
        return Lazy(self.read, self.positions[positions], self.shape)


@dataclass(frozen=True)
class Pictures:
    """Pictures before decoding.

    Args:
        fetch: from a list of positions to a list of pictures.
        names: of all pictures, for error messages (paths where there are any).
        has_headers: the size of a picture is known without decoding it.
    """

    fetch: Callable[[list[int]], list[Any]]
    names: list[str]
    has_headers: bool = True

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.names)


@dataclass(frozen=True)
class Survey:
    """What the headers of some pictures say, and the form that follows from them.

    Args:
        form: what every picture becomes.
        item_bytes: of one value of an input.
        sizes, modes: how many pictures of each size, "width x height", and of each mode.
        largest: pixels of the largest picture.
        damaged: positions of pictures without a header, and why.
        notes: sentences on what is changed.
    """

    form: Form
    item_bytes: int
    sizes: dict[str, int]
    modes: dict[str, int]
    largest: int
    damaged: dict[int, DamagedError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def bytes_of(self, count: int) -> int:
        """What so many inputs take in memory."""
        return count * math.prod(self.form.shape) * self.item_bytes


@dataclass(frozen=True)
class ReadPictures:
    """Inputs (M, ...), the positions they came from, int64 (M,), what was seen of them, and what was damaged, by position."""

    inputs: Tensor | Lazy
    positions: Tensor
    survey: Survey
    damaged: dict[int, DamagedError]


def read_pictures(
    pictures: Pictures, positions: Tensor, image_size: int | None = None, memory_gib: float = 4.0, skip_damaged: bool = False
) -> ReadPictures:
    """The pictures at these positions in one shape: a tensor where that takes at most ``memory_gib``, else ``Lazy``.

    Pictures of one size keep it, up to 128 x 128 pixels. Where sizes differ or are larger, or ``image_size`` is given, each is
    squeezed, whole, to a square of that side (32 by default; PIL's bicubic filter, after EXIF rotation). Grey pictures have one
    channel, unless there is a coloured one among them; transparent ones are put on white (on black, where what is opaque is white
    itself). The shape is guessed from 64 pictures spread evenly; one of another shape makes all headers be read, or, where pictures
    have none, is refused.

    Raises UnseenError that names all damaged pictures, unless ``skip_damaged``.
    """
    probes = positions[torch.linspace(0, len(positions) - 1, min(PROBES, len(positions))).long()]
    seen = survey(pictures, probes, image_size)
    try:
        if not pictures.has_headers or seen.bytes_of(len(positions)) <= memory_gib * 2**30:
            return _read(pictures, positions, seen, memory_gib, skip_damaged)
    except OtherShapeError:
        if not pictures.has_headers:
            raise
    return _read(pictures, positions, survey(pictures, positions, image_size), memory_gib, skip_damaged)


def survey(pictures: Pictures, positions: Tensor, image_size: int | None = None) -> Survey:
    """The headers of the pictures at these positions. Raises UnseenError where none of them has one."""
    headers: dict[int, Header] = {}
    damaged: dict[int, DamagedError] = {}
    for chunk in torch.split(positions, PROBES):
        for place, item in zip(chunk.tolist(), pictures.fetch(chunk.tolist()), strict=True):
            try:
                headers[place] = header(item, pictures.names[place])
            except DamagedError as error:
                damaged[place] = error
    if not headers:
        raise damaged_error(damaged, pictures.names, len(damaged))
    shapes = Counter(found.shape for found in headers.values())
    shape, resize, note = _common_shape(shapes, image_size)
    clear = [place for place, found in headers.items() if found.is_transparent]
    background, said = _background(pictures, clear)
    turned = sum(found.is_turned for found in headers.values())
    notes = (note, said, f"{_of(turned, headers)} are turned as their EXIF orientation says." if turned else "")
    pictorial = {size: count for size, count in shapes.items() if len(size) == 3}
    sizes: Counter[str] = Counter()
    for size, count in pictorial.items():
        sizes[f"{size[2]} x {size[1]}"] += count
    return Survey(
        Form(shape, resize, background),
        max(found.item_bytes for found in headers.values()),
        dict(sizes.most_common()),
        dict(Counter(found.mode for found in headers.values()).most_common()),
        max(math.prod(size[1:]) for size in shapes),
        damaged,
        tuple(sentence for sentence in notes if sentence),
    )


def _of(count: int, headers: dict[int, Header]) -> str:
    return f"{count:,} of {len(headers):,} pictures looked at"


def _common_shape(shapes: Counter[Shape], image_size: int | None) -> tuple[Shape, bool, str]:
    """The shape of all, whether pictures are squeezed to it, and what to say of that."""
    first = next(iter(shapes))
    if len(first) != 3:
        return first, False, ""
    channels = max(shape[0] for shape in shapes)
    sizes = {shape[1:] for shape in shapes}
    side = image_size or DEFAULT_SIZE
    if image_size is None and len(sizes) == 1 and math.prod(first[1:]) <= LARGEST_KEPT:
        return (channels, *first[1:]), False, ""
    smallest, largest = (size(sizes, key=math.prod) for size in (min, max))
    if sizes == {(side, side)}:
        return (channels, side, side), True, ""
    what = f"{first[2]} x {first[1]} pixels" if len(sizes) == 1 else f"several sizes, {_by(smallest)} to {_by(largest)} pixels"
    more = "" if image_size else " --image-size N gives another size."
    return (channels, side, side), True, f"Pictures have {what}; each is squeezed to {side} x {side}.{more}"


def _by(size: Shape) -> str:
    return f"{size[1]} x {size[0]}"


def _background(pictures: Pictures, clear: Sequence[int]) -> tuple[int, str]:
    """What transparent pictures are put on: white, or black where their opaque pixels are nearly white, and what to say of it."""
    if not clear:
        return WHITE, ""
    some = list(clear[:: max(1, len(clear) // 16)])
    found = [opaque_brightness(item, pictures.names[place]) for place, item in zip(some, pictures.fetch(some), strict=True)]
    known = [brightness for brightness in found if brightness is not None]
    is_white = bool(known) and sum(known) / len(known) >= NEARLY_WHITE
    return (
        (0, "Transparent pictures are put on black, as what is drawn is white.")
        if is_white
        else (
            WHITE,
            "Transparent pictures are put on white.",
        )
    )


def _read(pictures: Pictures, positions: Tensor, seen: Survey, memory_gib: float, skip_damaged: bool) -> ReadPictures:
    lazy = Lazy(partial(_gather, pictures, seen), positions, seen.form.shape)
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


def _chunks(pictures: Pictures, positions: Tensor, seen: Survey) -> Any:
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


def damaged_error(damaged: dict[int, DamagedError], names: list[str], total: int = 0) -> DamagedError:
    """One error that names the damaged pictures, up to twenty. total: how many were looked at, where all of them are damaged."""
    places = sorted(damaged)
    if len(places) == total and total > 1:
        return DamagedError(f"{damaged[places[0]]} None of the {total:,} images that were looked at can be read.")
    if len(places) == 1:
        return DamagedError(f"{damaged[places[0]]} --skip-damaged (skip_damaged=True) leaves it out.")
    shown = ", ".join(names[place] for place in places[:SHOWN_DAMAGED])
    more = f" and {len(places) - SHOWN_DAMAGED:,} more" if len(places) > SHOWN_DAMAGED else ""
    return DamagedError(
        f"Cannot read {len(places):,} images: {shown}{more}. Replace them, take them out, or leave them out with --skip-damaged "
        "(skip_damaged=True)."
    )
