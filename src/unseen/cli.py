"""The command line: a thin face of the Python functions. Flags are the names of ``Config``'s fields."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from unseen.config import Config
from unseen.errors import UnseenError
from unseen.runs import Run, list_runs, open_run


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

    def __call__(self) -> None:
        """Run the main job and print what it found."""
        from unseen.scoring import score
        from unseen.terminal import print_summary

        names = {field.name for field in fields(Config)} - {"data", "model"}
        options = {name: getattr(self, name) for name in names}
        print_summary(
            score(
                self.data,
                self.model,
                out=self.out,
                data_dir=self.data_dir,
                devices=self.devices,
                resume=self.resume,
                force=self.force,
                progress=True,
                **options,
            )
        )


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
        from unseen.terminal import print_top

        print_top(open_run(self.run), self.sort, self.top, self.json)


@dataclass(frozen=True)
class Plot:
    """Draw the long tail of a run and, for images, its most memorized examples."""

    run: Positional[Path]
    """a run folder"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    out: Path | None = None
    """PNG, SVG or PDF; default: overview.png in the run folder"""

    def __call__(self) -> None:
        """Write the figure and print where it is."""
        from unseen.scoring import plot_run

        print(plot_run(open_run(self.run), self.data_dir, self.out))


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
        from unseen.scoring import audit_model
        from unseen.terminal import print_audit

        names = {field.name for field in fields(Config)} - {"data", "model"}
        leaks, sentence = audit_model(self.data, self.model, self.data_dir, self.examples, {name: getattr(self, name) for name in names})
        print_audit(leaks, sentence, self.json)


@dataclass(frozen=True)
class Truth:
    """Retrain on many random subsets by a run's recipe: what its scores should have said."""

    run: Positional[Path]
    """a run folder"""
    members: int = 400
    """networks to train"""
    fraction: float = 0.7
    """share of the training examples that each of them sees"""
    leave_one_out: str | None = None
    """instead: exact leave-one-out of these training examples, "3,17,99" or "all" (small data)"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Train the members that are missing, write truth.parquet, print how reliable it is."""
        from unseen.progress import counter
        from unseen.scoring import write_truth
        from unseen.terminal import print_truth

        run = open_run(self.run)
        left_out = _positions(self.leave_one_out, run) if self.leave_one_out else None
        with counter(self.members, "members") as advance:
            table, facts = write_truth(run, self.members, self.fraction, left_out, data_dir=self.data_dir, progress=advance)
        print_truth(run, table, facts, self.json)


@dataclass(frozen=True)
class Influence:
    """Which training examples help or hurt which queries."""

    run: Positional[Path]
    """a run folder"""
    queries: str = "test[:100]"
    """test[:100], train[5], train[10:20], test, or indices "3,17,99"""
    top: int = 20
    """examples to keep at each end, per query"""
    method: Literal["turnover", "gradient"] = "turnover"
    """turnover: equation 5; gradient: products of gradients over the saved epochs (--save-every), which follow retraining better"""
    memory_gib: float = 2.0
    """memory ceiling"""
    data_dir: Path | None = None
    """where mnist/, fashion-mnist/ and cifar10/ lie; default: $UNSEEN_DATA"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Write influence.parquet and print its first rows."""
        from unseen.influence import run_influence
        from unseen.terminal import print_influence

        run = open_run(self.run)
        table = run_influence(run, self.queries, self.top, self.method, data_dir=self.data_dir, memory_gib=self.memory_gib)
        print_influence(run, table, self.json)


@dataclass(frozen=True)
class Evaluate:
    """Judge every score of a run by its known label errors and, after `unseen truth`, by retraining."""

    run: Positional[Path]
    """a run folder"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Write metrics.json and print it."""
        from unseen.evaluate import evaluate
        from unseen.terminal import print_table

        print_table(evaluate(open_run(self.run)), self.json)


@dataclass(frozen=True)
class Runs:
    """List the runs below a folder, newest last."""

    root: Positional[Path] = Path("runs")
    """the folder"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> None:
        """Print a line per run."""
        from unseen.terminal import print_runs

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


COMMANDS: dict[str, Any] = {
    "score": Score,
    "show": Show,
    "plot": Plot,
    "audit": Audit,
    "truth": Truth,
    "influence": Influence,
    "evaluate": Evaluate,
    "runs": Runs,
    "download": Download,
}


def _positions(text: str, run: Run) -> list[int]:
    """Positions among the training examples: "all", or numbers. Raises UnseenError for anything else."""
    count = len(run.scores)
    if text == "all":
        return list(range(count))
    numbers = text.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        raise UnseenError(f"--leave-one-out is {text!r}; it must be all, or positions from 0 to {count - 1} like 3,17,99.")
    return [int(number) for number in numbers]


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for bad input, 130 for Ctrl-C."""
    arms = [Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()]
    union: Any = arms[0]
    for arm in arms[1:]:
        union = union | arm
    try:
        command: Any = tyro.cli(union, prog="unseen", args=arguments, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
        command()
    except UnseenError as error:
        print(f"unseen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nunseen: stopped. What was finished is kept; the same command with --resume goes on.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    return 0


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
