"""How fast data are read, side by side with another version of this library.

python benchmarks/loading.py OTHER/src --data-dir DATA --out loading.json    (five minutes of one core)

MNIST in its own format, a CSV of a million rows and 12 features, a folder of 10,000 pictures, a table of 10,000 columns: processor
seconds of one ``load`` in a fresh process, interleaved, medians of seven; and the ratio of this version to the other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

HERE = Path(__file__).parents[1] / "src"
ROWS, COLUMNS, PICTURES = 10**6, 10_000, 10_000
LOAD = """
import sys, time, resource
import unseen, torch, polars, PIL.Image
torch.set_num_threads(1)
from unseen.data import load
start = time.process_time()
load(sys.argv[1], data_dir=sys.argv[2])
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def write(folder: Path) -> dict[str, str]:
    """The inputs, by name."""
    random = np.random.default_rng(0)
    numbers = {f"x{column}": random.normal(size=ROWS).round(4) for column in range(8)}
    words = {"k": random.integers(0, 50, ROWS), "c": np.array(["red", "blue", "green"])[np.arange(ROWS) % 3]}
    pl.DataFrame({**numbers, **words, "label": random.choice(["ant", "bee", "cat"], ROWS)}).write_csv(folder / "long.csv")
    wide = {f"x{column}": random.normal(size=300).round(4) for column in range(COLUMNS)}
    pl.DataFrame({**wide, "label": random.choice(["ant", "bee", "cat"], 300)}).write_csv(folder / "wide.csv")
    for number in range(PICTURES):
        place = folder / "pictures" / str(number % 10) / f"{number:05}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8)).save(place)
    return {
        "a million rows": str(folder / "long.csv"),
        "10,000 columns": str(folder / "wide.csv"),
        "10,000 pictures": str(folder / "pictures"),
    }


def load(source: Path, data: str, data_dir: str) -> tuple[float, float]:
    """Processor seconds and gibibytes of one load in a process of its own."""
    path = {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PATH": ""}
    answer = subprocess.run([sys.executable, "-c", LOAD, data, data_dir], env=path, capture_output=True, text=True, check=True)
    seconds, gibibytes = map(float, answer.stdout.split())
    return seconds, gibibytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        inputs = write(Path(folder)) | ({"MNIST": "mnist"} if options.data_dir else {})
        for name, data in inputs.items():
            pairs = [(load(HERE, data, options.data_dir), load(options.other, data, options.data_dir)) for _ in range(options.rounds)]
            here, there = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
            memory = statistics.median(pair[0][1] for pair in pairs)
            results[name] = {"seconds": here, "other_seconds": there, "ratio": here / there, "gibibytes": memory}
            print(f"{name}: {here:.2f} s, other {there:.2f} s, ratio {here / there:.2f}, {memory:.2f} GiB")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
