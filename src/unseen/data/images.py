"""Pictures of any kind to uint8 tensors, channels first: all at once, or batch by batch where they do not fit.

A picture is a file path, encoded bytes, the hub's ``{bytes, path}``, a PIL image, an array or a tensor.
"""

import io
import os
import stat
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unseen.errors import UnseenError

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 1024
PROBES = 64
DEFAULT_SIZE = 32
SMALL = 64 * 64
GREY_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "PPM", "TIFF", "JPEG2000", "AVIF", "ICO", "TGA")
"""Formats of Pillow that are read, whatever a file is called. EPS and WMF are none of them: they start outside programs."""
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError, RuntimeError, KeyError, AttributeError,
    ArithmeticError, AssertionError, zlib.error,
)  # fmt: skip
"""What Pillow raises on damaged files."""

Shape = tuple[int, ...]


class OtherShapeError(UnseenError):
    """A picture does not have the shape of the others."""


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


def read_pictures(pictures: Pictures, positions: Tensor, image_size: int | None = None, memory_gib: float = 4.0) -> Tensor | Lazy:
    """The pictures at these positions in one shape: a tensor where that takes at most ``memory_gib``, else ``Lazy``.

    Pictures of one size keep it. Where sizes differ, or ``image_size`` is given, each is squeezed, whole, to
    a square of that side (32 by default; PIL's bicubic filter). Grey pictures have one channel, unless
    there is a coloured one among them; transparency is dropped. The shape is guessed from 64 pictures spread
    evenly; one of another shape makes all headers be read, or, where pictures have none, is refused.
    """
    probes = positions[torch.linspace(0, len(positions) - 1, min(PROBES, len(positions))).long()]
    guess = _in_one_shape(pictures, positions, probes, image_size)
    try:
        if not pictures.has_headers or _fits(guess, memory_gib):
            return _hold(guess, memory_gib)
    except OtherShapeError:
        if not pictures.has_headers:
            raise
    return _hold(_in_one_shape(pictures, positions, positions, image_size), memory_gib)


def _in_one_shape(pictures: Pictures, positions: Tensor, probes: Tensor, image_size: int | None) -> Lazy:
    shapes = {shape for chunk in torch.split(probes, CHUNK) for shape in _shapes(pictures, chunk.tolist())}
    resize = image_size is not None or len({shape[1:] for shape in shapes}) > 1
    shape = _common_shape(shapes, image_size)
    return Lazy(partial(_read, pictures, shape, resize), positions, shape)


def _fits(inputs: Lazy, memory_gib: float) -> bool:
    return _first(inputs).nbytes * len(inputs) <= memory_gib * 2**30


def _first(inputs: Lazy) -> Tensor:
    return inputs.gather(torch.zeros(1, dtype=torch.int64))


def _hold(inputs: Lazy, memory_gib: float) -> Tensor | Lazy:
    """All inputs as one tensor, or, where they do not fit, as they are."""
    if not _fits(inputs, memory_gib):
        return inputs
    held = torch.empty((len(inputs), *inputs.shape), dtype=_first(inputs).dtype)
    for positions in torch.split(torch.arange(len(inputs)), CHUNK):
        held[positions[0] : positions[-1] + 1] = inputs.gather(positions)
    return held


def channels_first(inputs: Tensor) -> Tensor:
    """Arrays of examples in this library's layout.

    (N, features) and integers other than uint8 become float32; (N, H, W) becomes (N, 1, H, W); (N, H, W, C) with C in
    {1, 3, 4} becomes (N, C, H, W), unless the second dimension can be the channels already.

    >>> channels_first(torch.zeros(5, 28, 28, 3, dtype=torch.uint8)).shape
    torch.Size([5, 3, 28, 28])
    """
    if inputs.dim() not in (2, 3, 4):
        raise UnseenError(
            f"Inputs have shape {tuple(inputs.shape)}. Allowed: (N, features), (N, height, width), "
            "(N, channels, height, width) or (N, height, width, channels). Reshape them."
        )
    if inputs.dim() == 3:
        inputs = inputs[:, None]
    if inputs.dim() == 4 and inputs.shape[-1] in (1, 3, 4) and inputs.shape[1] not in (1, 3, 4):
        inputs = inputs.movedim(-1, 1)
    if inputs.dtype != torch.uint8 or inputs.dim() == 2:
        inputs = inputs.float()
    return inputs.contiguous()


