"""Score a data set, and look at what came out."""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from unseen.commands.following import flags, following
from unseen.commands.options import Run, Source, options_of
from unseen.config import MaskOptions, NetworkOptions
from unseen.runs import has_halves, list_runs, open_run


@dataclass(frozen=True)
class Score(Run):
    """Train once, and score every training example by what the network would say had it never seen it."""

    def __call__(self) -> str:
        """Run the main job and print what it found."""
        from unseen.commands.terminal import print_summary
        from unseen.scoring import score

        run = score(self.data.data, self.network.model, **self.keywords())
        print_summary(run)
        if self.output.report:
            from unseen.page import report
            from unseen.training import first

            print(first(lambda: report(run, self.data.data_dir)))
        if not has_halves(run.summary):
            return following("the hardest examples by what costs nothing extra", "show", run.path)
        return following("the labels that are probably wrong", "suspects", run.path)


@dataclass(frozen=True)
class Show:
    """Show the scores of a run, highest first."""

    run: Positional[Path]
    """a run folder"""
    sort: str = "memorization"
    """column to sort by"""
    top: int = 20
    """number of examples"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Print the table."""
        from unseen.commands.terminal import print_top

        print_top(open_run(self.run), self.sort, self.top, self.json)
        return None if self.json else following("a page to look at them", "report", self.run)


@dataclass(frozen=True)
class Plot:
    """Draw the long tail of a run and, for images, its most memorized examples."""

    run: Positional[Path]
    """a run folder"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    out: Path | None = None
    """PNG, SVG or PDF; default: overview.png in the run folder"""

    def __call__(self) -> str:
        """Write the figure and print where it is."""
        from unseen.plots import plot_run

        print(plot_run(open_run(self.run, self.trust_paths), self.data_dir, self.out))
        return following("a page with all examples", "report", self.run)


@dataclass(frozen=True)
class Audit:
    """Measure what both halves of a network share, parameter by parameter."""

    data: Source = field(default_factory=Source)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    seed: int = 0
    """seed of masks and weights"""
    examples: int = 8
    """number of examples to average over"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Print the table and the advice."""
        from unseen.commands.terminal import print_audit
        from unseen.scoring import audit_model

        leaks, sentence = audit_model(self.data.data, self.network.model, self.data.data_dir, self.examples, options_of(self))
        print_audit(leaks, sentence, self.json)
        return (
            None if self.json else following("train it", "score", self.data.data, "--model", self.network.model, "--estimator", "turnover")
        )


@dataclass(frozen=True)
class Runs:
    """List the runs below a folder, newest last."""

    root: Positional[Path] = Path("runs")
    """the folder"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Print a line per run."""
        from unseen.commands.terminal import print_runs

        runs = list_runs(self.root)
        print_runs(runs, self.json)
        if self.json:
            return None
        return following("the newest", "show", runs[-1].path) if runs else following("a first run", "score", "digits")


@dataclass(frozen=True)
class Download:
    """Fetch a data set from the Hugging Face hub into the data folder, in the layout that `unseen score` reads."""

    name: Positional[str]
    """mnist, fashion-mnist or cifar10"""
    data_dir: Path | None = None
    """where to; default: $UNSEEN_DATA, or ./data"""

    def __call__(self) -> str:
        """Download, and print where it is."""
        from unseen.data import download

        print(download(self.name, self.data_dir))
        return following("score it", "score", self.name, *flags(self, ("data_dir",)))
