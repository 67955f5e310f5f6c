"""The estimators, one file each: ways to find out what a network would say of an example that it has not seen.

A new one is a class of ``protocol.Estimator``'s members, put into ``ESTIMATORS`` under the name that ``--estimator`` takes.
"""

from typing import Any

from unseen.config import Config
from unseen.errors import UnseenError
from unseen.scoring.estimators.members import ManyMembers
from unseen.scoring.estimators.one_network import Plain, TurnOverDropout
from unseen.scoring.estimators.protocol import Estimator, Job, Observed, Visit

ESTIMATORS: dict[str, type[Estimator]] = {"members": ManyMembers, "turnover": TurnOverDropout, "plain": Plain}
"""By name; ``auto`` takes the first that suits."""


def resolved(config: Config) -> Config:
    """The configuration with the model's values in place of None, and an estimator in place of ``auto``.

    Raises:
        UnseenError: for values out of range, and for an estimator that is not there.
    """
    found = config.resolved()
    if found.estimator == "auto":
        asked = config.change(model=found.network.model)  # before the model's values took the place of what was not asked for
        return found.change(estimator=next(name for name, kind in ESTIMATORS.items() if kind.suits(asked)))
    if found.estimator not in ESTIMATORS:
        raise UnseenError(f"--estimator is {found.estimator!r}; it must be one of {', '.join(('auto', *ESTIMATORS))}.")
    return found


def estimator_of(config: Config) -> Any:
    """The class of a resolved configuration's estimator."""
    return ESTIMATORS[config.estimator]
