"""Data sets that give each example's index with it."""

import sys
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from unseen.errors import UnseenError

COLUMN = "index"


class IndexedDataset(Dataset[Any]):
    """A map-style data set whose items carry their position: pairs (x, y) become (x, y, index), mappings get the key ``index``.

    Samplers, shuffling, ``torch.utils.data.Subset`` and ``random_split`` go around it, and the index stays that of the whole.
    """

    def __init__(self, dataset: Any) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise UnseenError(
                f"{type(dataset).__name__} has no positions to count. Allowed: a data set with a length and items by number. "
                "Of a stream, give each example an index where it is made."
            )
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        """The item at a position, with it."""
        index = position + len(self) if position < 0 else position
        item = self.dataset[index]
        if isinstance(item, dict):
            return {**item, COLUMN: index}
        return (*item, index) if isinstance(item, tuple | list) else (item, index)


def with_index(dataset: Any) -> Any:
    """The data set with an index of each example: a column of a ``datasets.Dataset``, or an ``IndexedDataset`` around any other.

    Call it on the whole data set, before shuffling, filtering and splitting.

    Raises:
        UnseenError: for a stream, and where there is a column ``index`` that does not tell examples apart.
    """
    datasets = sys.modules.get("datasets")  # an object of that package cannot exist before its import
    if datasets is None or not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        return IndexedDataset(dataset)
    if isinstance(dataset, datasets.IterableDataset):
        raise UnseenError("A streaming data set has no positions to count. Load it whole, or add an index column where it is made.")
    if COLUMN not in dataset.column_names:
        return dataset.add_column(COLUMN, list(range(len(dataset))))
    values = dataset[COLUMN][:]
    if not all(isinstance(value, int) for value in values) or len(set(values)) < len(values):
        raise UnseenError(
            "The column 'index' does not tell examples apart. Allowed: different integers. Rename it, and call with_index again."
        )
    return dataset


def in_order(loader: Any) -> DataLoader[Any]:
    """The data set of a loader in its own order, every example once: the share of this process, of the loader's batch size."""
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if torch.distributed.is_initialized() else (0, 1)
    share = Subset(loader.dataset, range(rank, len(loader.dataset), world))
    return DataLoader(share, batch_size=getattr(loader, "batch_size", None) or 64, collate_fn=loader.collate_fn)
