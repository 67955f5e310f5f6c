"""What one run's history says of the risk of each record, without any other network: for a first look."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError
from unseen.privacy.signals import Floats


def loss_trace_spread(losses: Floats) -> NDArray[Any]:
    """Interquartile range over epochs of a record's loss (LT-IQR, *Free Record-Level Privacy Risk Evaluation*, 2411.05743).

    Args:
        losses: nats, (epochs, records), of one network.

    Returns:
        (records,), nats; high = at risk.

    Raises:
        UnseenError: for fewer than two epochs.
    """
    _check(losses)
    low, high = np.quantile(losses, [0.25, 0.75], axis=0)
    return np.asarray(high - low)


def cumulative_loss(losses: Floats) -> NDArray[Any]:
    """Sum over epochs of a record's loss (cumulative loss). Args, errors as ``loss_trace_spread``; high = at risk."""
    _check(losses)
    return np.asarray(losses.sum(0))


def _check(losses: Floats) -> None:
    if losses.ndim != 2 or len(losses) < 2:
        raise UnseenError(f"The losses have the shape {losses.shape}; they must be (epochs, records), of two epochs or more.")
