"""What ``summary.json`` says of a run, as questions with one answer each."""

from collections.abc import Mapping
from typing import Any

from unseen.errors import UnseenError
from unseen.runs.run import Run

FITTED = 0.9  # of its labels a seen half should have right
WORSE = 0.05  # by so much less accurate than a half, the full network cannot be read


def has_halves(facts: Mapping[str, Any]) -> bool:
    """Whether every example has a seen and an unseen side; an ordinary network has none."""
    return "accuracy_seen" in facts


def has_many_networks(facts: Mapping[str, Any]) -> bool:
    """Whether the sides are different networks, not halves of one. Summaries of versions before 0.2 do not count the networks."""
    return bool(facts.get("networks", 2 if facts.get("estimator") == "members" else 1) > 1)


def full_is_readable(facts: Mapping[str, Any]) -> bool:
    """Whether the network without masks says something: it is no worse than its halves on the test examples, as far as they are known."""
    return bool(facts.get("test_accuracy_full", 1.0) >= facts.get("test_accuracy_half", 0.0) - WORSE)


def not_fitted(facts: Mapping[str, Any]) -> str | None:
    """A warning where the seen half of turn-over dropout has not learned its labels: equation 6 says little before it has."""
    seen = facts.get("accuracy_seen", 1.0)
    if "shared_parameters" not in facts or seen >= FITTED:
        return None
    return f"The seen half has {seen:.1%} of its labels right. Memorization says little before it fits them: train longer (--epochs)."


def require_halves(run: Run) -> None:
    """Raise UnseenError where a run's scores know no unseen half: those of an ordinary network, scored here or recorded elsewhere."""
    if "memorization" in run.columns("scores"):
        return
    if "cost" in run.summary:
        raise UnseenError(
            f"{run.path} is of an ordinary network (--estimator plain), which has no unseen half. `unseen show` and `unseen dynamics` "
            "read it; for the rest score again with --estimator turnover or members."
        )
    raise UnseenError(
        f"{run.path} was recorded of an ordinary network, which has no unseen half. `unseen show` shows its scores; for the rest "
        "wrap the network (unseen.TurnOverNet) and measure its halves: recorder.end_epoch(unseen.measure_batches(net, loader))."
    )
