"""What a second process gains: seconds of one process against two, one thread each, interleaved.

    python benchmarks/scaling.py --out docs/results

Each job runs whole, with the start of its processes; beside it the same job at a third of its size: the difference is the work alone.
Efficiency: the work's seconds of one process over twice those of two. 1 = a second process halves the time.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import unseen
from unseen.attribution.job import influence as run_influence
from unseen.judge.job import truth as write_truth
from unseen.runs.run import Run

Job = Callable[[Path, int, int], object]
IMAGES = {"data_dir": None, "test_limit": 1000, "random_labels": 0.1, "precision": "32"}


def score(folder: Path, size: int, devices: int, **more: object) -> Run:
    return unseen.score("mnist", out=folder, devices=devices, limit=6000, batch_size=512, epochs=size, **(IMAGES | more))  # type: ignore[arg-type]


def jobs(trained: Run) -> dict[str, Job]:
    """Name to job(folder, size, devices)."""

    def influence(folder: Path, size: int, devices: int) -> None:
        shutil.copytree(trained.path, folder)
        run_influence(Run(folder), f"test[:{100 * size}]", devices=devices, precision="32")

    def truth(folder: Path, size: int, devices: int) -> None:
        shutil.copytree(trained.path, folder)
        write_truth(Run(folder), members=8 * size, devices=devices)

    return {
        "score, MLP 784-4096-10": lambda *a: score(*a),
        "score, 16 members of 128": lambda *a: score(*a, estimator="members", members=16, hidden=(512,)),
        "truth, 784-512-10, 2 epochs": truth,
        "influence, 784-512-10": influence,
    }


def seconds(job: Job, size: int, devices: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        job(Path(folder) / "run", size, devices)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=2, help="of the smaller job: epochs, times 8 members, times 100 queries")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trained = score(Path(folder) / "trained", 2, 1, hidden=(512,))
        for name, job in jobs(trained).items():
            work: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(options.rounds):
                for devices, found in work.items():
                    small, large = (seconds(job, size, devices) for size in (options.size, 3 * options.size))
                    found.append(large - small)
            one, two = (statistics.median(found) for found in work.values())
            rows.append({"job": name, "one_process_seconds": one, "two_processes_seconds": two, "efficiency": one / (2 * two)})
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        about = f"Seconds of the work alone, medians of {options.rounds} rounds, a thread per process, {os.cpu_count()} cores."
        text = ["| job | one process, s | two, s | efficiency |", "|---|---|---|---|"]
        text += [
            f"| {r['job']} | {r['one_process_seconds']:.2f} | {r['two_processes_seconds']:.2f} | {r['efficiency']:.2f} |" for r in rows
        ]
        (options.out / "scaling.md").write_text("\n".join([about, "", *text]) + "\n")
        (options.out / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
