"""How right are the scores? Every method on every task against its truth, one page: docs/how-right.md.

    python benchmarks/fidelity.py --all --data-dir DATA --work work     # hours on one thread; a stopped command goes on
    python benchmarks/fidelity.py --task T1 --only members TRAK --work work
    python benchmarks/fidelity.py --task digits --quick --out somewhere  # a minute, for CI

The truths are data, docs/results/truth, made by truths.py. Methods are functions from a task to scores, one per training example, high =
suspect: ours here (``OURS``), those that read a plain run and other libraries' in peers.py. Each is run by itself and kept in ``--work``.
Cost is processor seconds of one thread over those of a plain run without measurements; memory is how far the process grew meanwhile.
"""

import argparse
import contextlib
import importlib
import io
import json
import re
import resource
import signal
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peers import FREE, MODULES, PEERS, STATED
from right import write_page
from tasks import TASKS, Floats, Task, clock, load_task

import unseen
from unseen.curate import judged
from unseen.errors import UnseenError
from unseen.judge import SUSPECT, evaluate_scores, read_truth

Row = dict[str, Any]
Found = Floats | dict[str, Floats]
RECIPE = ("hidden", "width", "epochs", "lr", "momentum", "batch_size", "schedule", "weight_decay")


def scored(task: Task, estimator: str, recipe: bool = True, **options: Any) -> dict[str, Floats]:
    """Columns of ``unseen.score`` on the task's examples, high = suspect, and the lists' own probability that a label is wrong.

    Without the recipe the estimator trains no network.
    """
    known = task.config.flat()
    settings = {name: known[name] for name in RECIPE} if recipe else {}
    labels, texts = task.examples.labels, task.examples.texts
    data: Any = (task.examples.inputs, labels) if texts is None else pl.DataFrame({"text": list(texts), "label": labels.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        settings |= {} if texts is None else {"text": "text"}
        settings |= {"estimator": estimator, "test_fraction": 1e-9, "seed": task.seed, "out": Path(folder) / "run"} | options
        run = unseen.score(data, task.config.network.model if recipe else "mlp", **settings)
        scores = run.scores.sort("index")
        found = {name: SUSPECT[name] * scores[name].cast(float).to_numpy() for name in SUSPECT if name in scores.columns}
        if "label_score" in found:
            found["label_score"] = 1 + found["label_score"]
            found["wrong_probability"] = judged(run).sort("index")["wrong_probability"].to_numpy()
        short = {name: values for name, values in found.items() if name in KEPT[estimator]}
        if "memorization_low" in scores.columns and estimator == "members":
            ends = scores.select("memorization_low", "memorization_high").to_numpy().T
            short |= {"low": ends[0], "high": ends[1]}
    return short


KEPT = {
    "turnover": ("memorization", "memorization_mean", "unseen_loss_mean", "full_loss_mean"),
    "members": (
        "memorization",
        "memorization_rank",
        "memorization_mean",
        "unseen_loss_mean",
        "full_loss_mean",
        "label_score",
        "wrong_probability",
    ),
    "head": ("memorization", "label_score", "wrong_probability"),
}
"""What a reader would look at, of each estimator; the rest follows from plain runs too, where it is in FREE."""


def wide_turnover(task: Task) -> dict[str, Floats]:
    """Turn-over dropout as it does best on MLPs: eight times the width, larger batches, 256 groups, a rate that falls to 0."""
    known = task.config
    if known.network.model != "mlp":
        raise UnseenError("is for multi-layer perceptrons")
    wide = {"hidden": tuple(8 * width for width in known.network.hidden), "batch_size": 4 * known.training.batch_size, "groups": 256}
    return scored(task, "turnover", **wide, lr=2 * (known.training.lr or 0), precision="auto", schedule="cosine")


OURS: dict[str, Callable[[Task], Found]] = {
    "turn-over dropout": partial(scored, estimator="turnover"),
    "turn-over dropout, wide": wide_turnover,
    **{f"{count} members": partial(scored, estimator="members", members=count) for count in (8, 16, 32, 64)},
    "head on features": partial(scored, estimator="head", recipe=False),
}
METHODS: dict[str, Callable[[Task], Found]] = OURS | FREE | PEERS
QUICK = ("8 members", "CSL", "forgetting", "confident learning, 5")


class Growth:
    """How far the process grows while something runs, MiB: the most of its resident memory, looked at every 20 ms, over that before."""

    def __enter__(self) -> "Growth":
        self.before = self.most = self._now()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.mebibytes = max(0.0, (self.most - self.before) / 2**20)

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def attempt(task: Task, name: str, minutes: float) -> Row:
    """Scores, seconds and memory of a method, or why there are none."""

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"more than {minutes:g} minutes of processor time")

    task.shared = task.charged = 0.0
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, 60 * minutes)
    start, noise = clock(), io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise), Growth() as growth:
            warnings.simplefilter("ignore")  # of the peers' libraries
            found = METHODS[name](task)
    except (Exception, TimeoutError) as error:
        reason = re.sub(r" \(/[^)]*\)", "", str(error).partition("\n")[0])  # without paths of this machine
        return {"skipped": reason if isinstance(error, UnseenError) else f"{type(error).__name__}: {reason}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    scores = found if isinstance(found, dict) else {"": found}
    if bad := sum(int((~np.isfinite(score)).sum()) for score in scores.values()):
        return {"skipped": f"{bad} scores are not finite"}
    return {"seconds": clock() - start - task.shared + task.charged, "mebibytes": growth.mebibytes, "scores": scores}


def kept(path: Path | None, make: Callable[[], Row]) -> Row:
    """A row from its file, or made and written there."""
    if path is not None and path.exists():
        with np.load(path) as stored:
            about: Row = json.loads(str(stored["about"]))
            return about | ({} if "skipped" in about else {"scores": {name[1:]: stored[name] for name in stored if name != "about"}})
    row = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {name: value for name, value in row.items() if name != "scores"}
        temporary = path.with_suffix(".part.npz")
        np.savez_compressed(
            temporary, about=np.array(json.dumps(about)), **{f"_{name}": score for name, score in row.get("scores", {}).items()}
        )
        temporary.replace(path)
    return row


def plain_seconds(task: Task, work: Path | None) -> float:
    """Processor seconds of a plain run, the median of three; the first warms up."""
    path = work / "plain.json" if work else None
    if path is not None and path.exists():
        return float(json.loads(path.read_text()))
    task.plain_seconds()
    seconds = statistics.median(task.plain_seconds() for _ in range(3))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(seconds))
    return seconds


