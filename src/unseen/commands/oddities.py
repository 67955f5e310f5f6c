"""Lists that come from the data alone: what is there twice, in both splits, or far from everything else."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unseen.commands.following import following
from unseen.commands.options import Listing
from unseen.runs import open_run

if TYPE_CHECKING:
    import polars as pl

TITLES = {"duplicates": "There twice, or nearly", "leaks": "Test examples in the training set", "outliers": "Far from all others"}


@dataclass(frozen=True)
class Duplicates(Listing):
    """List training examples that are there twice, or nearly so, those with different labels first. Dropping all leaves one of each."""

    near: float | None = None
    """least cosine of features, above 0.5; 1: only what is equal; default: 0.9, or 0.95 where no trained network made the features"""

    def __call__(self) -> str | None:
        """Print the list."""
        from unseen.curate import duplicates

        form, run = self.form(), open_run(self.run, self.trust_paths)
        print_oddities("duplicates", duplicates(run, self.near, data_dir=self.data_dir), self.top, form)
        return None if form != "table" else following("test examples in the training set", "leaks", self.run)


@dataclass(frozen=True)
class Leaks(Listing):
    """List test examples that are in the training set too, or nearly so."""

    near: float | None = None
    """least cosine of features, above 0.5; 1: only what is equal; default: 0.9, or 0.95 where no trained network made the features"""

    def __call__(self) -> str | None:
        """Print the list."""
        from unseen.curate import leaks

        form, run = self.form(), open_run(self.run, self.trust_paths)
        print_oddities("leaks", leaks(run, self.near, data_dir=self.data_dir), self.top, form)
        return None if form != "table" else following("what is far from all others", "outliers", self.run)


@dataclass(frozen=True)
class Outliers(Listing):
    """List training examples that are far from all others: pictures of no class, garbage, or things that are there once."""

    def __call__(self) -> str | None:
        """Print the list."""
        from unseen.curate import outliers

        form, run = self.form(), open_run(self.run, self.trust_paths)
        print_oddities("outliers", outliers(run, data_dir=self.data_dir), self.top, form)
        return None if form != "table" else following("a page to look at them", "report", self.run)


def print_oddities(name: str, found: "pl.DataFrame", top: int, form: str) -> None:
    """A list that comes from the data alone. form: table, json or csv."""
    from unseen.commands.table import print_rows, say
    from unseen.curate import neutral_frame

    shown = found.head(top) if top else found
    if form == "csv":
        print(neutral_frame(shown).write_csv(), end="")
    elif form == "json":
        print(json.dumps({"list": name, "examples": len(found), "rows": shown.to_dicts()}, indent=1))
    else:
        if len(shown):
            columns = [column for column in shown.columns if column not in ("index", "other_index", "path")]
            print_rows(shown.select(columns).to_dicts(), title=TITLES[name])
        differ = f" The labels of {int(found['labels_differ'].sum()):,} differ." if len(found) and "labels_differ" in found.columns else ""
        say(f"{TITLES[name]}: {len(found):,} examples.{differ}")
