"""What an attacker reads off a network: the log-odds of each record's given label, from logits or from losses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Integers = NDArray[np.integer[Any]]

LEAST_LOSS = 2.0**-24
"""Nats: the step of float32 below 1, so the smallest loss that a float32 softmax tells from 0. Log-odds end at 16.6 for it."""
FEWEST_MEMBERS = 4
"""Two with each record and two without, for a variance on either side."""


def log_odds_of_losses(losses: Floats) -> NDArray[np.float64]:
    r"""The logit-scaled confidence of the given label, log(p / (1 - p)), from its loss (Carlini et al. 2022, section IV).

    .. math:: \phi = \log\frac{p}{1 - p} = -L - \log(1 - e^{-L}), \quad p = e^{-L}

    Args:
        losses: nats, of any shape; those below ``LEAST_LOSS`` are taken as it.

    Returns:
        float64 of the same shape; high = confident in the given label.
    """
    least: NDArray[np.float64] = np.maximum(np.asarray(losses, np.float64), LEAST_LOSS)
    return -least - np.log(-np.expm1(-least))


def log_odds_of_logits(logits: Any, labels: Integers, classes: int) -> NDArray[np.float64]:
    r"""The same from logits: the label's own minus the logarithm of the sum of exponentials of the others.

    Args:
        logits: (records, classes).
        labels: the given labels, (records,).
        classes: how many there are.

    Returns:
        float64 (records,), ended where a loss of ``LEAST_LOSS`` ends, so that they compare with those of losses.

    Raises:
        UnseenError: for logits of another shape or of other classes, for NaN, and for one record per class.
    """
    values: NDArray[np.float64] = np.asarray(logits, np.float64)
    _check_logits(values, labels, classes)
    own = values[np.arange(len(values)), labels]
    others = values.copy()
    others[np.arange(len(values)), labels] = -np.inf
    highest = others.max(1)
    odds = own - highest - np.log(np.exp(others - highest[:, None]).sum(1))
    most = float(log_odds_of_losses(np.array(LEAST_LOSS)))
    return np.asarray(odds.clip(-np.inf, most))


def _check_logits(values: NDArray[np.float64], labels: Integers, classes: int) -> None:
    if values.ndim != 2 or len(values) != len(labels):
        raise UnseenError(
            f"The target's logits have the shape {values.shape}; it must be ({len(labels)}, {classes}): a row per record in the order "
            "of the run's examples, a column per class."
        )
    if values.shape[1] != classes:
        raise UnseenError(
            f"The target has {values.shape[1]} classes, and the run has {classes}. Give a network of the run's classes, in their order."
        )
    if bad := int((~np.isfinite(values)).any(1).sum()):
        first = int((~np.isfinite(values)).any(1).argmax())
        raise UnseenError(f"The target's logits are not finite for {bad} of {len(values)} records, first for {first}. Mend the network.")
    check_labels(labels)


def check_labels(labels: Integers) -> None:
    """Raise UnseenError where each record has a class of its own: no network without it can know its class."""
    if len(labels) > 2 and len(np.unique(labels)) == len(labels):
        raise UnseenError(
            f"Each of the {len(labels)} records has a class of its own, so a network without a record cannot know its class, and every "
            "attack would find it. Give classes that records share."
        )


@dataclass(frozen=True)
class Shadows:
    """Networks that were each trained on their own share of the records, and what they say of every record.

    Attributes:
        log_odds: of the given label, (members, records); float16 is precise enough (steps of 0.008 at the ends).
        inside: bool (members, records), who trained on what.
        population: log-odds (members, others) of records that no member trained on, such as the test set; None where there are none.

    Raises:
        UnseenError: for shapes that differ, log-odds that are NaN, fewer than ``FEWEST_MEMBERS``, and a record that all members, or
            all but one, trained on, or did not.
    """

    log_odds: Floats
    inside: Bools
    population: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse what no attack can use."""
        if self.log_odds.ndim != 2 or self.log_odds.shape != self.inside.shape:
            raise UnseenError(f"Log-odds {self.log_odds.shape} and membership {self.inside.shape} must be (members, records), both.")
        if self.population is not None and (self.population.ndim != 2 or len(self.population) != len(self.log_odds)):
            raise UnseenError(f"The population's log-odds are {self.population.shape}; there are {len(self.log_odds)} members.")
        if len(self.log_odds) < FEWEST_MEMBERS:
            raise UnseenError(
                f"There are {len(self.log_odds)} members; at least {FEWEST_MEMBERS} are needed, two with and two without each record."
            )
        check_finite(self.log_odds, "a member")
        self._check_sides()

    def _check_sides(self) -> None:
        count, members = self.inside.sum(0), len(self.inside)
        if (bad := (count > members - 2)).any():
            raise UnseenError(
                f"{int(bad.sum())} of {len(count)} records are in all of the {members} members, or all but one, first record "
                f"{int(bad.argmax())}. Two must be without each record: train on a smaller share of the records, or with more members."
            )
        if (bad := (count < 2)).any():
            raise UnseenError(
                f"{int(bad.sum())} of {len(count)} records are in fewer than two of the {members} members, first record "
                f"{int(bad.argmax())}. Train on a larger share of the records, or with more members."
            )


@dataclass(frozen=True)
class Targets:
    """The networks that are attacked: none of the members. Without them each member is attacked by the others.

    Attributes:
        log_odds: (targets, records). inside: bool, the same shape, who trained on what.
        population: log-odds (targets, others) of the records of ``Shadows.population``.

    Raises:
        UnseenError: for shapes that differ, and NaN.
    """

    log_odds: Floats
    inside: Bools
    population: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be attacked."""
        if self.log_odds.ndim != 2 or self.log_odds.shape != self.inside.shape:
            raise UnseenError(f"Log-odds {self.log_odds.shape} and membership {self.inside.shape} must be (targets, records), both.")
        check_finite(self.log_odds, "a target")


def check_finite(values: Floats, whose: str) -> None:
    """Raise UnseenError for log-odds that are NaN; rows are looked at one by one, so nothing large is made."""
    for number, row in enumerate(values):
        if bad := int((~np.isfinite(row)).sum()):
            raise UnseenError(
                f"The log-odds of {whose} (number {number}) are NaN or infinite for {bad} of {len(row)} records. Its logits hold NaN, or "
                "its training failed: leave it out, or train it again."
            )
