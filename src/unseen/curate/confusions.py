"""Which labels are wrong where classes are confused by habit: a matrix of confusions, found with them in turns."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

ROUNDS = 50
SHARPNESS = tuple(2 ** (power / 2) for power in range(-3, 6))
LARGEST_SAMPLE = 1_000_000  # numbers, for the choice of the sharpness


def right_probability(evidence: Floats, labels: Integers) -> Floats:
    r"""Probability that each given label is the true one, where true labels become given ones by an unknown matrix of confusions.

    .. math:: P(c \mid i) \propto e_{ic}^{\tau} T_{c, y_i}, \qquad T_{cg} \propto \textstyle\sum_{i: y_i=g} P(c \mid i)

    iterated (expectation and maximisation, as Dawid & Skene 1979): a confusion that occurs often is believed sooner, so that classes
    confused by habit (4 called 9) are found where no single example is sure. The sharpness tau is the one of ``SHARPNESS`` under which the
    given labels are likeliest: it is above 1 where the evidence is too timid (few epochs), below 1 where it counts something twice.

    Args:
        evidence: for each class, of each example by others than itself: (n, classes), not negative.
        labels: the given ones, (n,).

    Returns:
        float64 (n,), above 0.
    """
    order = np.argsort(labels, kind="stable")
    logs, labels = np.maximum(evidence[order], 1e-12), labels[order]
    np.log(logs, out=logs)
    some = slice(None, None, max(1, labels.size * evidence.shape[1] // LARGEST_SAMPLE))
    sharpest = max(SHARPNESS, key=lambda sharpness: _expectation(logs[some], labels[some], sharpness)[1])
    right = np.empty(len(labels))
    right[order] = np.maximum(_expectation(logs, labels, sharpest)[0], 1e-300)
    return right


def _expectation(logs: Floats, labels: Integers, sharpness: float) -> tuple[Floats, float]:
    """Probability of each given label, and the mean logarithm of its likelihood; rows in the order of their labels.

    Of the matrix of confusions only the columns of labels that occur are kept, (labels, classes); all others are equal. A round is two
    products of each label's rows with its column: nothing of the size of the square of the classes is made.
    """
    classes = logs.shape[1]
    present, starts, places = np.unique(labels, return_index=True, return_inverse=True)
    blocks = [slice(*ends) for ends in pairwise([*starts, len(labels)])]
    raised = _raised(logs, sharpness)
    confusions = np.full((len(present), classes), 0.1 / max(1, classes - 1))
    confusions[np.arange(len(present)), present] = 0.9
    for _ in range(ROUNDS):
        counts = np.stack([(1 / (raised[rows] @ column)) @ raised[rows] * column for rows, column in zip(blocks, confusions, strict=True)])
        counts += 1 / classes
        confusions, before = counts / (counts.sum(0) + 1 - len(present) / classes), confusions
        if np.abs(confusions - before).max() < 1e-4:
            break
    likelihood = np.concatenate([raised[rows] @ column for rows, column in zip(blocks, confusions, strict=True)])
    right = raised[np.arange(len(labels)), labels] * confusions[places, labels] / likelihood
    return right, float(np.log(likelihood).mean())


def _raised(logs: Floats, sharpness: float) -> Floats:
    """The evidence to the power of the sharpness, normalised over the classes."""
    raised: Floats = logs - logs.max(1, keepdims=True)
    raised *= sharpness
    np.exp(raised, out=raised)
    raised /= raised.sum(1, keepdims=True)
    return raised
