"""What was read of a data set and what was not: the record that ``Examples`` carry, so that nothing is dropped in silence."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SHOWN_CLASSES = 6
FEWEST_PER_CLASS = 5  # a class with fewer trained examples cannot be judged


@dataclass(frozen=True)
class Skipped:
    """Things of one kind that were found and not read.

    Args:
        reason: why, as it ends the sentence "3 files were not read: …".
        count: how many.
        example: one of them: a path, a row or a column.
        unit: what they are: files, rows, columns or examples.
    """

    reason: str
    count: int
    example: str
    unit: str = "files"

    @property
    def sentence(self) -> str:
        """One line that says it."""
        unit = self.unit.removesuffix("s") if self.count == 1 else self.unit
        return f"{self.count:,} {unit} not read: {self.reason}, such as {self.example}."


@dataclass(frozen=True)
class ColumnReading:
    """A column of a table: its name, its type in the source, and what it becomes."""

    name: str
    type: str
    becomes: str


@dataclass(frozen=True)
class Reading:
    """The record of one reading. Every field may be empty: then the source has no such thing.

    Args:
        kind: of the source, such as ``image folder`` or ``CSV table``.
        found: files of a folder, or rows or examples of any other source.
        unit: what ``found`` counts.
        sources: examples by the source's own name of their split, as found.
        splits: examples that were read: train, and test.
        classes: examples that are trained on by class, in the order of the classes.
        tests: examples that are only measured by class.
        sizes: pictures by ``width x height`` in pixels, of the pictures that were looked at.
        modes: pictures by Pillow's mode, of the pictures that were looked at.
        shape: of one input as a network gets it.
        columns: of a table, in its order.
        skipped: what was found and not read.
        damaged: names of all damaged pictures.
        notes: one-line sentences: what was guessed, changed or chosen.
        suspicious: one-line sentences about columns that may tell the label or the row.
        duplicate_files: files with the content of another one; ``duplicate_rows``: rows that are equal to another one. Unknown: None.
        revision: of the Hugging Face hub, the commit that was read. Unknown, and elsewhere: None.
        memory_bytes: of the inputs once they are held; ``seconds``: that reading takes, estimated. Unknown: None.
    """

    kind: str = ""
    found: int = 0
    unit: str = "examples"
    sources: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    tests: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    columns: tuple[ColumnReading, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()
    duplicate_files: int | None = None
    duplicate_rows: int | None = None
    revision: str | None = None
    memory_bytes: int | None = None
    seconds: float | None = None

    @property
    def left_out(self) -> int:
        """How many of what was found were not read."""
        return sum(part.count for part in self.skipped if part.unit == self.unit)

    @property
    def read(self) -> int:
        """How many examples were read."""
        return sum(self.splits.values())

    @property
    def small_classes(self) -> dict[str, int]:
        """Classes with too few trained examples to judge their labels: fewer than five."""
        return {name: count for name, count in self.classes.items() if count < FEWEST_PER_CLASS}

    def noting(self, *notes: str) -> "Reading":
        """The same with more notes; a note that is there already is not repeated."""
        return replace(self, notes=(*self.notes, *(note for note in notes if note and note not in self.notes)))

    def skipping(self, parts: Iterable[Skipped]) -> "Reading":
        """The same with more that was not read."""
        return replace(self, skipped=(*self.skipped, *(part for part in parts if part.count)))

    def suspecting(self, *sentences: str) -> "Reading":
        """The same with more suspicious columns."""
        return replace(self, suspicious=(*self.suspicious, *sentences))

    def lines(self) -> list[str]:
        """Three lines at most: what was read, what was changed or is suspicious, what was not read."""
        return [line for line in (self._first(), self._second(), self._third()) if line]

    def _first(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        classes = _few(f"{name!r} {count:,}" for name, count in self.classes.items())
        counted = f"{self.read:,} examples ({parts}), {len(self.classes)} classes ({classes})"
        return f"{self.kind or 'Data'}: {counted}, inputs of shape {self.shape}."

    def _second(self) -> str:
        said = [*self.suspicious, *self.notes]
        return " ".join(said[:2]) + (f" And {len(said) - 2} notes more: `unseen data` shows them." if len(said) > 2 else "")

    def _third(self) -> str:
        small = self.small_classes
        said = [part.sentence for part in self.skipped[:1]]
        if others := self.skipped[1:]:
            said.append(
                f"And {sum(part.count for part in others):,} more for {_counted(len(others), 'other reason')}: `unseen data` shows them."
            )
        if small:
            few = _counted(len(small), "class", "classes")
            said.append(f"{few} with fewer than {FEWEST_PER_CLASS} trained examples, such as {next(iter(small))!r}.")
        return " ".join(said)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self) | {"read": self.read, "left_out": self.left_out, "small_classes": self.small_classes}


def tally(reasons: Iterable[tuple[str, str]], unit: str = "files") -> tuple[Skipped, ...]:
    """Pairs of (reason, example) as counts with the first example of each, most first."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for reason, example in reasons:
        counts[reason] += 1
        first.setdefault(reason, example)
    return tuple(Skipped(reason, count, first[reason], unit) for reason, count in counts.most_common())


def _few(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = len(listed) - SHOWN_CLASSES
    return ", ".join(listed[:SHOWN_CLASSES]) + (f" and {more:,} more" if more > 0 else "")


def _counted(count: int, word: str, words: str = "") -> str:
    return f"{count:,} {word if count == 1 else words or word + 's'}"
