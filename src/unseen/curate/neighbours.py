"""The nearest training examples of each training example: witnesses of its label, and what to show beside it.

Near means a small angle between the principal components of the standardised inputs. No label enters, so an example cannot be
near to another because a network learned its wrong label by heart.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unseen.data import Examples, Lazy
from unseen.errors import UnseenError
from unseen.hashing import uniform
from unseen.runs import Run
from unseen.scoring import noted_mark, run_examples
from unseen.training import bf16_gains

if TYPE_CHECKING:
    import polars as pl

COUNT = 20
COMPONENTS = 64
LARGEST_SIDE = 32
LARGEST_SAMPLE = 10_000
ROWS, COLUMNS, BLOCK = 512, 16_384, 16


def write_neighbours(run: Run, examples: Examples, count: int = COUNT) -> "pl.DataFrame":
    """Find the ``count`` nearest of each training example and write ``neighbours.parquet``, or read it where it is there.

    Columns: index, rank from 1, neighbour_index, similarity. Cost: n² products of 64 numbers, and a pass over the inputs.
    """
    if (run.path / "neighbours.parquet").exists():
        return run.table("neighbours")
    table = neighbour_table(examples.train, count)
    run.write_table("neighbours", table)
    return table


def find_neighbours(run: Run, data_dir: str | Path | None = None, data: Any = None) -> str | None:
    """Make sure that ``neighbours.parquet`` is there.

    Args:
        run: finished.
        data_dir: where mnist/, cifar10/ … lie.
        data: what the run was made of, where that was not a name.

    Returns:
        Why it is not there, where the run's data cannot be read; else None.
    """
    if (run.path / "neighbours.parquet").exists():
        return None
    noted_mark(run)  # a broken file is no reason to go on without
    try:
        write_neighbours(run, run_examples(run, data, data_dir=data_dir)[1])
    except UnseenError as error:
        return str(error)
    return None


def neighbour_table(examples: Examples, count: int = COUNT) -> "pl.DataFrame":
    """The nearest of each of these examples among all others; see ``write_neighbours``."""
    import polars as pl

    places, similarity = nearest(principal_components(examples), count)
    index, (rows, found) = examples.index.cpu(), places.shape
    columns = {"index": index.repeat_interleave(found), "neighbour_index": index[places.flatten()], "similarity": similarity.flatten()}
    table = pl.DataFrame({name: values.numpy() for name, values in columns.items()})
    ranks = pl.Series("rank", torch.arange(1, found + 1).repeat(rows).numpy(), dtype=pl.Int32)
    return table.insert_column(1, ranks)


def principal_components(examples: Examples, components: int = COMPONENTS) -> Tensor:
    """Standardised inputs on their first principal axes: float32 (n, components), centred.

    The axes are those of the 10,000 examples with the smallest uniform(index, "axes"); images of more than 32 pixels are averaged down.
    """
    chosen = uniform(examples.index.cpu(), "axes").argsort()[:LARGEST_SAMPLE]
    sample = torch.cat(list(_flat(examples, chosen)))
    mean = sample.mean(0)
    centred = sample - mean
    if centred.shape[1] <= len(centred):
        axes = torch.linalg.eigh(centred.T @ centred)[1].flip(1)
    else:
        axes = torch.linalg.svd(centred, full_matrices=False)[2].T
    axes = axes[:, :components]
    return torch.cat([(part - mean) @ axes for part in _flat(examples, torch.arange(len(examples)))])


def _flat(examples: Examples, positions: Tensor) -> Iterator[Tensor]:
    for some in positions.split(ROWS):
        inputs = examples.inputs.gather(some) if isinstance(examples.inputs, Lazy) else examples.inputs[some.to(examples.inputs.device)]
        if inputs.dim() == 4 and max(inputs.shape[2:]) > LARGEST_SIDE:
            inputs = torch.nn.functional.adaptive_avg_pool2d(inputs.float(), LARGEST_SIDE).to(inputs.dtype)
        yield examples.standardise(inputs.to(examples.mean.device)).flatten(1).cpu()


def nearest(features: Tensor, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """The rows of largest cosine with each row, itself left out, largest first.

    Searched by products in bf16 where that is faster, then ordered by exact ones. A tile's columns are first reduced to the best of blocks
    of 16: the k largest lie in the k blocks with the largest maxima, so few are sorted.

    Args:
        features: float32 (n, d).
        count: how many rows for each; n - 1 where that is less.

    Returns:
        Places of the rows, int64, and their cosines, float32, both (n, min(count, n - 1)).
    """
    directions = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    fast = directions.bfloat16() if bf16_gains() else directions
    everyone, count = torch.arange(len(features)), min(count, len(features) - 1)
    places, cosines = [], []
    for rows in everyone.split(ROWS):
        found = [_largest_of(fast, rows, columns, count) for columns in everyone.split(COLUMNS)]
        near = torch.cat([where for _, where in found], 1).gather(1, torch.cat([best for best, _ in found], 1).topk(count, 1).indices)
        exact, order = torch.einsum("nkd,nd->nk", directions[near], directions[rows]).sort(1, descending=True)
        places.append(near.gather(1, order))
        cosines.append(exact)
    return torch.cat(places), torch.cat(cosines)


def _largest_of(directions: Tensor, rows: Tensor, columns: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Products of each row's direction with the columns', itself left out: the largest, and whose they are."""
    tile = directions[rows] @ directions[columns].T
    own = rows[(rows >= columns[0]) & (rows <= columns[-1])]
    tile[own - rows[0], own - columns[0]] = -torch.inf
    values, where = _largest(tile, count)
    return values, columns[where]


def _largest(tile: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest ``count`` of each row (or all, where there are fewer), and their columns."""
    rows, width = tile.shape
    if width < 2 * BLOCK * count:
        return tile.float().topk(min(count, width), 1)
    tile = torch.nn.functional.pad(tile, (0, -width % BLOCK), value=-torch.inf).view(rows, BLOCK, -1)  # a block: every so many columns
    blocks = tile.amax(1).float().topk(count, 1, sorted=False).indices[:, None].expand(-1, BLOCK, -1)
    values, order = tile.gather(2, blocks).flatten(1).float().topk(count, 1)
    columns = blocks + tile.shape[2] * torch.arange(BLOCK)[:, None]
    return values, columns.flatten(1).gather(1, order)
