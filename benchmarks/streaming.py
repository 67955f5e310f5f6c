"""Is the cost of an example the same for ten thousand examples and for ten million, and is memory? Synthetic data, nothing of it on disk.

python benchmarks/streaming.py --out docs/results    (10^4 to 10^7 examples, each size in a process of its own; about 6 minutes of one core)
python benchmarks/streaming.py --estimator head      (the ridge head on the same features)

An example is a function of its index: 16 hashed features, a label by the nearest of 4 hashed centres, 5% of the labels changed. Each size
is one `unseen.score` of `unseen.Shards`, tables and all; timed after one of 1,000 examples, which takes what starting takes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEATURES, CLASSES, SHARD = 16, 4, 100_000


def make(count: int, number: int) -> tuple:
    import torch

    from unseen.hashing import uniform

    first = number * SHARD
    index = torch.arange(first, min(count, first + SHARD))
    x = uniform(index[:, None] * FEATURES + torch.arange(FEATURES), "x").float()
    centres = uniform(torch.arange(CLASSES * FEATURES).view(CLASSES, FEATURES), "centre").float()
    return x, torch.cdist(x, centres).argmin(1)


def one(count: int, estimator: str) -> dict:
    """Score so many examples; the peak is that of this process."""
    from functools import partial

    import torch

    import unseen

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # what starting takes is no cost of examples
        unseen.score(unseen.Shards(1, partial(make, 1000)), out=folder, hidden=(64,), epochs=1)
    start, began = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        shards = unseen.Shards(-(-count // SHARD), partial(make, count))
        options = {"random_labels": 0.05, "label_noise": "other", "null_fraction": 0.02, "estimator": estimator}
        if estimator != "head":
            options |= {"hidden": (64,), "epochs": 2, "lr": 0.5, "batch_size": 1024}
        run = unseen.score(shards, out=folder, **options)
        facts = run.summary
        files = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    return {
        "examples": count,
        "seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - began,
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "disk_bytes_per_example": files / count,
        **{name: facts[name] for name in ("accuracy_unseen_true", "auroc", "average_precision", "training_seconds", "measuring_seconds")},
    }


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (cost, memory) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    counts = [row["examples"] for row in rows]
    cost.plot(counts, [1e6 * row["seconds"] / row["examples"] for row in rows], "o-")
    cost.set(xscale="log", xlabel="examples", ylabel="microseconds per example", ylim=(0, None), title="Cost, all stages, one core")
    memory.plot(counts, [row["peak_rss_gib"] for row in rows], "o-")
    memory.axhline(2, color="grey", linestyle=":")
    memory.set(xscale="log", xlabel="examples", ylabel="GiB", ylim=(0, 2.2), title="Peak memory of the process")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int)
    parser.add_argument("--estimator", default="turnover", choices=["turnover", "head"])
    parser.add_argument("--counts", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.estimator)))
        return
    rows = []
    for count in given.counts:
        command = [sys.executable, __file__, "--one", str(count), "--estimator", given.estimator]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(found.stdout))
        print(json.dumps(rows[-1]), flush=True)
    if given.out:
        name = "streaming" if given.estimator == "turnover" else f"streaming-{given.estimator}"
        (given.out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        draw(rows, given.out / f"{name}.png")


if __name__ == "__main__":
    main()
