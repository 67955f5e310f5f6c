"""Examples with features in place of their inputs: all at once, or a shard at a time in the process that needs it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from unseen.data import Examples
from unseen.features import Extractor, Features, extract, make_extractor
from unseen.torchrun import place, process_count
from unseen.training import counter, first

LARGEST_IN_MEMORY = 2**32  # bytes of features; more are read from their files when they are needed


def with_features(examples: Examples, kind: str, table: Any = None) -> Examples:
    """The examples with features in place of their inputs, each number as it is; kept in files below ``cache_folder``.

    Of torchrun's processes each computes its share into the files.

    Args:
        examples: as they were read.
        kind: of features.
        table: where the vectors of ``column:NAME`` are.
    """
    extractor = make_extractor(kind, examples, table)
    with counter(len(examples), "examples") as advance:
        done = 0

        def progress(count: int, _: int) -> None:
            nonlocal done
            advance(count - done)
            done = count

        if process_count() > 1:
            extract(examples, extractor, cache=cache_folder(), share=place())
            first(lambda: None)  # all have written theirs
        return _described(examples, extract(examples, extractor, cache=cache_folder(), progress=progress))


def cache_folder() -> Path | None:
    """Where features are kept, for all runs: the environment's UNSEEN_CACHE, else ~/.cache/unseen; None for a user without a home."""
    try:
        return Path(os.environ.get("UNSEEN_CACHE") or Path.home() / ".cache" / "unseen") / "features"
    except RuntimeError:
        return None


@dataclass(eq=False)
class Described:
    """Gives a shard its features. What computes them learns from the first shard, in each process anew: it cannot be sent to another.

    Args:
        kind: of features, by name.
        sample: the first shard.
    """

    kind: str
    sample: Callable[[], Examples]
    made: list[Extractor] = field(default_factory=list)

    def __call__(self, examples: Examples) -> Examples:
        """The examples with features in place of their inputs."""
        if not self.made:
            self.made.append(make_extractor(self.kind, self.sample()))
        return _described(examples, extract(examples, self.made[0], cache=cache_folder()))

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process."""
        return self.__dict__ | {"made": []}


def _described(examples: Examples, features: Features) -> Examples:
    width = features.dimensions
    inputs = features.tensor() if len(features) * width * 4 <= LARGEST_IN_MEMORY else features.lazy()
    return replace(examples, inputs=inputs, mean=torch.zeros(width), std=torch.ones(width))
