"""Who is trained on, and who is held out for the noise floor: functions of (seed, index)."""

import torch
from torch import Tensor

from unseen.data.examples import Examples
from unseen.hashing import uniform


def null_mask(index: Tensor, fraction: float, seed: int) -> Tensor:
    """Which examples are held out for the noise floor: a function of (seed, index). bool of the shape of ``index``."""
    return uniform(index, seed, "null") < fraction


def trained(examples: Examples, null_fraction: float, seed: int) -> Examples:
    """Those that are trained on: the training examples less those held out for the noise floor."""
    kept = examples.train
    return kept.select(~null_mask(kept.index.cpu(), null_fraction, seed))


def is_trained(examples: Examples, null_fraction: float, seed: int) -> Tensor:
    """Which of them ``trained`` keeps: bool (n,), on the CPU."""
    of_train = torch.tensor([split == "train" for split in examples.split], dtype=torch.bool)
    return of_train & ~null_mask(examples.index.cpu(), null_fraction, seed)
