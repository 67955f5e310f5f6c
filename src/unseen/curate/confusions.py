"""Which labels are wrong where classes are confused by habit: a matrix of confusions, found with them in turns."""

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
    logs, labels = np.log(np.maximum(evidence[order], 1e-12)), labels[order]
    some = slice(None, None, max(1, labels.size * evidence.shape[1] // LARGEST_SAMPLE))
    sharpest = max(SHARPNESS, key=lambda sharpness: _expectation(logs[some], labels[some], sharpness)[1])
    right = np.empty(len(labels))
    right[order] = np.maximum(_expectation(logs, labels, sharpest)[0], 1e-300)
    return right


def _expectation(logs: Floats, labels: Integers, sharpness: float) -> tuple[Floats, float]:
    """Probability of each given label, and the mean logarithm of its likelihood; rows in the order of their labels."""
    classes, rows = logs.shape[1], np.arange(len(labels))
    present, starts = np.unique(labels, return_index=True)
    raised = np.exp(sharpness * (logs - logs.max(1, keepdims=True)))
    raised /= raised.sum(1, keepdims=True)
    matrix = np.full((classes, classes), 0.1 / max(1, classes - 1))
    np.fill_diagonal(matrix, 0.9)
    for _ in range(ROUNDS):
        joint = raised * matrix.T[labels] + 1e-300
        likelihood = joint.sum(1, keepdims=True)
        counts = np.full((classes, classes), 1 / classes)
        counts[:, present] += np.add.reduceat(joint / likelihood, starts).T
        matrix, before = counts / counts.sum(1, keepdims=True), matrix
        if np.abs(matrix - before).max() < 1e-4:
            break
    joint = raised * matrix.T[labels] + 1e-300
    likelihood = joint.sum(1)
    return joint[rows, labels] / likelihood, float(np.log(likelihood).mean())
