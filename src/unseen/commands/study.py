"""How training got there: dynamics of subsets, their gradients, and the paper's figures."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from unseen.commands.following import following
from unseen.runs import open_run


@dataclass(frozen=True)
class Dynamics:
    """Show loss and accuracy of named subsets of a run, epoch by epoch, and when each example was learned and forgotten."""

    run: Positional[Path]
    """a run folder"""
    subset: tuple[str, ...] = ()
    """easy:0.2, NAME=difficult:0.2, wrong, right, class:cat, test/easy:0.2, high:COLUMN:100, index:3,17; default: those watched"""
    scores: Path | None = None
    """the run whose scores rank the examples; default: this one"""
    side: str = "seen"
    """whose loss and accuracy to print: seen, unseen or full (that of an ordinary network)"""
    out: Path | None = None
    """the figure, PNG, SVG or PDF; default: dynamics.png in the run folder"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Write dynamics.parquet, learned.parquet and the figure; print the curves."""
        from unseen.commands.terminal import print_dynamics
        from unseen.judge import dynamics
        from unseen.plots import save_dynamics

        run = open_run(self.run)
        curves, times = dynamics(run, self.subset, self.scores)
        print_dynamics(curves, times, self.side, self.json)
        path = save_dynamics(curves, self.out or run.path / "dynamics.png")
        if self.json:
            return None
        print(path)
        if run.config.training.save_every:
            return following("whose gradients agree", "gradients", self.run)
        return following("a page of the run", "report", self.run)


@dataclass(frozen=True)
class Gradients:
    """Show whose gradients agree and who drives a step, for each subset and saved epoch of a run (score --save-every)."""

    run: Positional[Path]
    """a run folder that kept its weights"""
    subset: tuple[str, ...] = ()
    """subsets, as in `unseen dynamics`; default: those watched"""
    scores: Path | None = None
    """the run whose scores rank the examples; default: this one"""
    examples: int = 1000
    """members of each subset to measure"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Write gradients.parquet and print it."""
        from unseen.commands.terminal import print_gradients
        from unseen.judge import run_gradients

        run = open_run(self.run, self.trust_paths)
        print_gradients(run, run_gradients(run, self.subset, self.scores, most=self.examples, data_dir=self.data_dir), self.json)
        return None if self.json else following("loss and accuracy of the subsets", "dynamics", self.run)


@dataclass(frozen=True)
class Recipe:
    """Make figures of the paper, and some beyond it: train what is missing, draw, and check what each figure claims."""

    names: Positional[tuple[str, ...]]
    """fig2, fig3, … fig10, inputs, robust, early, or all"""
    scale: Literal["tiny", "small", "paper"] = "small"
    """tiny: seconds; small: two CPU cores; paper: as published, for a GPU"""
    out: Path = Path("docs/results")
    """folder of the figures and claims: OUT/<scale>/<name>/"""
    runs: Path = Path("runs/recipes")
    """folder of the runs, shared by the recipes; what is there is not trained again, what was stopped goes on"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    minutes: float | None = None
    """minutes to train at most, the most valuable runs first; the next call goes on; default: until all is there"""
    jobs: int = 0
    """with --minutes: number of processes side by side; default: 3 on a graphics card, else 1"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Train what the minutes allow, draw, and print the claims as they come."""
        from unseen.commands.terminal import print_claims
        from unseen.recipes import cook, train

        names = self.names
        if self.minutes is not None:
            say = (lambda line: print(line, file=sys.stderr)) if self.json else print
            names = tuple(train(names, self.scale, self.minutes, self.runs, self.data_dir, self.jobs, say))
        cooking = cook(names, self.scale, self.out, self.runs, self.data_dir, progress=True) if names else iter(())
        if self.json:
            print_claims([claim for claims in cooking for claim in claims], as_json=True)
            return None
        for claims in cooking:
            print_claims(claims, as_json=False)
        print(self.out / self.scale)
        return following("the runs behind the figures", "runs", self.runs)
