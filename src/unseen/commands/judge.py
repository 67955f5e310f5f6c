"""Retraining, influence, and how right the scores are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from unseen.commands.following import following
from unseen.errors import UnseenError
from unseen.runs import Run, open_run


@dataclass(frozen=True)
class Truth:
    """Train many networks on random subsets, by a run's recipe, to learn what its scores should have said."""

    run: Positional[Path]
    """a run folder"""
    members: int = 400
    """networks to train"""
    fraction: float = 0.7
    """share of the training examples that each of them sees"""
    leave_one_out: str | None = None
    """instead: exact leave-one-out of these training examples, "3,17,99" or "all" (small data)"""
    devices: int = 1
    """processes, or GPUs, that share the members"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Train the members that are missing, write truth.parquet, print how reliable it is."""
        from unseen.commands.terminal import print_truth
        from unseen.judge import truth
        from unseen.training import counter

        run = open_run(self.run, self.trust_paths)
        left_out = _positions(self.leave_one_out, run) if self.leave_one_out else None
        with counter(self.members, "members") as advance:
            options = {"data_dir": self.data_dir, "devices": self.devices, "progress": advance}
            table, facts = truth(run, self.members, self.fraction, left_out, **options)  # type: ignore[arg-type]
        print_truth(run, table, facts, self.json)
        return None if self.json else following("the scores, judged by this", "evaluate", self.run)


@dataclass(frozen=True)
class Influence:
    """Find out which training examples help or hurt which queries."""

    run: Positional[Path]
    """a run folder"""
    queries: str = "test[:100]"
    """test[:100], train[5], train[10:20], test, or indices "3,17,99"""
    top: int = 20
    """examples to keep at each end, per query"""
    method: Literal["turnover", "gradient"] = "turnover"
    """turnover: equation 5; gradient: products of gradients over the saved epochs (--save-every), which follow
    retraining better. A run of members has its own"""
    memory_gib: float = 2.0
    """memory ceiling, of each process"""
    precision: Literal["auto", "bf16", "32"] | None = None
    """what products are made in: bf16 rounds an influence by about 1%, so that some signs of the smallest flip; default: the run's"""
    devices: int = 1
    """processes, or GPUs, that share the queries"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Write influence.parquet and print its first rows."""
        from unseen.attribution import influence
        from unseen.commands.terminal import print_influence

        run = open_run(self.run, self.trust_paths)
        table = influence(
            run,
            self.queries,
            self.top,
            self.method,
            data_dir=self.data_dir,
            memory_gib=self.memory_gib,
            precision=self.precision,
            devices=self.devices,
        )
        print_influence(run, table, self.json)
        return None if self.json else following("a page that shows it", "report", self.run)


@dataclass(frozen=True)
class Evaluate:
    """Judge every score of a run by its known label errors, and by retraining where `unseen truth` was run; or scores of yours."""

    run: Positional[Path]
    """a run folder; with --scores also a truth's .parquet file, or the name of one in docs/results/truth of a checkout"""
    scores: Path | None = None
    """judge these scores instead: parquet with a column index and a column of numbers per score, high = suspect"""
    probability: bool = False
    """the scores are probabilities that the label is wrong: tell how well they are calibrated"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Write metrics.json and print it, or print how right the scores of the file are."""
        from unseen.commands.terminal import print_own_words, print_table
        from unseen.judge import evaluate

        if self.scores is not None:
            print_table(
                self._handed_in(self.scores), self.json, ("score", "spearman_correct", "share_of_ceiling", "auroc", "precision_at_n")
            )
            return None
        run = open_run(self.run)
        print_table(evaluate(run), self.json, ("score", "auroc", "average_precision", "spearman_correct", "lds", "precision_at_n", "cost"))
        if self.json:
            return None
        print_own_words(run.summary)
        if not (run.path / "truth.parquet").exists():
            return following("retrain, to judge the scores by that too", "truth", self.run)
        return following("a page of the run", "report", self.run)

    def _handed_in(self, path: Path) -> list[dict[str, Any]]:
        from unseen.judge import evaluate_scores, read_scores, read_truth

        truth, facts = read_truth(str(self.run))
        scores = read_scores(path, truth)
        return [{"score": name} | evaluate_scores(values, truth, facts, probability=self.probability) for name, values in scores.items()]


def _positions(text: str, run: Run) -> list[int]:
    """Positions among the training examples: "all", or numbers. Raises UnseenError for anything else."""
    count = len(run.scores)
    if text == "all":
        return list(range(count))
    numbers = text.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        raise UnseenError(f"--leave-one-out is {text!r}; it must be all, or positions from 0 to {count - 1} like 3,17,99.")
    return [int(number) for number in numbers]
