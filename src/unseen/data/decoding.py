"""One picture: what it is by its header, and its pixels in the form that all pictures of a set get."""

import io
import os
import stat
import struct
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unseen.errors import UnseenError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
LYING = (5, 6, 7, 8)  # EXIF orientations that swap width and height
ORIENTATION = 0x0112
WHITE = 255
SPARE = 2  # a JPEG is decoded at no less than this many times the size that is wanted
GAP = 3.0  # Pillow's reducing_gap: above it, the result can hardly be told from that of one step

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "PPM", "TIFF", "JPEG2000", "AVIF", "ICO", "TGA")
"""Formats of Pillow that are read, whatever a file is called. EPS and WMF are none of them: they start outside programs."""
MOVING = ("GIF", "WEBP", "TIFF", "PNG")
"""Formats that can hold several pictures. A phone's MPO holds its own preview beside the photograph."""
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError, RuntimeError, KeyError, AttributeError,
    ArithmeticError, AssertionError, zlib.error,
)  # fmt: skip
"""What Pillow raises on damaged files."""

Shape = tuple[int, ...]


class OtherShapeError(UnseenError):
    """A picture does not have the shape of the others."""


class DamagedError(UnseenError):
    """A picture that cannot be read."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are: its shape as it will stand, and what has to be done to it.

    Args:
        shape: channels, height, width, after EXIF rotation; or the shape of an array.
        mode: Pillow's, or the type of an array.
        item_bytes: of one value.
        is_transparent: it has an alpha channel, or a transparent colour.
        is_turned: EXIF says that it has to be turned or mirrored.
        is_array: it is numbers already, and is not resized.
        is_moving: it has several frames or pages, of which the first is read.
    """

    shape: Shape
    mode: str
    item_bytes: int = 1
    is_transparent: bool = False
    is_turned: bool = False
    is_array: bool = False
    is_moving: bool = False


@dataclass(frozen=True)
class Form:
    """What every picture of a set becomes.

    Args:
        shape: channels, height, width; or the shape of an array.
        resize: pictures of other sizes are squeezed to it, else refused.
        background: grey level, 0 to 255, behind transparent pixels.
    """

    shape: Shape
    resize: bool
    background: int = WHITE


def header(item: object, name: str) -> Header:
    """Of one picture. Raises DamagedError where there is none, UnseenError for more than 8 bits."""
    if is_array(item):
        array = as_tensor(item, name)
        return Header(tuple(array.shape), str(array.dtype).removeprefix("torch."), array.element_size(), is_array=True)
    with opened(item, name) as image:
        turn = _orientation(image)
        width, height = image.size[::-1] if turn in LYING else image.size
        shape = (_channels(image, name), height, width)
        is_moving = image.format in MOVING and _is_moving(image)
        return Header(shape, image.mode, 1, _has_alpha(image), turn != 1, is_moving=is_moving)


def decode(item: object, name: str, form: Form) -> np.ndarray[Any, Any]:
    """One picture as an array of the form's shape."""
    if is_array(item):
        array: np.ndarray[Any, Any] = as_tensor(item, name).numpy()
        if array.shape != form.shape:
            raise other_shape(name, array.shape, form.shape)
        return array
    channels, height, width = form.shape
    with opened(item, name) as image:
        turn = _orientation(image)
        size = (height, width) if turn in LYING else (width, height)
        coloured = _channels(image, name) > channels
        if coloured or (image.size != size and not form.resize):
            found = image.size[::-1] if turn not in LYING else image.size
            raise other_shape(name, (3 if coloured else channels, *found), form.shape)
        if image is not item and image.size != size and image.format in ("JPEG", "MPO"):
            image.draft(None, (SPARE * size[0], SPARE * size[1]))  # type: ignore[arg-type]
        pixels = _pixels(image, name, "L" if channels == 1 else "RGB", size, turn, form.background)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def opaque_brightness(item: object, name: str) -> float | None:
    """Mean grey level, 0 to 255, of a picture weighted by its alpha channel; None where nothing is opaque."""
    with opened(item, name) as image:
        try:
            pixels = np.asarray(image.convert("RGBA"), dtype=np.float64)
        except DAMAGE:
            return None
    alpha = pixels[..., 3]
    return float((pixels[..., :3].mean(-1) * alpha).sum() / alpha.sum()) if alpha.sum() else None


