"""Lists to act on, the loop that cleans a data set, and files for other tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from unseen.commands.following import after_page, flags, following
from unseen.commands.options import Listing, Run
from unseen.errors import UnseenError
from unseen.runs import open_run


@dataclass(frozen=True)
class _List(Listing):
    """A list of ``curate``."""

    def __call__(self) -> str | None:
        """Ask the witnesses that were not asked yet, and print the list with its estimated error rate."""
        from unseen.commands.listing import print_list
        from unseen.curate import find_neighbours, find_witness

        form, run = self.form(), open_run(self.run, self.trust_paths)
        missing = find_neighbours(run, self.data_dir)
        find_witness(run, self.data_dir)
        print_list(run, type(self).__name__.lower(), self.top, form, missing)
        if form != "table":
            return None
        if (run.path / "report.html").exists():
            return after_page(run)
        return following("a page to look at them and to decide", "report", self.run)


@dataclass(frozen=True)
class Suspects(_List):
    """List the examples whose label is probably wrong, the surest first."""


@dataclass(frozen=True)
class Rare(_List):
    """List the examples that are rare but right: they are hard to predict, though the nearest examples have the same label."""


@dataclass(frozen=True)
class Easy(_List):
    """List the examples that are easiest to predict without having seen them."""


@dataclass(frozen=True)
class Selfcheck(Run):
    """Change 5% of the labels on purpose, score, and say how many of them the scores find. Can they be trusted here?"""

    share: float = 0.05
    """share of the training labels to change"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Score with planted errors, write selfcheck.json and selfcheck.png, print the finding."""
        from unseen.commands.terminal import print_selfcheck
        from unseen.judge import selfcheck

        if self.noise.random_labels or self.noise.label_noise != "uniform":
            raise UnseenError("--random-labels and --label-noise are what selfcheck sets itself. Use --share, or `unseen score`.")
        options = {name: value for name, value in self.keywords().items() if name not in ("random_labels", "label_noise")}
        run = selfcheck(self.data.data, self.network.model, share=self.share, **options)
        print_selfcheck(run, self.json)
        if self.output.report:
            from unseen.page import report
            from unseen.training import first

            first(lambda: report(run, self.data.data_dir))
        return None if self.json else following("without planted errors", "score", self.data.data, *flags(self.data))


@dataclass(frozen=True)
class Prune:
    """Choose a share of the training examples to keep, and write keep.txt. --curve trains on such shares, to show what that costs."""

    run: Positional[Path]
    """a run folder"""
    keep: float = 0.7
    """share of the training examples to keep"""
    keep_hard: bool = False
    """keep the hardest (the default)"""
    keep_easy: bool = False
    """keep the easiest"""
    random: bool = False
    """keep any"""
    drop_suspects: bool = False
    """leave out first the examples whose label is probably wrong"""
    stratify: bool = False
    """the same share of each class"""
    curve: bool = False
    """train on 10 to 100% chosen so and at random; write prune.json and prune.png"""
    seeds: int = 3
    """trainings for each point of the curve"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""

    def __call__(self) -> str:
        """Write keep.txt, and with --curve the figure, and print where they are."""
        from unseen.commands.terminal import print_curve
        from unseen.curate import Order, curve, find_neighbours, prune
        from unseen.scoring import run_examples

        asked: dict[Order, bool] = {"hard": self.keep_hard, "easy": self.keep_easy, "random": self.random}
        orders = [name for name, given in asked.items() if given]
        if len(orders) > 1:
            raise UnseenError("Choose one of --keep-hard, --keep-easy and --random.")
        order = orders[0] if orders else "hard"
        run = open_run(self.run, self.trust_paths)
        find_neighbours(run, self.data_dir)
        kept = prune(run, self.keep, order, self.drop_suspects, self.stratify)
        print(f"{len(kept):,} of {len(run.scores):,} training examples stay.\n{run.path / 'keep.txt'}")
        if self.curve:
            examples = run_examples(run, data_dir=self.data_dir)[1]
            print_curve(run, curve(run, examples, order, self.drop_suspects, self.stratify, seeds=self.seeds))
        return after_page(run, "a copy of these alone", run.path / "keep.txt")


@dataclass(frozen=True)
class Apply:
    """Write a cleaned copy of a data set, by decisions.csv or keep.txt. The data themselves are never changed."""

    decisions: Positional[Path]
    """decisions.csv with the columns id, decision (keep, drop, relabel) and label; or keep.txt with an id per line"""
    source: Positional[Path]
    """a folder of images per class, a .csv, .tsv or .parquet file; or a run folder, for a list of indices"""
    destination: Positional[Path]
    """a new folder or file"""
    target: str | None = None
    """column of the class in a table"""
    id_column: str | None = None
    """column of the ids in a table; default: row/0, row/1, …"""
    separator: str | None = None
    """what separates the fields of a CSV, as given to score"""
    encoding: str | None = None
    """encoding of a CSV, as given to score"""

    def __call__(self) -> str:
        """Write the copy, and print what became of the examples."""
        from unseen.commands.table import say
        from unseen.curate import apply

        counts = apply(self.decisions, self.source, self.destination, self.target, self.id_column, self.separator, self.encoding)
        print(f"{counts['keep']:,} kept, {counts['drop']:,} dropped, {counts['relabel']:,} relabelled.")
        for names, said in ((counts.copied, "copied as they are, not judged"), (counts.left, "not in the copy")):
            if names:
                say(f"{len(names):,} {said}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}.")
        print(self.destination)
        if self.destination.suffix in (".npy", ".txt"):
            return following("other runs", "runs")
        return following("score the copy", "score", self.destination, *flags(self, ("target", "id_column", "separator", "encoding")))


@dataclass(frozen=True)
class Export:
    """Write a run's scores in the file format of another tool."""

    run: Positional[Path]
    """a run folder"""
    format: Literal["aum", "cartography", "cleanlab"] = "cleanlab"
    """aum: aum_values.csv; cartography: td_metrics.jsonl; cleanlab: label_issues.csv"""
    out: Path | None = None
    """the file; default: the tool's own name, in the run folder"""

    def __call__(self) -> str:
        """Write the file and print where it is."""
        from unseen.curate import export

        print(export(open_run(self.run), self.format, self.out))
        return following("the same on a page", "report", self.run)
