"""Small inputs that tests of reading make: pictures, folders and tables."""

import io
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

CASES = Path(__file__).parents[3] / "shared" / "cases"
"""Inputs of real users, where this machine has them."""


def _beyond_int64():
    try:
        return pl.read_csv(io.BytesIO(b"a\n9223372036854775808\n"))["a"].to_list() == [2**63]
    except pl.exceptions.ComputeError:
        return False


BEYOND_INT64 = _beyond_int64()
"""Whether Polars reads whole numbers beyond 2^63 from a CSV; 1.34 does not."""


def picture(place, number=0, size=(8, 6), mode="RGB", form=None, **options):
    """Write a picture that no other number has, and give its pixels (height, width, 3) or (height, width)."""
    place.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    if form is None:
        image.save(place, **options)
    else:  # whatever the suffix says
        image.save(buffer := io.BytesIO(), form, **options)
        place.write_bytes(buffer.getvalue())
    return np.asarray(image)


def classes(folder, names=("cat", "dog"), each=5, **options):
    """A folder of pictures per class."""
    for place, name in enumerate(names):
        for number in range(each):
            picture(folder / name / f"{number:02}.png", 1000 * place + number, **options)


def counts(examples):
    """Examples by split and class."""
    found = {}
    for split, label in zip(examples.split, examples.labels.tolist(), strict=True):
        found[split, examples.classes[label]] = found.get((split, examples.classes[label]), 0) + 1
    return found


def skipped(examples, unit="files"):
    """How many were not read, by reason."""
    return {part.reason: part.count for part in examples.reading.skipped if part.unit == unit}
