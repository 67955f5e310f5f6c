"""Texts by their words: the weighted bags of ``unseen.data`` on their main directions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data import BUCKETS

DIRECTIONS = 1500
SAMPLE = 10_000  # texts that they are learned from
PASSES = 1  # of the randomised decomposition beyond the first: with two as good
SEED = 0


def sparse_rows(bags: Tensor) -> Any:
    """Bags (n, features, 2) of buckets and weights as a SciPy matrix (n, buckets), float32."""
    from scipy.sparse import csr_matrix

    count, longest = bags.shape[:2]
    rows = np.repeat(np.arange(count), longest)
    buckets, weights = bags[:, :, 0].numpy().astype(np.int64).ravel(), bags[:, :, 1].numpy().ravel()
    kept = weights != 0
    return csr_matrix((weights[kept], (rows[kept], buckets[kept])), shape=(count, BUCKETS))


@dataclass(frozen=True, eq=False)
class Bags:
    """TF-IDF on the main directions of a sample of texts (latent semantic analysis, Deerwester et al. 1990).

    Args:
        directions: (buckets, k), float32, orthonormal.
    """

    directions: Tensor

    @classmethod
    def learned(cls, bags: Tensor, directions: int = DIRECTIONS) -> "Bags":
        """The main directions of these bags (n, features, 2), fewer than texts; no label is looked at."""
        from sklearn.utils.extmath import randomized_svd

        rows = sparse_rows(bags)
        count = max(1, min(directions, min(rows.shape) - 1))
        return cls(torch.from_numpy(randomized_svd(rows, count, n_iter=PASSES, random_state=SEED)[2].T.copy()))

    def __call__(self, bags: Tensor) -> Tensor:
        """(n, k), float32, each row of norm 1 at most."""
        return torch.from_numpy(sparse_rows(bags) @ self.directions.numpy())
