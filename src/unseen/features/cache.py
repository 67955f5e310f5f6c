"""Features in files: a chunk is found again by what it was made of, so neither other data nor another extractor can be mistaken for it.

``FOLDER/<digest of the extractor>/<digest of the chunk's inputs>.safetensors``. A killed run goes on where it was, other commands find the
same chunks, and a chunk whose checksum does not hold is made again, with a warning.
"""

import hashlib
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unseen.runs import whole

VERSION = "1"  # of what extractors compute; another one is another cache


def digest_of(*parts: Any) -> str:
    """32 hexadecimal digits of tensors, texts and numbers, in this order (BLAKE2b)."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode())
            found.update(bytes_of(part))
        elif isinstance(part, str | int | float):
            text = str(part).encode()
            found.update(f"{len(text)}:".encode() + text)
        else:
            found.update(digest_of(*part).encode())
    return found.hexdigest()


def chunk_path(folder: Path, extractor: str, *inputs: Any) -> Path:
    """Where the features of these inputs (see ``digest_of``) stand.

    Args:
        folder: of all features.
        extractor: its identity.
        inputs: all that an extractor may look at.
    """
    return folder / digest_of(VERSION, extractor) / f"{digest_of(*inputs)}.safetensors"


def write_chunk(path: Path, features: Tensor) -> None:
    """Write features (rows, d) whole or not at all. Raises UnseenError where the disk is full or the folder read-only."""
    with whole(path) as temporary:
        temporary.write_bytes(save({"features": features.contiguous()}, {"checksum": checksum(features)}))


def read_chunk(path: Path, rows: int) -> Tensor | None:
    """Features as they were written; None where there are none, and, with a warning, where the file is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            features: Tensor = file.get_tensor("features")
            is_whole = file.metadata().get("checksum") == checksum(features) and features.dim() == 2 and len(features) == rows
    except (SafetensorError, OSError, AttributeError):
        is_whole = False
    if not is_whole:
        warnings.warn(f"{path} is damaged. It is left aside and its features are computed again.", stacklevel=2)
    return features if is_whole else None


def checksum(features: Tensor) -> str:
    """CRC-32 of type, shape and bytes."""
    start = zlib.crc32(f"{features.dtype}{tuple(features.shape)}".encode())
    return str(zlib.crc32(bytes_of(features), start))


def bytes_of(values: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it lies in one piece on the CPU."""
    return values.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data if values.numel() else memoryview(b"")
