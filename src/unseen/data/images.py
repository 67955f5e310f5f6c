"""Pictures before they are read: where they are, what their headers say, and the one form that follows for all of them.

A picture is a file path, encoded bytes, the hub's ``{bytes, path}``, a PIL image, an array or a tensor.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unseen.data.decoding import (
    WHITE,
    DamagedError,
    Form,
    Header,
    Shape,
    header,
    opaque_brightness,
    other_shape,
)

PROBES = 64
DEFAULT_SIZE = 32  # pixels a side: what the networks of this library are made for
LARGEST_KEPT = 128 * 128  # pixels of a picture that keeps its size
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
        """Inputs (B, *shape) of these examples.

        Args:
            positions: int64 (B,) on the CPU, in [0, N).
        """
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
        sizes: how many pictures of each size, "width x height", and of each mode.
        modes: see ``sizes``.
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
    _refuse_mixed_arrays(headers, pictures.names)
    shape, resize, note = _common_shape(shapes, image_size)
    clear = [place for place, found in headers.items() if found.is_transparent]
    background, said = _background(pictures, clear)
    turned = sum(found.is_turned for found in headers.values())
    moving = sum(found.is_moving for found in headers.values())
    notes = (
        note,
        said,
        f"{_of(turned, headers)} are turned as their EXIF orientation says." if turned else "",
        f"{_of(moving, headers)} have several frames: the first is read." if moving else "",
    )
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


def _refuse_mixed_arrays(headers: dict[int, Header], names: list[str]) -> None:
    """Arrays are not resized: they must have one shape."""
    arrays = {place: found.shape for place, found in headers.items() if found.is_array}
    first = next(iter(arrays.values()), ())
    if odd := [place for place, shape in arrays.items() if shape != first]:
        raise other_shape(names[odd[0]], arrays[odd[0]], first)


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
