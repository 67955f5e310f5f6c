"""The truths that the benchmarks judge scores by, as data: members retrained on random subsets, with their seeds and their reliability.

    python benchmarks/truths.py cifar-vgg11 --data-dir DATA --members 400 --chunk 50 --out docs/results/truth   # a GPU, minutes

Each is a table, a row per training example, and a JSON file that says how it was made: ``--losses FILE`` makes both from losses that were
computed before (safetensors: losses (members, examples), member (members, training examples)). ``--work`` keeps finished chunks.

cifar-vgg11: the first 5,000 training images of CIFAR-10, 500 labels changed to another class, VGG-11 at a quarter of its widths, 20 epochs
of SGD at .01 falling to 0 by a cosine, momentum .9, weight decay 5e-4, batch 64, bf16.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from unseen.judge.retraining import retrain, truth_table
from unseen.runs import Run
from unseen.scoring import prepare_whole, settings_of
from unseen.training import make_fabric

NOISE = {"random_labels": 500, "label_noise": "other"}
TRUTHS: dict[str, dict[str, Any]] = {
    "cifar-vgg11": {"data": "cifar10", "model": "vgg11", "width": 0.25, "limit": 5000, "test_limit": 1000, "epochs": 20, "lr": 0.01}
    | {"momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine", "batch_size": 64, "precision": "bf16", "estimator": "plain"}
    | NOISE
}
FRACTION, SEED = 0.7, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TRUTHS)
    parser.add_argument("--data-dir")
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--hardware", default=torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU")
    parser.add_argument("--out", type=Path, default=Path("docs/results/truth"))
    options = parser.parse_args()
    recipe = dict(TRUTHS[options.name])
    data, model = recipe.pop("data"), recipe.pop("model")
    config, examples = prepare_whole(data, model, options.data_dir, settings_of(data, model, recipe))
    if options.losses:
        found = load_file(options.losses)
        losses, member = found["losses"].float(), found["member"].bool()
    else:
        run = Run(options.work) if options.work else None
        fabric = make_fabric(1, config.training.precision)
        losses, member = retrain(examples, config, options.members, FRACTION, seed=SEED, run=run, fabric=fabric, chunk=options.chunk)
    table, facts = truth_table(examples, losses, member)
    facts |= {"seed": SEED, "chunk": options.chunk, "hardware": options.hardware, "config": config.flat()}
    options.out.mkdir(parents=True, exist_ok=True)
    Run(options.out).write_table(options.name, table)
    (options.out / f"{options.name}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in facts.items() if name.startswith(("members", "reliability"))}, indent=1))


if __name__ == "__main__":
    main()
