"""Columns into a page: typed arrays behind a JSON header, compressed, as base64 text."""

import base64
import gzip
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 65534
MISSING = 65535


def pack(arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> str:
    """Base64 of gzip of: length of the header (uint32, little-endian), the header (JSON: ``facts``, ``arrays``), the arrays.

    Floats become uint16 steps between their lowest and highest finite value (an error below 1/131,068 of the range; not a number is 65535);
    integers keep their type. Every array starts at a multiple of 8 bytes.
    """
    body, table = bytearray(), {}
    for name, values in arrays.items():
        stored, scale = _quantised(values) if values.dtype.kind == "f" else (values, None)
        table[name] = {"type": stored.dtype.name, "offset": len(body), "length": stored.size, "scale": scale}
        body += stored.tobytes()
        body += bytes(-len(body) % 8)
    header = json.dumps({"facts": _finite(facts), "arrays": table}, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 4) % 8)
    whole = len(header).to_bytes(4, "little") + header + bytes(body)
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode()


def _finite(value: Any) -> Any:
    """The same with None in place of numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unpack(text: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Undo ``pack``: arrays, floats as float32, and facts. The page's script has the same in JavaScript."""
    whole = gzip.decompress(base64.b64decode(text))
    start = 4 + int.from_bytes(whole[:4], "little")
    header = json.loads(whole[4:start])
    arrays: dict[str, NDArray[Any]] = {}
    for name, about in header["arrays"].items():
        stored = np.frombuffer(whole, about["type"], about["length"], start + about["offset"])
        if about["scale"]:
            low, step = about["scale"]
            stored = np.where(stored == MISSING, np.nan, low + step * stored).astype(np.float32)
        arrays[name] = stored
    return arrays, header["facts"]


def smallest(values: NDArray[Any]) -> NDArray[Any]:
    """Non-negative integers in the smallest of uint8, uint16 and uint32 that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _quantised(values: NDArray[Any]) -> tuple[NDArray[np.uint16], list[float]]:
    finite = np.isfinite(values)
    low = float(values[finite].min()) if finite.any() else 0.0
    step = (float(values[finite].max()) - low) / STEPS if finite.any() else 0.0
    steps = np.zeros(values.shape) if step == 0 else np.where(finite, (values - low) / (step or 1), 0)
    return np.where(finite, np.rint(steps), MISSING).astype(np.uint16), [low, step]
