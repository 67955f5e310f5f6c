"""Pictures for the cards, many to a sheet: large ones of what the lists show, from the original files if there are any, then small ones."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unseen.data import Examples, Lazy

LARGE, SMALL = 128, 32  # pixels of the longer side
PER_SHEET, PER_SMALL_SHEET = 64, 256
BUDGET = 3_800_000  # characters of all large thumbnails
QUALITY = 78
BLOCK = 16  # of the compression: a thumbnail that starts at a multiple does not bleed into its neighbour
LARGEST_FILE = 64 * 2**20

Read = Callable[[Sequence[int]], list[Any]]
"""From positions to PIL images."""


def sheets(examples: Examples, positions: Sequence[int], folder: Path | None = None) -> dict[str, Any]:
    """Thumbnails of images, many to a picture file: large ones until ``BUDGET`` is used, small ones of the rest.

    Args:
        examples: images.
        positions: which, in the order wanted.
        folder: where ids are paths of the original files.

    Returns:
        Parts, each with start (number of its first thumbnail), sheets (data URIs of WebP files), per (thumbnails of a sheet), stride
        (pixels from one to the next), columns, and sizes (width and height of each thumbnail); and ink: whether they are bright strokes on
        black, which a light page shows inverted.
    """
    low, high = _range(examples)

    def read(some: Sequence[int]) -> list[Any]:
        return [
            _original(folder, examples.ids[place]) or image for place, image in zip(some, _images(examples, some, low, high), strict=True)
        ]

    first = list(positions[:PER_SHEET])
    is_small = folder is None and max(examples.shape[1:]) <= SMALL
    ink = examples.shape[0] == 1 and bool(first) and float(np.mean([np.asarray(image).mean() for image in read(first)])) < 0.35 * 255
    parts = [] if is_small else [_part(read, positions, LARGE, PER_SHEET, BUDGET)]
    done = len(parts[0]["sizes"]) // 2 if parts else 0
    if done < len(positions):
        parts.append(_part(read, positions[done:], SMALL, PER_SMALL_SHEET, math.inf) | {"start": done})
    return {"parts": parts, "ink": ink}


def _part(read: Read, positions: Sequence[int], side: int, per: int, budget: float) -> dict[str, Any]:
    columns, sizes, used, exact = math.isqrt(per), [], 0, None
    made: list[str] = []
    for start in range(0, len(positions), per):
        if used > budget:
            break
        images = [_shrunk(image, side) for image in read(positions[start : start + per])]
        sheet = _sheet(images, columns, math.ceil(side / BLOCK) * BLOCK)
        exact = _is_drawn(sheet) if exact is None else exact
        made.append(data_uri(sheet, exact))
        sizes += [length for image in images for length in image.size]
        used += len(made[-1])
    return {"start": 0, "sheets": made, "per": per, "stride": math.ceil(side / BLOCK) * BLOCK, "columns": columns, "sizes": sizes}


def _sheet(images: Iterable[Any], columns: int, stride: int) -> Any:
    from PIL import Image

    images = list(images)
    mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
    sheet = Image.new(mode, (min(columns, len(images)) * stride, math.ceil(len(images) / columns) * stride))
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * stride, place // columns * stride))
    return sheet


def _shrunk(image: Any, side: int) -> Any:
    from PIL import Image

    share = side / max(image.size)
    if share >= 1:
        return image
    return image.resize(tuple(max(1, round(length * share)) for length in image.size), Image.Resampling.LANCZOS)


def _original(folder: Path | None, name: str) -> Any:
    """The original picture, upright; None where it cannot be read."""
    from PIL import Image, ImageOps

    if folder is None:
        return None
    try:
        if (folder / name).stat().st_size > LARGEST_FILE:
            return None
        with Image.open(folder / name) as image:
            image.draft("RGB", (2 * LARGE, 2 * LARGE))
            upright = ImageOps.exif_transpose(image)
            clear = upright.convert("RGBA") if upright.mode in ("RGBA", "LA", "P", "PA") else upright
            if clear.mode != "RGBA":
                return (
                    clear.convert("L" if clear.mode in ("1", "L") else "RGB") if clear.mode in ("1", "L", "RGB", "CMYK", "YCbCr") else None
                )
            return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    except Exception:  # a file that Pillow cannot read has a picture in the data that were scored
        return None


def _images(examples: Examples, positions: Sequence[int], low: float, high: float) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in pictures(examples, positions, low, high)]


def _range(examples: Examples) -> tuple[float, float]:
    """Lowest and highest value of pictures of floats, of up to 256 spread over the data; of bytes 0 and 255."""
    if not len(examples):
        return 0.0, 255.0
    some = _gathered(examples, range(0, len(examples), max(1, len(examples) // 256)))
    return (0.0, 255.0) if some.dtype == torch.uint8 else tuple(float(end) for end in some.float().aminmax())  # type: ignore[return-value]


def _gathered(examples: Examples, positions: Sequence[int]) -> torch.Tensor:
    chosen, inputs = torch.as_tensor(list(positions), dtype=torch.int64), examples.inputs
    return (inputs.gather(chosen) if isinstance(inputs, Lazy) else inputs.index_select(0, chosen)).cpu()


def pictures(examples: Examples, positions: Sequence[int], low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
    """Images at these positions: uint8 (n, height, width, 1 or 3).

    Args:
        examples: images.
        positions: which.
        low: the value of floats that is black; default: their lowest.
        high: the value that is white; default: their highest.
    """
    raw = _gathered(examples, positions)
    if raw.dtype != torch.uint8:
        raw = raw.float()
        darkest, brightest = raw.aminmax()
        darkest, brightest = (darkest if low is None else torch.tensor(low)), (brightest if high is None else torch.tensor(high))
        raw = ((raw - darkest) / (brightest - darkest).clamp_min(1e-12) * 255).round().clamp(0, 255).to(torch.uint8)
    shown = raw[:, :3] if raw.shape[1] >= 3 else raw[:, :1]
    return shown.permute(0, 2, 3, 1).contiguous().numpy()


def _is_drawn(sheet: Any) -> bool:
    """Whether to keep every pixel: where that is at most half as large again (drawings) as compressed (photographs). Looks at a corner."""
    corner = sheet.crop((0, 0, min(sheet.width, 4 * LARGE), min(sheet.height, 2 * LARGE)))
    return len(_webp(corner, lossless=True)) <= 1.5 * len(_webp(corner, quality=QUALITY))


def data_uri(image: Any, exact: bool) -> str:
    """A PIL image as a WebP data URI."""
    return "data:image/webp;base64," + base64.b64encode(_webp(image, lossless=True) if exact else _webp(image, quality=QUALITY)).decode()


def _webp(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=2, **options)
    return buffer.getvalue()


def is_images(examples: Examples) -> bool:
    """Whether the inputs are pictures: (channels, height, width) with 1, 3 or 4 channels."""
    return len(examples.shape) == 3 and examples.shape[0] in (1, 2, 3, 4)