def _common_shape(shapes: set[Shape], image_size: int | None) -> Shape:
    first = next(iter(shapes))
    if len(first) != 3 or (image_size is None and len(shapes) == 1):
        return first
    height, width = (image_size, image_size) if image_size else first[1:]
    if image_size is None and len({shape[1:] for shape in shapes}) > 1:
        height, width = DEFAULT_SIZE, DEFAULT_SIZE
    return (max(shape[0] for shape in shapes), height, width)


def _shapes(pictures: Pictures, positions: list[int]) -> list[Shape]:
    items = pictures.fetch(positions)
    return [_shape(item, pictures.names[i]) for i, item in zip(positions, items, strict=True)]


def _shape(item: object, name: str) -> Shape:
    if _is_array(item):
        return tuple(_array(item, name).shape)
    with _open(item, name) as image:
        return (_channels(image, name), image.height, image.width)


def _read(pictures: Pictures, shape: Shape, resize: bool, positions: Tensor) -> Tensor:
    """Decode these pictures. Threads help only where decoding, which frees the interpreter, is most of the work."""
    where = positions.tolist()
    work = [(item, pictures.names[i], shape, resize) for i, item in zip(where, pictures.fetch(where), strict=True)]
    if len(shape) < 3 or shape[1] * shape[2] <= SMALL:
        return torch.from_numpy(np.stack([_decode(*one) for one in work]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return torch.from_numpy(np.stack(list(pool.map(lambda one: _decode(*one), work))))


def _decode(item: object, name: str, shape: Shape, resize: bool) -> np.ndarray[Any, Any]:
    """One picture as an array of this shape."""
    if _is_array(item):
        array = _array(item, name).numpy()
        if array.shape != shape:
            raise _other_shape(name, array.shape, shape)
        return array
    channels, height, width = shape
    with _open(item, name) as image:
        coloured = _channels(image, name) > channels
        if coloured or (image.size != (width, height) and not resize):
            raise _other_shape(name, (3 if coloured else channels, image.height, image.width), shape)
        pixels = _pixels(image, name, "L" if channels == 1 else "RGB", (width, height))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _pixels(image: "Image.Image", name: str, mode: str, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Height × width (× 3) bytes; this is where a damaged picture shows."""
    try:
        if image.mode != mode:
            image = image.convert(mode)
        return np.asarray(image if image.size == size else image.resize(size))
    except DAMAGE as error:
        raise _corrupt(name, error) from error


def _open(item: object, name: str) -> AbstractContextManager["Image.Image"]:
    """A PIL image, its pixels not read yet. One that the caller owns stays open afterwards."""
    from PIL import Image

    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, Image.Image):
        return nullcontext(item)
    if isinstance(item, bytes | str | Path):
        try:
            return Image.open(io.BytesIO(item) if isinstance(item, bytes) else _regular(item), formats=_formats())
        except (*DAMAGE, Image.DecompressionBombError) as error:
            raise _corrupt(name, error) from error
    raise UnseenError(
        f"{name} is a {type(item).__name__}, not an image. Allowed: an image file, its bytes, a PIL image, an array "
        "or a tensor. Look at that example."
    )


def _regular(path: str | Path) -> str | Path:
    """The path of a file, not of a pipe, which would be waited for, or a device. Raises OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is a pipe, a device or a folder, not a file")
    return path


@lru_cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this version of Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _channels(image: "Image.Image", name: str) -> int:
    if image.mode in WIDE_MODES:
        raise UnseenError(f"{name} has more than 8 bits per pixel (mode {image.mode}). Convert it to 8 bits.")
    return 1 if image.mode in GREY_MODES else 3


def _is_array(item: object) -> bool:
    return isinstance(item, np.ndarray | Tensor)


def _array(item: object, name: str) -> Tensor:
    """One array or tensor as an example."""
    tensor = torch.as_tensor(item)
    if tensor.dim() not in (1, 2, 3):
        raise UnseenError(f"{name} has shape {tuple(tensor.shape)}. Allowed: features, or an image. Reshape it.")
    return channels_first(tensor.cpu()[None])[0]


def _other_shape(name: str, found: Shape, shape: Shape) -> OtherShapeError:
    return OtherShapeError(
        f"{name} has shape {tuple(found)}, others have {shape}. Allowed: one shape for all. Give an image size "
        "(image_size=32), or make them equal before."
    )


def _corrupt(name: str, error: Exception) -> UnseenError:
    return UnseenError(f"Cannot read the image {name}: {error}. Replace it, or take it out of the data set.")
