"""From examples to features, chunk by chunk, in memory or in files.

>>> from unseen.data import load
>>> features = extract(load("digits", limit=100).train, "pixels")
>>> features.tensor().shape
torch.Size([100, 64])
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.features.cache import chunk_path, read_chunk, write_chunk
from unseen.features.kernel import Landmarks
from unseen.features.kinds import Extractor, held, make_extractor

CHUNK = 1024  # examples of a file
LEARNED_FROM = 10_000  # rows that landmarks are drawn from
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n examples, in memory or in files, a chunk at a time.

    Args:
        kind: of the extractor.
        advice: see ``kind``.
        bends: see ``kind``.
        parts: of each chunk its features, or the file they are in.
        counts: rows of each chunk.
    """

    kind: str
    parts: tuple[Tensor | Path, ...]
    counts: tuple[int, ...]
    bends: bool = True
    advice: str = ""

    def __len__(self) -> int:
        """How many examples."""
        return sum(self.counts)

    @property
    def dimensions(self) -> int:
        """How many numbers describe an example."""
        return next(self.chunks()).shape[1]

    def chunks(self) -> Iterator[Tensor]:
        """Features (rows, d), float32, chunk by chunk in the order of the examples. Raises UnseenError where a file is gone or damaged."""
        for part, count in zip(self.parts, self.counts, strict=True):
            found = part if isinstance(part, Tensor) else read_chunk(part, count)
            if found is None:
                raise UnseenError(f"{part} is gone or damaged since it was written. Run the command again: it is computed anew.")
            yield found.float()

    def tensor(self) -> Tensor:
        """All features, float32 (n, d)."""
        return torch.cat(list(self.chunks()))

    def head_map(self) -> Callable[[Tensor], Tensor]:
        """What a linear head should be given in place of these features: ``Landmarks`` learned from them, or they themselves (texts).

        A head of it needs no standardisation: ``fit_head(map(features), labels, classes, standardise=False)``.
        """
        return Landmarks.learned(torch.cat(list(self._spread(LEARNED_FROM)))) if self.bends else lambda features: features

    def _spread(self, rows: int) -> Iterator[Tensor]:
        """Chunks spread over the whole, up to about so many rows."""
        step = max(1, len(self) // rows)
        for part in self.chunks():
            yield part[::step]


def extract(
    examples: Examples,
    kind: Any = "auto",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    table: Any = None,
    chunk: int = CHUNK,
) -> Features:
    """What each example looks like without its label.

    Args:
        examples: in the order that the features will have. Labels are not looked at.
        kind: see ``make_extractor``.
        cache: a folder of features; chunks that stand there are read and checked, others are computed and written. None,
            and with a warning where it cannot be written: in memory.
        progress: called with (examples done, examples in all) after each chunk.
        table: for ``column:NAME``; see ``make_extractor``.
        chunk: examples held in memory at once.

    Returns:
        The features, in the order of the examples.

    Cost: a pass over the inputs, also where all features are in the cache, to see that it is of these inputs.

    Raises:
        UnseenError: a kind that does not fit the inputs, a missing package or weights, a NaN.
    """
    extractor = make_extractor(kind, examples, table)
    parts: list[Tensor | Path] = []
    counts: list[int] = []
    for start in range(0, len(examples), chunk):
        some = held(examples.select(range(start, min(start + chunk, len(examples)))))
        parts.append(_part(extractor, some, cache))
        counts.append(len(some))
        if progress:
            progress(start + len(some), len(examples))
    return Features(extractor.kind, tuple(parts), tuple(counts), extractor.bends, extractor.advice)


def _part(extractor: Extractor, examples: Examples, cache: Path | None) -> Tensor | Path:
    if cache is None or not extractor.identity:
        return _computed(extractor, examples)
    path = chunk_path(Path(cache), extractor.identity, examples.inputs, examples.texts or [])
    if read_chunk(path, len(examples)) is not None:
        return path
    found = _computed(extractor, examples)
    try:
        write_chunk(path, found)
    except UnseenError:
        warnings.warn(f"{cache} cannot be written, so features are not kept. Set UNSEEN_CACHE to a folder that can.", stacklevel=2)
        return found
    return path


@torch.no_grad()
def _computed(extractor: Extractor, examples: Examples) -> Tensor:
    found = extractor.embed(examples)
    if found.dim() != 2 or len(found) != len(examples):
        raise UnseenError(
            f"The features {extractor.kind!r} have shape {tuple(found.shape)} for {len(examples)} examples. Allowed: (examples, features). "
            "Return one row for each example."
        )
    if not bool(torch.isfinite(found).all()):
        row = int((~torch.isfinite(found).all(1)).nonzero()[0])
        raise UnseenError(
            f"The features {extractor.kind!r} of {examples.ids[row]} hold a NaN or an infinite number. Look at that example, or choose "
            "other features."
        )
    found = found.float()
    return found.half() if extractor.is_half and float(found.abs().amax()) < torch.finfo(torch.float16).max else found.clone()
