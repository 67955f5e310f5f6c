"""What the examples are, for the cards: thumbnails in sheets, or texts, or rows of a table."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from unseen.data import Examples, Lazy
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

LARGEST_SIDE = 64
PER_SHEET = 256
BLOCK = 16  # of the compression: a thumbnail that starts at a multiple does not bleed into its neighbour
LONGEST_TEXT = 600
MOST_FEATURES = 40


def sheets(examples: Examples, positions: Sequence[int]) -> dict[str, Any]:
    """Thumbnails of images, many to a picture file.

    Args:
        examples: images.
        positions: which, in the order wanted.

    Returns:
        Sheets (data URIs of WebP files), width, height (pixels of a thumbnail), stride (pixels from one to the next), columns, and ink:
        whether they are bright strokes on black, which a light page shows inverted.
    """
    from PIL import Image

    pixels = pictures(examples, positions)
    height, width = pixels.shape[1:3]
    shrink = min(1.0, LARGEST_SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    stride = math.ceil(max(size) / BLOCK) * BLOCK
    columns = math.isqrt(PER_SHEET)
    found = []
    for start in range(0, len(pixels), PER_SHEET):
        chunk = pixels[start : start + PER_SHEET]
        sheet = Image.new("RGB" if pixels.shape[-1] == 3 else "L", (columns * stride, math.ceil(len(chunk) / columns) * stride))
        for place, one in enumerate(chunk):
            thumbnail = Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one)
            if thumbnail.size != size:
                thumbnail = thumbnail.resize(size, Image.Resampling.LANCZOS)
            sheet.paste(thumbnail, (place % columns * stride, place // columns * stride))
        found.append(data_uri(sheet))
    ink = pixels.shape[-1] == 1 and float(pixels[:256].mean()) < 0.35 * 255
    return {"sheets": found, "width": size[0], "height": size[1], "stride": stride, "columns": columns, "ink": ink}


def pictures(examples: Examples, positions: Sequence[int]) -> NDArray[np.uint8]:
    """Images at these positions: uint8 (n, height, width, 1 or 3). Floats are stretched from their lowest to their highest value."""
    chosen = torch.as_tensor(positions, dtype=torch.int64)
    inputs = examples.inputs
    raw = (inputs.gather(chosen) if isinstance(inputs, Lazy) else inputs.index_select(0, chosen)).cpu()
    if raw.dtype != torch.uint8:
        raw = raw.float()
        low, high = raw.aminmax()
        raw = ((raw - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    shown = raw[:, :3] if raw.shape[1] >= 3 else raw[:, :1]
    return shown.permute(0, 2, 3, 1).contiguous().numpy()


def data_uri(image: Any, quality: int = 80) -> str:
    """A PIL image as a WebP data URI: exact where that is at most half as large again (drawings), else compressed (photographs)."""
    exact, lossy = _webp(image, lossless=True), _webp(image, quality=quality)
    return "data:image/webp;base64," + base64.b64encode(exact if len(exact) <= 1.5 * len(lossy) else lossy).decode()


def _webp(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=4, **options)
    return buffer.getvalue()


def is_images(examples: Examples) -> bool:
    """Whether the inputs are pictures: (channels, height, width) with 1, 3 or 4 channels."""
    return len(examples.shape) == 3 and examples.shape[0] in (1, 2, 3, 4)


def rows(source: Any, positions: Sequence[int], examples: Examples | None = None) -> dict[str, Any] | None:
    """Texts or table rows, for data that are no pictures.

    Args:
        source: the path of a CSV, TSV or parquet file, a Polars frame, or a sequence of texts, in the order of the index; else the features
            of ``examples`` are shown, numbered.
        positions: index of the wanted ones.

    Returns:
        Names (empty for texts) and rows: a list of cells, texts all; None where there is nothing to show.
    """
    frame = _frame(source)
    if frame is not None:
        names = [name for name in frame.columns if name != "index"][:MOST_FEATURES]
        wanted = frame.select(names)[_places(frame, positions)]
        return {"names": names, "rows": [[_cell(cell) for cell in row] for row in wanted.iter_rows()]}
    if isinstance(source, Sequence) and not isinstance(source, str) and source and all(isinstance(text, str) for text in source[:8]):
        _check_positions(positions, len(source))
        return {"names": [], "rows": [[_cell(source[position])] for position in positions]}
    if examples is None or len(examples.shape) != 1:
        return None
    places = {index: place for place, index in enumerate(examples.index.tolist())}
    inputs = examples.inputs.gather(torch.arange(len(examples))) if isinstance(examples.inputs, Lazy) else examples.inputs
    chosen = inputs[[places[position] for position in positions], :MOST_FEATURES].tolist()
    return {
        "names": [f"feature {number}" for number in range(len(chosen[0]) if chosen else 0)],
        "rows": [[f"{v:.4g}" for v in r] for r in chosen],
    }


def _frame(source: Any) -> "pl.DataFrame | None":
    import polars as pl

    if isinstance(source, pl.DataFrame):
        frame = source
    elif isinstance(source, str | Path) and Path(source).suffix in (".csv", ".tsv") and Path(source).is_file():
        frame = pl.read_csv(source, separator="\t" if Path(source).suffix == ".tsv" else ",", infer_schema_length=None)
    elif isinstance(source, str | Path) and Path(source).suffix == ".parquet" and Path(source).is_file():
        frame = pl.read_parquet(source)
    else:
        return None
    return frame


def _places(frame: "pl.DataFrame", positions: Sequence[int]) -> list[int]:
    """Rows of these index: by the column ``index`` where there is one."""
    if "index" not in frame.columns:
        _check_positions(positions, len(frame))
        return list(positions)
    places = {index: place for place, index in enumerate(frame["index"].to_list())}
    missing = next((position for position in positions if position not in places), None)
    if missing is not None:
        raise UnseenError(f"The column index of data has no {missing}, which the run has. Allowed: the data the run was made of.")
    return [places[position] for position in positions]


def _check_positions(positions: Sequence[int], count: int) -> None:
    if len(positions) and max(positions) >= count:
        raise UnseenError(f"data has {count} rows, and the run has an example at {max(positions)}. Allowed: the data the run was made of.")


def _cell(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
