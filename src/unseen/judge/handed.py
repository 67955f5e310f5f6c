"""Scores that somebody hands in, judged by a truth of retraining: a column per method, a row per training example."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.errors import UnseenError
from unseen.judge.evaluation import NORMAL_90, SUSPECT, Floats, agreement, coverage, precision_at_n
from unseen.judge.retraining import ceiling
from unseen.runs import open_run, read_regular
from unseen.scoring import detection

if TYPE_CHECKING:
    import polars as pl

TRUTHS = Path("docs/results/truth")
"""Where a checkout has the truths of the benchmark's tasks."""
NEEDED = ("index", "given_label", "memorization")
LARGEST = 2**32
BESIDE = ("index", "id", "path", "split", "given_label", "true_label", "given_class", "true_class", "trained", "text", "seed", "epoch")
"""Columns of a table of scores that are no scores."""
BINS = 10
JUDGED = (
    *("spearman", "spearman_correct", "low", "high", "ceiling", "share_of_ceiling"),
    *("auroc", "average_precision", "precision_at_n", "calibration_error", "coverage"),
)
"""What is told of a score, whether known or not."""


def read_truth(task: str) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """What retraining found of a task's training examples, and its facts (with its reliability).

    Args:
        task: a run folder after ``unseen truth``; a truth's .parquet file, with its .json beside it; or the name of one in ``TRUTHS``.

    Raises:
        UnseenError: where there is none, and for a table that is none.
    """
    path = Path(task)
    if path.is_dir():
        run = open_run(path)
        return run.table("truth"), run.read_json("truth.json")
    named = TRUTHS / f"{task}.parquet"
    path = named if not path.exists() and named.exists() else path
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in TRUTHS.glob("*.parquet"))) or "none, since this is no checkout of unseen"
        raise UnseenError(
            f"There is no task {task!r}. Give a run folder after `unseen truth`, a truth's .parquet file, or one of {TRUTHS}: {known}."
        )
    table = _parquet(path)
    if missing := [name for name in NEEDED if name not in table.columns]:
        raise UnseenError(f"{path} is no truth: it has no column {missing[0]}. benchmarks/truths.py and `unseen truth` make truths.")
    beside = path.with_suffix(".json")
    return table, json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}


def read_scores(path: Path, truth: "pl.DataFrame") -> dict[str, Floats]:
    """The scores of a parquet file, in the order of the truth; high = suspect, columns with a name of ours by their meaning.

    Args:
        path: with a column index, the example's position in the data set, as the truth has it, and a column of numbers per score.
        truth: of ``read_truth``.

    Raises:
        UnseenError: for a file that is no parquet, without index, with the wrong examples, twice the same, without scores or with NaN.
    """
    table = _parquet(path)
    if "index" not in table.columns:
        raise UnseenError(f"{path} has no column index but {_few(table.columns)}. Add the position of each example in the data set, int64.")
    if not table["index"].dtype.is_integer() or table["index"].null_count():
        raise UnseenError(f"The column index of {path} is {table['index'].dtype}; it must be whole numbers, none missing.")
    _check_examples(path, table["index"].to_numpy(), truth["index"].to_numpy())
    names = [name for name, kind in table.schema.items() if kind.is_numeric() and name not in BESIDE]
    if not names:
        raise UnseenError(f"{path} has no column of numbers beside {_few(table.columns)}. Add one per score, high = suspect.")
    ordered = truth.select("index").join(table, on="index", how="left", maintain_order="left")
    found = {name: SUSPECT.get(name, 1) * ordered[name].cast(float).to_numpy() for name in names}
    for name, values in found.items():
        if bad := int((~np.isfinite(values)).sum()):
            first = int(truth["index"][int((~np.isfinite(values)).argmax())])
            raise UnseenError(
                f"The column {name} of {path} is NaN, infinite or missing for {bad} of {len(values)} examples, first for index {first}. "
                "Give every example a number."
            )
    return found


def _parquet(path: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(read_regular(path, LARGEST, follow=True)))
    except (OSError, pl.exceptions.PolarsError) as error:
        said = str(error).splitlines()[0][:200]
        raise UnseenError(f"{path} cannot be read as parquet ({said}). Write it with polars, pandas or pyarrow.") from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _check_examples(path: Path, index: NDArray[Any], wanted: NDArray[Any]) -> None:
    if len(np.unique(index)) != len(index):
        raise UnseenError(f"{path} has {len(index) - len(np.unique(index))} rows whose index is there twice. Give each example one row.")
    missing, others = np.setdiff1d(wanted, index), np.setdiff1d(index, wanted)
    if len(missing):
        raise UnseenError(
            f"{path} lacks {len(missing):,} of the task's {len(wanted):,} examples, the first index {missing[0]}, and has {len(others):,} "
            "that are none of it. Score the task's training examples, all of them."
        )


def evaluate_scores(
    score: Floats,
    truth: "pl.DataFrame",
    facts: dict[str, Any],
    *,
    probability: bool = False,
    interval: tuple[Floats, Floats] | None = None,
) -> dict[str, float | None]:
    """Judge one score by both questions: what did this network memorize, and is the label wrong.

    Args:
        score: (n,), high = suspect, in the truth's order.
        truth: of ``read_truth``.
        facts: of ``read_truth``.
        probability: whether the score is a probability that the label is wrong; then its calibration is told.
        interval: low and high ends of 90% intervals of memorization in nats, (n,) each; then their coverage is told.

    Returns:
        Of memorization: spearman, and spearman_correct on right labels (None where true labels are not known), with the ends of its 90%
        interval low and high; ceiling, the root of the truth's reliability on the same examples, and share_of_ceiling. Of wrong labels:
        auroc, average_precision, precision_at_n, and calibration_error (see ``calibration_error``). coverage of the intervals.
    """
    found: dict[str, float | None] = dict.fromkeys(JUDGED)
    correct = (truth["given_label"] == truth["true_label"]).to_numpy() if "true_label" in truth.columns else None
    target = truth["memorization"].to_numpy().astype(np.float64)
    agreed = agreement(score, target, correct)
    best = agreed.get("spearman_correct", agreed["spearman"])
    found |= {"spearman": agreed["spearman"].value, "low": best.low, "high": best.high}
    if correct is not None:
        found["spearman_correct"] = best.value
        if 0 < correct.sum() < len(correct):
            found |= detection(~correct, score) | {"precision_at_n": precision_at_n(~correct, score)}
            found["calibration_error"] = calibration_error(score, ~correct) if probability else None
    highest = ceiling(facts.get("reliability" if correct is None else "reliability_correct"))
    if highest:
        found |= {"ceiling": highest, "share_of_ceiling": best.value / highest}
    if interval is not None and "memorization_se" in truth.columns:
        low, high = interval
        found["coverage"] = coverage((low + high) / 2, (high - low) / 2 / NORMAL_90, target, truth["memorization_se"].to_numpy())
    return found


def calibration_error(probability: Floats, wrong: NDArray[np.bool_], bins: int = BINS) -> float:
    r"""How far stated probabilities are from what happens (expected calibration error, Naeini et al. 2015), in bins of equally many.

    .. math:: \sum_b \frac{n_b}{n} \Big| \overline{p}_b - \overline{\text{wrong}}_b \Big|
    """
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    return float(sum(len(part) * abs(probability[part].mean() - wrong[part].mean()) for part in parts if len(part)) / len(probability))
