"""How large, how fast and how fluid the page of a run is, on synthetic runs; in a real browser.

`python benchmarks/report.py --examples 100000` measures the page in chromium (medians of ``--rounds``);
`python benchmarks/report.py --examples 1000000` measures what a million examples cost. ``--run DIR`` takes a run that is there.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from unseen.config import Config
from unseen.runs.run import Run, open_run

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
NEXT_FRAME = (
    "() => new Promise(done => {{ const t = performance.now(); {}; "
    "requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))) }})"
)


LASSO = (
    "const c = by('canvas'), r = c.getBoundingClientRect(); c.setPointerCapture = () => 0; "
    "for (const [type, x, y] of [['down', .2, .2], ['move', .{k}, .9], ['move', .9, .9], ['move', .9, .1], ['up', .9, .1]]) "
    "c.dispatchEvent(new PointerEvent('pointer' + type, {{clientX: r.left + x * r.width, clientY: r.top + y * r.height}}))"
)


def synthetic(path: Path, examples: int, epochs: int, classes: int) -> Run:
    """A run folder whose tables have the shape and the long tail of a real one."""
    random, run = np.random.default_rng(0), Run(path)
    index, labels = np.arange(examples), random.integers(classes, size=examples)
    wrong = random.random(examples) < 0.05
    given = np.where(wrong, random.integers(classes, size=examples), labels)
    difficulty = random.exponential(size=examples) + 4 * wrong
    seen, unseen = ((difficulty * random.gamma(2, scale, examples)).astype(np.float32) for scale in (0.1, 0.5))
    probabilities = (
        random.dirichlet(np.ones(classes) * 0.3, size=examples).astype(np.float32) if classes <= 100 else np.zeros((examples, classes))
    )
    said = np.where(random.random(examples) < np.exp(-unseen), given, labels)
    probabilities[index, said] += 2
    probabilities /= probabilities.sum(1, keepdims=True)
    ids = [f"train/{number}" for number in index]
    known = {"index": index, "id": ids, "given_label": given, "true_label": labels}
    confidence = np.exp(-unseen)
    values = {"loss_seen": seen, "loss_unseen": unseen, "loss_full": (seen + unseen) / 2, "memorization": unseen - seen}
    values |= {
        "confidence": confidence,
        "variability": confidence * (1 - confidence) * random.random(examples),
        "correctness": np.round(confidence, 1),
    }
    values |= {
        "label_score": probabilities[index, given],
        "unseen_loss_mean": unseen,
        "full_loss_mean": (seen + unseen) / 2,
        "q_value": confidence,
    }
    predicted = {"predicted_seen": given, "predicted_unseen": said, "predicted_full": given, "predicted_label": said}
    columns = {name: value.astype(np.float32) for name, value in values.items()}
    run.write_json("config.json", Config.of(data="synthetic", epochs=epochs).resolved().flat())
    known |= {"trained": np.ones(examples, bool), "is_label_issue": said != given}
    run.write_table("scores", pl.DataFrame(known | columns | predicted))
    run.write_table("examples", pl.DataFrame({"index": index, "id": ids, "split": ["train"] * examples, "given_label": given}))
    run.write_table("unseen_probabilities", pl.DataFrame({"index": index} | {f"p_{c}": probabilities[:, c] for c in range(classes)}))
    run.write_table("history", pl.concat(_epoch(epoch, epochs, index, seen, unseen) for epoch in range(1, epochs + 1)))
    facts = {"estimator": "turnover", "examples": examples, "trained": examples, "classes": [f"class {c}" for c in range(classes)]}
    facts |= {"accuracy_seen": 0.9, "accuracy_unseen": 0.8, "accuracy_full": 0.9}
    facts |= {"wrong_labels": int(wrong.sum()), "auroc": 0.9, "average_precision": 0.5}
    facts |= {"null": "test examples", "null_examples": 0, "null_gap_std": None, "discoveries_q10": None, "seed_correlation": None}
    run.write_json("summary.json", facts)
    return run


def _epoch(epoch: int, epochs: int, index: np.ndarray, seen: np.ndarray, unseen: np.ndarray) -> pl.DataFrame:
    rest = np.float32(2 * (1 - epoch / epochs))
    columns = {
        "loss_seen": seen + rest,
        "loss_unseen": unseen + rest,
        "loss_full": unseen,
        "margin_seen": seen,
        "margin_unseen": seen,
        "margin_full": seen,
    }
    columns |= {
        "correct_seen": (seen < 1).astype(np.float32),
        "correct_unseen": (unseen < 1).astype(np.float32),
        "correct_full": (seen < 1).astype(np.float32),
    }
    columns |= {f"error_norm_{side}": seen for side in ("seen", "unseen", "full")}
    return pl.DataFrame({"seed": np.zeros(len(index), np.int64), "epoch": np.full(len(index), epoch, np.int32), "index": index} | columns)


def write(run: Path, out: Path) -> dict[str, float]:
    """Seconds, peak memory and size of one ``unseen report`` in a process of its own."""
    code = f"from unseen.page import report; from unseen.runs import open_run; report(open_run({str(run)!r}), out={str(out)!r})"
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu,
        "peak_gib": after.ru_maxrss / 2**20,
        "megabytes": out.stat().st_size / 1e6,
    }


def browse(page: Path, rounds: int) -> dict[str, float]:
    """Milliseconds from opening the file to a usable page, and from a filter or a selection to the next frame with its result; medians."""
    from playwright.sync_api import sync_playwright

    actions = {
        "filter_class_ms": "const s = by('class'); s.selectedIndex = 1 + {k} % 8; s.dispatchEvent(new Event('change'))",
        "filter_score_ms": "const s = by('low'); s.value = {k} / 10; s.dispatchEvent(new Event('input'))",
        "clear_ms": "by('clear').click()",
        "list_ms": "const all = document.querySelectorAll('#lists button'); all[{k} % (all.length - 2)].click()",
        "sort_ms": "const s = by('sort'); s.selectedIndex = 1 + {k} % 8; s.dispatchEvent(new Event('change'))",
        "chart_ms": "document.querySelectorAll('#charts button')[[1, 3, 4, 5, 6][{k} - 1]].click()",
        "scatter_ms": "document.querySelector('[data-chart=losses]').click()",
        "lasso_ms": LASSO,
        "decide_ms": "document.dispatchEvent(new KeyboardEvent('keydown', {{key: 'kdrsk'[{k} - 1], bubbles: true}}))",
        "undo_ms": "by('undo').click()",
    }
    times: dict[str, list[float]] = {"load_ms": []} | {name: [] for name in actions}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        for _ in range(rounds):
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-ready]", timeout=120_000)
            times["load_ms"].append(tab.evaluate("performance.mark('seen').startTime"))
            for k in range(1, 6):
                for name, action in actions.items():
                    times[name].append(tab.evaluate(NEXT_FRAME.format(action.format(k=k))))
            tab.close()
        browser.close()
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(options.run) if options.run else synthetic(Path(folder) / "run", options.examples, options.epochs, options.classes)
        page = Path(folder) / "report.html"
        found = {"examples": len(run.scores), "epochs": run.config.training.epochs} | write(run.path, page) | browse(page, options.rounds)
    for name, value in found.items():
        print(f"{name:18} {value:10,.4g}" if isinstance(value, float) else f"{name:18} {value:10,}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
