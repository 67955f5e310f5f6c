"""The truths that the benchmarks judge scores by, as data: members retrained on random subsets, with their seeds and their reliability.

    python benchmarks/truths.py T1 --data-dir DATA --work work/truths   # 400 members of the task's recipe

Each is a table, a row per training example, and a JSON file that says how it was made: ``--losses FILE`` makes both from losses that were
computed before (safetensors: losses (members, examples), member (members, training examples)). ``--work`` keeps finished chunks, so that
a stopped command goes on. The tasks are in tasks.py; members are trained in bf16 (cifar-resnet: --precision 32, which is three times as
fast on a CPU). cifar-vgg11 was made on a GPU, with chunks of 50.
"""

import argparse
import json
import platform
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file
from tasks import TASKS, load_task

from unseen.judge.retraining import retrain, truth_table
from unseen.runs import Run
from unseen.training import make_fabric

FRACTION, SEED = 0.7, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--data-dir")
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--precision", choices=["bf16", "32"], default="bf16")
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--hardware", default=torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU")
    parser.add_argument("--out", type=Path, default=Path("docs/results/truth"))
    options = parser.parse_args()
    task = load_task(options.name, options.data_dir)
    config = task.config.change(precision=options.precision)
    if options.losses:
        found = load_file(options.losses)
        losses, member = found["losses"].float(), found["member"].bool()
    else:
        run = None
        if options.work:
            (options.work / options.name).mkdir(parents=True, exist_ok=True)
            run = Run(options.work / options.name)
        fabric = make_fabric(1, config.training.precision)
        losses, member = retrain(task.examples, config, options.members, FRACTION, seed=SEED, run=run, fabric=fabric, chunk=options.chunk)
    table, facts = truth_table(task.examples, losses, member)
    facts |= {"seed": SEED, "chunk": options.chunk, "hardware": options.hardware, "config": config.flat()}
    options.out.mkdir(parents=True, exist_ok=True)
    Run(options.out).write_table(options.name, table.with_columns(pl.col(pl.Float64).cast(pl.Float32)))
    (options.out / f"{options.name}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in facts.items() if name.startswith(("members", "reliability"))}, indent=1))


if __name__ == "__main__":
    main()
