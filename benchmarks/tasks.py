"""The tasks of the fidelity benchmark, and the plain training runs that its competitors read.

T1: the first 5,000 MNIST training images, 500 labels changed to another class, MLP 784-512-10, SGD 0.05, momentum 0.9, batch 64,
30 epochs. fashion: the same of Fashion-MNIST. cifar-vgg11: of CIFAR-10, VGG-11 at a quarter of its widths, 20 epochs of SGD at 0.01 that
falls to 0, weight decay. cifar-resnet: the same images, ResNet-10 with group norms at a quarter of its widths, SGD at 0.05. sst2: 5,000
sentences as hashed words and pairs of words, 500 wrong, the linear network for texts. table: scikit-learn's breast cancer table, 569 rows
of 30 numbers, 57 wrong, an MLP with 64 units. digits: seconds, for CI.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unseen
from unseen.config import Config
from unseen.data.examples import Examples
from unseen.data.noise import random_labels
from unseen.errors import UnseenError
from unseen.models.paper import build
from unseen.training.loop import channels_last, train
from unseen.training.measuring import statistics
from unseen.training.networks import Ordinary

Floats = NDArray[np.float64]
clock = time.process_time

SMALL = {"lr": 0.05, "momentum": 0.9, "batch_size": 64, "precision": "32", "schedule": "constant"}
VGG = {"model": "vgg11", "width": 0.25, "epochs": 20, "lr": 0.01, "schedule": "cosine", "weight_decay": 5e-4}
TASKS: dict[str, tuple[dict[str, Any], int]] = {  # of Config, and how many labels are wrong
    "T1": ({"data": "mnist", "limit": 5000, "hidden": (512,), "epochs": 30} | SMALL, 500),
    "fashion": ({"data": "fashion-mnist", "limit": 5000, "hidden": (512,), "epochs": 30} | SMALL, 500),
    "cifar-vgg11": ({"data": "cifar10", "limit": 5000} | SMALL | VGG, 500),
    "cifar-resnet": ({"data": "cifar10", "limit": 5000} | SMALL | VGG | {"model": "resnet10", "lr": 0.05}, 500),
    "sst2": ({"data": "sst2", "limit": 5000} | SMALL | {"model": "text", "epochs": 10, "lr": 0.2, "weight_decay": 1e-3}, 500),
    "table": ({"data": "breast-cancer", "hidden": (64,), "epochs": 30} | SMALL, 57),
    "digits": ({"data": "digits", "hidden": (128,), "epochs": 10} | SMALL, 144),
}


@dataclass(frozen=True)
class Trained:
    """A plain run: weights after each epoch, ``measure.statistics`` of all examples (epochs, n), and the seconds of both."""

    states: list[dict[str, Tensor]]
    measured: dict[str, Floats]
    train_seconds: list[float]
    measure_seconds: list[float]


@dataclass
class Task:
    """Training examples, some with wrong labels, and a recipe. ``seed`` is of the weights, the order, and the method's own chance.

    ``shared`` and ``charged`` count seconds: spent on runs that are kept for other methods too, and what a method owes for them.
    """

    name: str
    examples: Examples
    config: Config
    seed: int = 0
    shared: float = 0.0
    charged: float = 0.0
    kept: dict[Any, Any] = field(default_factory=dict)

    def build(self, seed: int | None = None) -> nn.Module:
        """A fresh plain network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed if seed is None else seed)
            shape, classes, c = self.examples.shape, len(self.examples.classes), self.config.network
            return build(c.model, shape, classes, c.hidden, c.width, c.output_bias)

    def keep(self, key: Any, make: Callable[[], Any]) -> tuple[Any, float]:
        """What ``make`` gives, made once, and the seconds it took; the caller charges what it owes of them."""
        if key not in self.kept:
            start = clock()
            value = make()
            self.kept[key] = value, clock() - start
            self.shared += self.kept[key][1]
        found: tuple[Any, float] = self.kept[key]
        return found

    def run(self, seed: int, epochs: int) -> Trained:
        """The first ``epochs`` of a plain run, measured after each."""
        trained: Trained = self.keep((seed, epochs), lambda: self._train(seed, epochs))[0]
        return trained

    def history(self, quantity: str, epochs: Sequence[int] | None = None, seed: int | None = None) -> Floats:
        """A quantity of ``measure.statistics`` after these epochs, from 1: (epochs, n). Another seed: of a run that ends there."""
        epochs = range(1, self.config.training.epochs + 1) if epochs is None else epochs
        trained = self.run(self.seed, self.config.training.epochs) if seed is None else self.run(seed, max(epochs))
        rows = [epoch - 1 for epoch in epochs]
        self.charged += sum(trained.train_seconds[: max(epochs)]) + sum(trained.measure_seconds[row] for row in rows)
        return trained.measured[quantity][rows]

    def networks(self, epochs: Sequence[int], seed: int | None = None) -> list[nn.Module]:
        """The networks after these epochs."""
        trained = self.run(self.seed, self.config.training.epochs) if seed is None else self.run(seed, max(epochs))
        self.charged += sum(trained.train_seconds[: max(epochs)])
        nets = [self.build().eval() for _ in epochs]
        for net, epoch in zip(nets, epochs, strict=True):
            net.load_state_dict(trained.states[epoch - 1])
        return nets

    def _train(self, seed: int, epochs: int) -> Trained:
        net, states, measured, seconds = Ordinary(self.build(seed)), [], [], ([], [])
        start = clock()
        for epoch in islice(train(net, self.examples, self.config.training, seed), epochs):
            states.append({name.removeprefix("net.net."): v for name, v in epoch.state.items() if name.startswith("net.")})
            seconds[0].append(clock() - start)
            start = clock()
            measured.append(statistics(logits_of(net.net, self.examples), self.examples.labels))
            seconds[1].append(clock() - start)
            start = clock()
        table = {name: torch.stack([row[name] for row in measured]).double().numpy() for name in measured[0]}
        return Trained(states, table, *seconds)

    def plain_seconds(self) -> float:
        """Seconds of a run without evaluation."""
        start = clock()
        for _ in train(Ordinary(self.build()), self.examples, self.config.training, self.seed):
            pass
        return clock() - start

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Standardised inputs and given labels of all examples."""
        x, labels, _ = self.examples.batch(torch.arange(len(self.examples)))
        return x, labels

    def loader(self, batch_size: int = 250) -> "DataLoader[tuple[Tensor, ...]]":
        """The same in batches, in order."""
        return DataLoader(TensorDataset(*self.tensors()), batch_size=batch_size)

    def spread(self, count: int) -> list[int]:
        """So many epochs, evenly spaced, the last among them."""
        last = self.config.training.epochs
        return sorted({round(last * (k + 1) / count) for k in range(min(count, last))})


def load_task(name: str, data_dir: str | None = None, seed: int = 0) -> Task:
    """One of TASKS. Raises UnseenError where its data is not here."""
    values, wrong = TASKS[name]
    config = Config.of(**values).resolved()
    examples = random_labels(_examples(config, data_dir), wrong, seed=0, avoid_true=True)
    return Task(name, examples, config, seed)


def _examples(config: Config, data_dir: str | None) -> Examples:
    """The training examples, with their true labels."""
    if config.data.data == "breast-cancer":
        from sklearn.datasets import load_breast_cancer

        table = load_breast_cancer()
        return unseen.load((table.data.astype(np.float32), table.target), test_fraction=1e-9).train
    if config.data.data == "sst2":
        return _sentences(Path(data_dir or os.environ.get("UNSEEN_DATA", ".")) / "sst2" / "train.tsv", config.data.limit or 0)
    return unseen.load(config.data.data, data_dir=data_dir, limit=config.data.limit).train


def _sentences(path: Path, count: int) -> Examples:
    """The first ``count`` lines, a label and a sentence each."""
    import polars as pl

    if not path.is_file():
        raise UnseenError(f"{path} is not there: lines of a label, a tab and a sentence. Give --data-dir, or leave the task sst2 out.")
    rows = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "sst2.csv"
        pl.DataFrame({"text": [row[1] for row in rows], "label": [int(row[0]) for row in rows]}).write_csv(table)
        return unseen.load(table, text="text", test_fraction=1e-9).train


@torch.no_grad()
def logits_of(net: nn.Module, examples: Examples) -> Tensor:
    net.eval()
    result = torch.cat([net(channels_last(examples.batch(part)[0])) for part in torch.arange(len(examples)).split(500)])
    net.train()
    return result
