"""From examples to features, chunk by chunk, in memory or in files.

>>> from unseen.data import load
>>> features = extract(load("digits", limit=100).train, "pixels")
>>> features.tensor().shape
torch.Size([100, 64])
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.data import Examples, Lazy
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
        return self.chunk(0).shape[1]

    def chunk(self, number: int) -> Tensor:
        """Features (rows, d), float32, of a chunk. Raises UnseenError where a file is gone or damaged."""
        part, count = self.parts[number], self.counts[number]
        found = part if isinstance(part, Tensor) else read_chunk(part, count)
        if found is None:
            raise UnseenError(f"{part} is gone or damaged since it was written. Run the command again: it is computed anew.")
        return found.float()

    def chunks(self) -> Iterator[Tensor]:
        """Features (rows, d), float32, chunk by chunk in the order of the examples. Raises UnseenError as ``chunk``."""
        return map(self.chunk, range(len(self.parts)))

    def tensor(self) -> Tensor:
        """All features, float32 (n, d)."""
        return torch.cat(list(self.chunks()))

    def lazy(self) -> Lazy:
        """All features as inputs that are read from the files when they are asked for; rows in order are read fastest."""
        return Lazy(partial(_read_rows, self, {}), torch.arange(len(self)), (self.dimensions,))

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


def _read_rows(features: Features, last: dict[int, Tensor], positions: Tensor) -> Tensor:
    """Rows (n, d) of features; last: the chunk that was read last, by its number."""
    starts = torch.tensor([0, *features.counts]).cumsum(0)
    numbers = torch.searchsorted(starts, positions, right=True) - 1
    found = torch.empty(len(positions), features.dimensions)
    for number in numbers.unique().tolist():
        if number not in last:
            last.clear()
            last[number] = features.chunk(number)
        rows = numbers == number
        found[rows] = last[number][positions[rows] - starts[number]]
    return found


def extract(
    examples: Examples,
    kind: Any = "auto",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    table: Any = None,
    chunk: int = CHUNK,
    share: tuple[int, int] = (0, 1),
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
        share: (k, n) of n processes that share the files the k-th, from 0, which computes every n-th chunk.

    Returns:
        The features, in the order of the examples; of a share those of its chunks.

    Cost: a pass over the inputs, also where all features are in the cache, to see that it is of these inputs.

    Raises:
        UnseenError: a kind that does not fit the inputs, a missing package or weights, a NaN.
    """
    extractor = make_extractor(kind, examples, table)
    parts: list[Tensor | Path] = []
    counts: list[int] = []
    for start in range(share[0] * chunk, len(examples), share[1] * chunk):
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
