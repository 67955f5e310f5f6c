"""The gradients of named subsets at one moment of a run: whose agree (Liu et al. 2021, eq. 3), and who drives the step (eq. 4)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unseen.data import Examples, null_mask
from unseen.gradients.ghost import SMALLEST_NORM
from unseen.gradients.statistics import contributions, cosine_matrix, gradient_statistics
from unseen.hashing import uniform
from unseen.training import epoch_order

if TYPE_CHECKING:
    import polars as pl

STEPS = 8  # mini-batches of the coming epoch whose steps are looked at


def gradient_rows(
    net: nn.Module, examples: Examples, subsets: Mapping[str, Sequence[int]], steps: Sequence[Tensor], most: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Gradient statistics of each subset, as rows of ``gradients.parquet`` without seed and epoch.

    Args:
        net: a ``TurnOverNet`` (gradients of each example's own seen half), or any module called as ``net(x)``; see ``gradients.py``.
        examples: that hold the subsets and the steps.
        subsets: index of the members, by name.
        steps: mini-batches, positions in ``examples.train``.
        most: of a subset, so many members with the smallest hash of (seed, index) stand for it.

    Returns:
        Rows with the keys subset, other (the second subset of a cosine between two, else None), quantity, value and examples (how many it
        was measured on: of cosines those whose gradient has a direction, as that of a loss of 0 in float32 may not; of two subsets those of
        the smaller one). Quantities: cosine_similarity, norm (mean, GraNd), coherence, variance (see ``GradientStatistics``),
        cosine_between, and contribution: mean over the subset's members in the mini-batches, and over all of them under the name ``all``.

    Cost: about three plain forward and backward passes of the members taken, and two of the mini-batches.
    """
    places = {int(index): position for position, index in enumerate(examples.index.tolist())}
    chosen = {name: examples.select(_sample([places[i] for i in members], examples, most, seed)) for name, members in subsets.items()}
    rows, directed = [], {}
    for name, part in chosen.items():
        found = gradient_statistics(net, part)
        directed[name] = int((found.norms > SMALLEST_NORM).sum())
        rows.append(_row(name, None, "cosine_similarity", found.cosine_similarity, directed[name]))
        values = {"norm": float(found.norms.mean()), "coherence": found.coherence, "variance": found.variance}
        rows += [_row(name, None, quantity, value, len(part)) for quantity, value in values.items()]
    return rows + _between(net, chosen, directed) + _pulls(net, examples.train, subsets, steps)


def gradient_table(rows: list[dict[str, Any]]) -> "pl.DataFrame":
    """Rows of ``gradient_rows`` with seed and epoch as a frame."""
    import polars as pl

    types = {"seed": pl.Int64, "epoch": pl.Int32, "subset": pl.String, "other": pl.String, "quantity": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=types | {"examples": pl.Int64})


def coming_steps(examples: Examples, batch_size: int, seed: int, epoch: int, null: tuple[float, int] = (0.0, 0)) -> list[Tensor]:
    """Mini-batches, evenly spaced, of the epoch that follows ``epoch``: positions in the training examples ``examples``.

    Args:
        null: share and seed of those held out for the noise floor, which no step has.
    """
    trained = (~null_mask(examples.index.cpu(), *null)).nonzero()[:, 0]
    batches = epoch_order(examples.index.cpu()[trained], seed, epoch + 1).split(batch_size)
    return [trained[batch] for batch in batches[:: max(1, len(batches) // STEPS)]][:STEPS]


def _sample(positions: list[int], examples: Examples, most: int, seed: int) -> Tensor:
    chosen = torch.tensor(positions)
    hashes = uniform(examples.index.cpu()[chosen], seed, "watch")
    return chosen[hashes.argsort()[:most]].sort().values


def _between(net: nn.Module, chosen: dict[str, Examples], directed: dict[str, int]) -> list[dict[str, Any]]:
    if len(chosen) < 2:
        return []
    matrix, names = cosine_matrix(net, chosen), list(chosen)
    pairs = [(a, b) for a in range(len(names)) for b in range(a)]
    return [_row(names[b], names[a], "cosine_between", float(matrix[a, b]), min(directed[names[a]], directed[names[b]])) for a, b in pairs]


def _pulls(net: nn.Module, train: Examples, subsets: Mapping[str, Sequence[int]], steps: Sequence[Tensor]) -> list[dict[str, Any]]:
    pulls = torch.cat([contributions(net, train.select(positions)) for positions in steps]) if len(steps) else torch.empty(0)
    index = train.index.cpu()[torch.cat(list(steps))] if len(steps) else torch.empty(0, dtype=torch.int64)
    rows = []
    for name, members in ({"all": index.tolist()} | dict(subsets)).items():
        inside = torch.isin(index, torch.tensor(list(members), dtype=torch.int64))
        if inside.any():
            rows.append(_row(name, None, "contribution", float(pulls[inside].mean()), int(inside.sum())))
    return rows


def _row(subset: str, other: str | None, quantity: str, value: float, examples: int) -> dict[str, Any]:
    return {"subset": subset, "other": other, "quantity": quantity, "value": value, "examples": examples}