def run_task(name: str, options: argparse.Namespace, until: float) -> None:
    """All methods of a task, judged; writes fidelity-TASK.json. Stops where the time is over, before the next method."""
    table, facts = read_truth(str(options.truth / f"{name}.parquet"))
    try:
        task = load_task(name, options.data_dir)
    except UnseenError as error:
        return print(f"{name}: skipped, {error}", flush=True)
    assert table["given_label"].to_list() == task.examples.labels.tolist(), f"{name}: the truth is of other labels"
    work = options.work / name if options.work else None
    plain, lines = plain_seconds(task, work), []
    for method in chosen(options):
        file = work / f"{re.sub(r'[^a-z0-9]+', '-', method.lower())}.npz" if work else None
        if time.monotonic() > until and not (file and file.exists()):
            return print(f"{name}: the time is over; the same command goes on.", flush=True)
        row = kept(file, partial(attempt, task, method, options.minutes))
        print(f"{name}, {method}: {row.get('skipped') or format(row['seconds'] / plain, '.2f') + ' plain runs'}", flush=True)
        lines += judge(method, row, plain, table, facts)
    about = {"task": name, "torch": torch.__version__, "recipe": TASKS[name][0], "plain_seconds": plain}
    about |= {"examples": len(table), "wrong": int((table["given_label"] != table["true_label"]).sum()), "truth": facts, "rows": lines}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"fidelity-{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def judge(method: str, row: Row, plain: float, table: Any, facts: dict[str, Any]) -> list[Row]:
    """A line per score of a method."""
    if "skipped" in row:
        return [{"method": method, "skipped": row["skipped"]}]
    lines, scores = [], dict(row["scores"])
    ends = [scores.pop(end, None) for end in ("low", "high")]
    for score, values in scores.items():
        stated = method in STATED or score in ("label_score", "wrong_probability")
        line = {"method": method, "score": score, "cost": row["seconds"] / plain, "seconds": row["seconds"], "mebibytes": row["mebibytes"]}
        interval = ends if score == "memorization" and ends[0] is not None else None
        lines.append(line | evaluate_scores(values, table, facts, probability=stated, interval=interval))
    return lines


def chosen(options: argparse.Namespace) -> list[str]:
    parts = options.only or (QUICK if options.quick else None)
    return [name for name in METHODS if parts is None or any(part.lower() in name.lower() for part in parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, nargs="+", default=["digits"])
    parser.add_argument("--all", action="store_true", help="every task whose data is here")
    parser.add_argument("--only", nargs="+", metavar="PART", help="methods whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="a few cheap methods")
    parser.add_argument("--data-dir", help="where the data sets lie; else UNSEEN_DATA")
    parser.add_argument("--truth", type=Path, default=Path("docs/results/truth"), help="folder of the truths")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time that a method may take before it is skipped")
    parser.add_argument(
        "--gib", type=float, default=20, help="of address space that the process may take; a method that needs more is skipped"
    )
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="minutes after which no further method is begun")
    parser.add_argument("--work", type=Path, help="folder where finished methods are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder for fidelity-TASK.json")
    parser.add_argument("--page", type=Path, help="the page; default: docs/how-right.md with --all, else none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (int(options.gib * 2**30),) * 2)
    for module in MODULES:
        with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(module)
    until = time.monotonic() + 60 * options.stop_after
    for name in TASKS if options.all else options.task:
        if (options.truth / f"{name}.parquet").exists():
            run_task(name, options, until)
        else:
            print(f"{name}: skipped, there is no {options.truth / name}.parquet (benchmarks/truths.py makes it)", flush=True)
    page = options.page or (Path("docs/how-right.md") if options.all else None)
    if page is not None:
        write_page(options.out, page, list(TASKS))


if __name__ == "__main__":
    main()
