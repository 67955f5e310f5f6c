"""The page *How right are the scores?*, from docs/results/fidelity-*.json alone: nothing in it is typed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
WHAT = {
    "T1": "5,000 images of MNIST, 500 labels changed; an MLP with 512 units",
    "fashion": "5,000 images of Fashion-MNIST, 500 labels changed; an MLP with 512 units",
    "cifar-vgg11": "5,000 images of CIFAR-10 (pixels passed through JPEG), 500 labels changed; a VGG-11 at a quarter of its widths",
    "cifar-resnet": "the same images and labels; a ResNet-10 with group norms at a quarter of its widths",
    "sst2": "5,000 sentences of SST-2 as hashed words and pairs of words, 500 labels changed; the linear network for texts",
    "table": "scikit-learn's breast cancer table, 569 rows of 30 numbers, 57 labels changed; an MLP with 64 units",
    "digits": "scikit-learn's digits, 144 labels changed; an MLP with 128 units: small, and what CI runs",
}
HEAD = """# How right are the scores?

A score of memorization is an estimate, and so is the truth that it is judged by. Here every method is judged on every task by the same
truth: networks retrained on random shares of the examples, whose loss of an example without it minus that with it is its memorization
(Feldman and Zhang 2020). Another draw of these networks would rank the examples a little differently. The *reliability* of the truth says
how alike the two rankings would be (1: the same), and its root is the highest rank correlation that any method can be expected to reach.

Two questions are told apart, since the best answer to one is not the best to the other.

- **What did this network memorize?** Spearman's correlation with the truth, on right labels alone (on all examples it is easier, because
  wrong labels stand out), with its 90% interval over examples, and as a share of the root of the reliability.
- **Is the label wrong?** The area under the ROC for the labels that were changed, and the share of changed labels among the first *n*, as
  many as were changed. Where a method states a probability, its calibration error says how far the stated probabilities are from what
  happens.

*Cost* is in plain training runs of the same network, in processor seconds of one thread. *Memory* is how far the process grew. A method
that is not installed, or fails, is named with the reason. `python benchmarks/fidelity.py --all --data-dir DATA --work work` makes this
page. It goes on where it was stopped.
"""
TAIL = """## Hand in scores of your own

The truths are tables in `docs/results/truth`, a row per training example with its index in the data set, its given label and its true one.
Train on the given labels, write a parquet file with a column `index` and a column of numbers per score (high = suspect), and run

```bash
unseen evaluate T1 --scores mine.parquet
```

It tells the same numbers as this page. A file without `index`, with other examples than the task's, or with NaN is refused with the reason.

## Add a method

A method is a function from a task to a score per training example. It is entered under its name in `PEERS` of `benchmarks/peers.py`:

```python
def mean_loss_of_three(task: Task) -> Floats:
    \"\"\"Loss at the end of training, mean over three runs.\"\"\"
    last = task.config.training.epochs
    return np.mean([task.history("loss", [last], seed)[0] for seed in range(3)], axis=0)


PEERS["final loss, 3 runs"] = mean_loss_of_three
```

`task.tensors()` has inputs and given labels, `task.networks(epochs)` trained networks, `task.history(...)` what was measured after each
epoch. What it costs is counted by the benchmark. `python benchmarks/fidelity.py --task T1 --only "final loss, 3" --work work` runs it
alone.

## Add a task

Enter its recipe and its number of wrong labels in `TASKS` of `benchmarks/tasks.py`, and make its truth with
`python benchmarks/truths.py NAME --work work`.
"""


def write_page(results: Path, page: Path, tasks: Sequence[str]) -> None:
    """Write the page of the tasks that have results."""
    found = [json.loads((results / f"fidelity-{name}.json").read_text()) for name in tasks if (results / f"fidelity-{name}.json").exists()]
    found = [task for task in found if "examples" in task]  # not those of before the page was made
    parts = [HEAD, overview(found), *(section(task) for task in found), TAIL]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts), encoding="utf-8")
    for task in found:
        (results / f"fidelity-{task['task']}.md").write_text(section(task, "#"), encoding="utf-8")


def overview(tasks: list[Row]) -> str:
    """A row per task: its truth, and the best method for each question."""
    lines = ["## The tasks", "", "| task | examples | truth | reliability | best at memorization | best at wrong labels |"]
    lines.append("|---|---|---|---|---|---|")
    for task in tasks:
        truth, rows = task["truth"], [row for row in task["rows"] if "skipped" not in row]
        reliability = f"{truth['reliability']:.3f}, on right labels {truth['reliability_correct']:.3f}"
        best = [max(rows, key=lambda row, by=by: row[by] or -1) for by in ("spearman_correct", "precision_at_n")]
        told = [f"{name_of(row)}: {row[by]:.3f}" for row, by in zip(best, ("spearman_correct", "precision_at_n"), strict=True)]
        counts = f"{task['examples']:,}, {task['wrong']:,} wrong"
        name, networks = task["task"], f"{truth['members']} networks on {truth['fraction']:.0%}"
        lines.append(f"| {' | '.join([f'[{name}](#{name.lower()})', counts, networks, reliability, *told])} |")
    return "\n".join(lines) + "\n"


def name_of(row: Row) -> str:
    """Method, and which of its scores."""
    return row["method"] + (f": {row['score']}" if row["score"] else "")


def section(task: Row, level: str = "##") -> str:
    """Both tables of a task, best first, and what was skipped."""
    rows = [row for row in task["rows"] if "skipped" not in row]
    lines = [f"{level} {task['task']}", "", f"{WHAT[task['task']]}. Highest that can be expected: {_highest(rows)}.", ""]
    lines += [f"{level}# What did this network memorize? ({task['task']})", ""]
    lines += [
        "| method | rank correlation (90%) | of the highest | on all | intervals hold | cost | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["spearman_correct"]):
        share = "" if row["share_of_ceiling"] is None else f"{row['share_of_ceiling']:.0%}"
        held = "" if row["coverage"] is None else f"{row['coverage']:.1%}"
        value = f"{row['spearman_correct']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        lines.append(
            f"| {name_of(row)} | {value} | {share} | {row['spearman']:.3f} | {held} | {row['cost']:.2f} | {row['mebibytes']:.0f} |"
        )
    lines += ["", f"{level}# Is the label wrong? ({task['task']})", ""]
    lines += ["| method | AUROC | average precision | precision at n | calibration error | cost |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row["precision_at_n"]):
        error = "" if row["calibration_error"] is None else f"{row['calibration_error']:.3f}"
        numbers = [f"{row[name]:.3f}" for name in ("auroc", "average_precision", "precision_at_n")]
        lines.append(f"| {name_of(row)} | {' | '.join(numbers)} | {error} | {row['cost']:.2f} |")
    if skipped := [f"- {row['method']}: {row['skipped']}" for row in task["rows"] if "skipped" in row]:
        lines += ["", "Skipped:", "", *skipped]
    return "\n".join(lines) + "\n"


def _highest(rows: list[Row]) -> str:
    known = [row["ceiling"] for row in rows if row["ceiling"]]
    return f"{known[0]:.3f}" if known else "unknown"
