"""The estimators, one file each: ways to find out what a network would say of an example that it has not seen.

A new one is a class of ``protocol.Estimator``'s members, put into ``ESTIMATORS`` under the name that ``--estimator`` takes.
"""

from typing import Any

from unseen.config import Config
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.scoring.estimators.head import RidgeHead
from unseen.scoring.estimators.members import ManyMembers
from unseen.scoring.estimators.one_network import Plain, TurnOverDropout
from unseen.scoring.estimators.protocol import Estimator, Job, Observed, Visit

ESTIMATORS: dict[str, type[Estimator]] = {"head": RidgeHead, "members": ManyMembers, "turnover": TurnOverDropout, "plain": Plain}
"""By name; ``auto`` takes the first that suits."""


def resolved(config: Config) -> Config:
    """The configuration with the model's values in place of None; an estimator that is ``auto`` stays so until the data are seen.

    Raises:
        UnseenError: for values out of range, and for an estimator that is not there.
    """
    found = config.resolved()
    if found.estimator not in ("auto", *ESTIMATORS):
        raise UnseenError(f"--estimator is {found.estimator!r}; it must be one of {', '.join(('auto', *ESTIMATORS))}.")
    return config if found.estimator == "auto" else completed(config)


def completed(config: Config, examples: Examples | None = None) -> Config:
    """``resolved``, with an estimator in place of ``auto`` and what the estimator chooses.

    Args:
        config: as it was asked for.
        examples: of it, or some of them; None where they cannot be looked at before.
    """
    name = config.estimator
    if name == "auto":
        asked = config.change(model=config.resolved().network.model)  # before the model's values take the place of what was not asked for
        name = next(name for name, kind in ESTIMATORS.items() if kind.suits(asked, examples))
    kind, flat = ESTIMATORS[name], config.flat()
    chosen = {option: value for option, value in kind.chooses.items() if flat[option] is None}
    return config.change(estimator=name, **kind.fixes | chosen).resolved()


def estimator_of(config: Config) -> Any:
    """The class of a completed configuration's estimator."""
    return ESTIMATORS[config.estimator]
