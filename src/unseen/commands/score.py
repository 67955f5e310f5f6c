"""Score a data set, and look at what came out."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from unseen.config import Config
from unseen.runs import list_runs, open_run


@dataclass(frozen=True)
class Score(Config):
    """Train once with turn-over dropout and score every training example."""

    data: Positional[str] = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    out: Path | None = None
    """the run's folder; default: runs/<data>-<model>-<hash of the configuration>"""
    devices: int = 1
    """processes, or GPUs"""
    resume: bool = False
    """go on with a run that was stopped"""
    force: bool = False
    """train again what is there"""
    report: bool = False
    """write report.html too, one page that shows the run"""
    logger: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ()
    """also give every epoch's accuracies and losses to these loggers"""

    def __call__(self) -> None:
        """Run the main job and print what it found."""
        from unseen.commands.terminal import print_summary
        from unseen.scoring import score

        names = {field.name for field in fields(Config)} - {"data", "model"}
        options = {name: getattr(self, name) for name in names}
        run = score(
            self.data,
            self.model,
            out=self.out,
            data_dir=self.data_dir,
            devices=self.devices,
            resume=self.resume,
            force=self.force,
            progress=True,
            loggers=self.logger,
            **options,
        )
        print_summary(run)
        if self.report:
            from unseen.page import report
            from unseen.training import first

            print(first(lambda: report(run, self.data_dir)))


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

    def __call__(self) -> None:
        """Print the table."""
        from unseen.commands.terminal import print_top

        print_top(open_run(self.run), self.sort, self.top, self.json)


@dataclass(frozen=True)
class Plot:
    """Draw the long tail of a run and, for images, its most memorized examples."""

    run: Positional[Path]
    """a run folder"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data that a run made elsewhere names outside of its own folder, or on the hub"""
    out: Path | None = None
    """PNG, SVG or PDF; default: overview.png in the run folder"""

    def __call__(self) -> None:
        """Write the figure and print where it is."""
        from unseen.plots import plot_run

        print(plot_run(open_run(self.run, self.trust_paths), self.data_dir, self.out))


@dataclass(frozen=True)
class Audit(Config):
    """Measure what both halves of a network share, parameter by parameter."""

    data: Positional[str] = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    examples: int = 8
    """number of examples to average over"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Print the table and the advice."""
        from unseen.commands.terminal import print_audit
        from unseen.scoring import audit_model

        names = {field.name for field in fields(Config)} - {"data", "model"}
        leaks, sentence = audit_model(self.data, self.model, self.data_dir, self.examples, {name: getattr(self, name) for name in names})
        print_audit(leaks, sentence, self.json)


@dataclass(frozen=True)
class Runs:
    """List the runs below a folder, newest last."""

    root: Positional[Path] = Path("runs")
    """the folder"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Print a line per run."""
        from unseen.commands.terminal import print_runs

        print_runs(list_runs(self.root), self.json)


@dataclass(frozen=True)
class Download:
    """Fetch a data set from the Hugging Face hub into the data folder, in the layout that `unseen score` reads."""

    name: Positional[str]
    """mnist, fashion-mnist or cifar10"""
    data_dir: Path | None = None
    """where to; default: $UNSEEN_DATA, or ./data"""

    def __call__(self) -> None:
        """Download, and print where it is."""
        from unseen.data import download

        print(download(self.name, self.data_dir))
