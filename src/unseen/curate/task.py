"""What the writers of a cleaned copy are told, and what they tell."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unseen.curate.decisions import Decision, resolved


@dataclass(frozen=True)
class Task:
    """The decisions as they were given, and what became of everything.

    Args:
        given: by id, as they were written.
        default: for examples that nothing is decided on.
        target: columns of a table.
        id_column: see ``target``.
        counts: examples by what was decided.
        copied: what was copied without being judged.
        left: what is not in the copy.
    """

    given: dict[str, Decision]
    default: str
    target: str | None
    id_column: str | None
    counts: Counter[str]
    copied: list[str]
    left: list[str]

    def decide(self, ids: Iterable[str], classes: Iterable[str], source: Path) -> list[Decision]:
        """The decision on each example, counted. Raises UnseenError for decisions on examples, and classes, that are not there."""
        ids = list(ids)
        found = resolved(self.given, ids, classes, source)
        decided = [found.get(example, Decision(self.default)) for example in ids]
        self.counts.update(decision.kind for decision in decided)
        return decided
