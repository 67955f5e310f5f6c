"""Lists that come from the data alone: what is there twice, in both splits, or far from everything else."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from unseen.errors import UnseenError
from unseen.runs import Run, open_run

if TYPE_CHECKING:
    import polars as pl

TITLES = {"duplicates": "There twice, or nearly", "leaks": "Test examples in the training set", "outliers": "Far from all others"}


@dataclass(frozen=True)
class _Oddities:
    """The flags of a list that comes from the data alone."""

    run: Positional[Path]
    """a run folder"""
    top: int = 20
    """number of examples; 0: all"""
    json: bool = False
    """print JSON"""
    csv: bool = False
    """print CSV"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data that a run made elsewhere names outside of its own folder, or on the hub"""

    def __call__(self) -> None:
        """Print the list."""
        if self.json and self.csv:
            raise UnseenError("--json and --csv are both given. Choose one.")
        if self.top < 0:
            raise UnseenError(f"--top is {self.top}; it must be at least 0 (0: all).")
        found = self.found(open_run(self.run, self.trust_paths))
        print_oddities(type(self).__name__.lower(), found, self.top, "json" if self.json else "csv" if self.csv else "table")

    def found(self, run: Run) -> "pl.DataFrame":
        """The list."""
        raise NotImplementedError


@dataclass(frozen=True)
class Duplicates(_Oddities):
    """List training examples that are there twice, or nearly so; those whose labels differ first. Dropping all leaves one of each."""

    near: float | None = None
    """least cosine of features, above 0.5; 1: only what is equal; default: 0.9, or 0.95 where no trained network made the features"""

    def found(self, run: Run) -> "pl.DataFrame":
        """The list."""
        from unseen.curate import duplicates

        return duplicates(run, self.near, data_dir=self.data_dir)


@dataclass(frozen=True)
class Leaks(_Oddities):
    """List test examples that stand in the training set too, or nearly so."""

    near: float | None = None
    """least cosine of features, above 0.5; 1: only what is equal; default: 0.9, or 0.95 where no trained network made the features"""

    def found(self, run: Run) -> "pl.DataFrame":
        """The list."""
        from unseen.curate import leaks

        return leaks(run, self.near, data_dir=self.data_dir)


@dataclass(frozen=True)
class Outliers(_Oddities):
    """List training examples that are far from all others: pictures of no class, garbage, or what is there once."""

    def found(self, run: Run) -> "pl.DataFrame":
        """The list."""
        from unseen.curate import outliers

        return outliers(run, data_dir=self.data_dir)


def print_oddities(name: str, found: "pl.DataFrame", top: int, form: str) -> None:
    """A list that comes from the data alone. form: table, json or csv."""
    from unseen.commands.terminal import print_rows, shortened
    from unseen.curate import neutral_frame

    shown = found.head(top) if top else found
    if form == "csv":
        print(neutral_frame(shown).write_csv(), end="")
    elif form == "json":
        print(json.dumps({"list": name, "examples": len(found), "rows": shown.to_dicts()}, indent=1))
    else:
        if len(shown):
            columns = [column for column in shown.columns if column not in ("index", "other_index", "path")]
            print_rows(
                [{key: shortened(value) for key, value in row.items()} for row in shown.select(columns).to_dicts()], title=TITLES[name]
            )
        differ = f" Of {int(found['labels_differ'].sum()):,} the labels differ." if len(found) and "labels_differ" in found.columns else ""
        print(f"{TITLES[name]}: {len(found):,} examples.{differ}")