def _pixels(image: "Image.Image", name: str, mode: str, size: tuple[int, int], turn: int, background: int) -> np.ndarray[Any, Any]:
    """Height × width (× 3) bytes; this is where a damaged picture shows."""
    try:
        image = _flat(image, mode, background)
        image = image if image.size == size else image.resize(size, reducing_gap=GAP)
        return np.asarray(image if turn == 1 else _turned(image, turn))
    except DAMAGE as error:
        raise _corrupt(name, error) from error


def _flat(image: "Image.Image", mode: str, background: int) -> "Image.Image":
    """The picture in a mode without transparency, on a background where it has some."""
    from PIL import Image

    if _has_alpha(image):
        clear = image.convert("RGBA")
        if clear.getchannel("A").getextrema() != (WHITE, WHITE):
            behind = Image.new("RGBA", clear.size, (background, background, background, WHITE))
            behind.alpha_composite(clear)
            return behind.convert(mode)
    return image if image.mode == mode else image.convert(mode)


def _turned(image: "Image.Image", turn: int) -> "Image.Image":
    """As EXIF's orientation asks for."""
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(ways[turn])


def _orientation(image: "Image.Image") -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none. Asked only where the header has EXIF, so that no pixels are read for it."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except DAMAGE:
        return 1
    return found if found in range(1, 9) else 1


def _is_moving(image: "Image.Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except DAMAGE:
        return False


def _has_alpha(image: "Image.Image") -> bool:
    return image.mode in ALPHA_MODES or "transparency" in image.info


def opened(item: object, name: str) -> AbstractContextManager["Image.Image"]:
    """A PIL image, its pixels not read yet. One that the caller owns stays open afterwards."""
    from PIL import Image

    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, Image.Image):
        return nullcontext(item)
    if isinstance(item, bytes | str | Path):
        try:
            return Image.open(io.BytesIO(item) if isinstance(item, bytes) else _regular(item), formats=formats())
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
def formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this version of Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _channels(image: "Image.Image", name: str) -> int:
    if image.mode in WIDE_MODES:
        raise UnseenError(f"{name} has more than 8 bits per pixel (mode {image.mode}). Convert it to 8 bits.")
    return 1 if image.mode in GREY_MODES else 3


def is_array(item: object) -> bool:
    """Whether an example is numbers already."""
    return isinstance(item, np.ndarray | Tensor)


def as_tensor(item: object, name: str) -> Tensor:
    """One array or tensor as an example."""
    tensor = torch.as_tensor(item)
    if tensor.dim() not in (1, 2, 3):
        raise UnseenError(f"{name} has shape {tuple(tensor.shape)}. Allowed: features, or an image. Reshape it.")
    return channels_first(tensor.cpu()[None])[0]


def channels_first(inputs: Tensor) -> Tensor:
    """Arrays of examples in this library's layout.

    (N, features) and integers other than uint8 become floats: float32, or float64 where the source has 64 bits, which
    ``precision.narrowed`` makes float32 again where that loses nothing. (N, H, W) becomes (N, 1, H, W); (N, H, W, C) with C in
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
    if inputs.dtype in (torch.float64, torch.int64, torch.uint64, torch.int32, torch.uint32):
        inputs = inputs.double()
    elif inputs.dtype != torch.uint8 or inputs.dim() == 2:
        inputs = inputs.float()
    return inputs.contiguous()


def other_shape(name: str, found: Shape, shape: Shape) -> OtherShapeError:
    """The error for a picture that does not have the shape of the others."""
    return OtherShapeError(
        f"{name} has shape {tuple(found)}, others have {shape}. Allowed: one shape for all. Give an image size "
        "(image_size=32), or make them equal before."
    )


def _corrupt(name: str, error: Exception) -> DamagedError:
    from PIL import UnidentifiedImageError

    reason = "no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error).rstrip(".")
    return DamagedError(f"Cannot read the image {name}: {reason}. Replace it, or take it out of the data set.")
