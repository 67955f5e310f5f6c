"""Seconds per network: members trained at once against one network after the other, interleaved in one process.

    python benchmarks/members.py --data mnist --data-dir DIR

The set-up is the truth's on 5,000 images of MNIST: 784-512-10, SGD 0.05, momentum 0.9, batch 64. The baseline is
``unseen.train`` on a plain network, at each precision; the general path of the members (``torch.func``) is measured beside the fast one.
Prints JSON: medians over the rounds of the seconds that 30 epochs of one network take, and their ratios.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import tyro

from unseen import Config, Examples, load
from unseen.judge.retraining import CHUNK
from unseen.training.loop import train
from unseen.training.members import membership, new_members, train_members
from unseen.training.networks import Ordinary
from unseen.training.processes import make_fabric


def second_epoch(epochs: Iterator[Any]) -> float:
    """Seconds of the second of two epochs."""
    next(epochs)
    start = time.perf_counter()
    next(epochs)
    return time.perf_counter() - start


def one(examples: Examples, config: Config) -> float:
    net = Ordinary(new_members(config.network, examples, [0]).shell[0])
    return 30 * second_epoch(train(net, examples, config, 0, make_fabric(1, config.training.precision)))


def many(examples: Examples, config: Config, members: int, **options: Any) -> float:
    member = membership(examples.index, 0, members, 0.7)
    networks = new_members(config.network, examples, range(members))
    return 30 * second_epoch(train_members(networks, examples, config.training, member, 0, **options)) / members


def main(data: str = "digits", data_dir: str | None = None, members: int = CHUNK, rounds: int = 5, threads: int | None = None) -> None:
    """Measure and print. threads: of PyTorch; one is steadier on a machine that others use too."""
    torch.set_num_threads(threads or torch.get_num_threads())
    examples = load(data, data_dir=data_dir, limit=5000).train
    config = Config.of(hidden=(512,), lr=0.05, momentum=0.9, batch_size=64, epochs=2).resolved()
    in_32, in_bf16 = config.change(precision="32"), config.change(precision="bf16")
    cases: dict[str, Callable[[], float]] = {
        "one_32": lambda: one(examples, in_32),
        "one_bf16": lambda: one(examples, in_bf16),
        "members_32": lambda: many(examples, in_32, members),
        "members_bf16": lambda: many(examples, in_bf16, members),
        "members_bf16_general": lambda: many(examples, in_bf16, members, wide=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            seconds[name].append(case())
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    ratios = {
        name: statistics.median([x / y for x, y in zip(seconds[name], seconds["members_bf16"], strict=True)])
        for name in ("one_32", "one_bf16", "members_bf16_general")
    }
    threads_used = torch.get_num_threads()
    print(
        json.dumps(
            {"data": examples.name, "members": members, "threads": threads_used, "seconds": medians, "ratio_to_members_bf16": ratios},
            indent=1,
        )
    )


if __name__ == "__main__":
    tyro.cli(main)
