"""What a run costs: seconds by what they were spent on, and the seconds of a plain run to divide them by."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from unseen.config import TrainingOptions
from unseen.data import Examples
from unseen.training.loop import train
from unseen.training.networks import Ordinary

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LEAST, MOST = 3, 20  # steps of a plain run that are timed; a fiftieth of a run in between


def clock(device: torch.device) -> float:
    """Processor seconds of this process, which bear other jobs beside it; on a GPU wall-clock seconds, its queue empty."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class Laps:
    """Seconds by what they were spent on: ``lap(name)`` books those since the lap before."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start = clock(self.device)

    def lap(self, name: str) -> None:
        """Book the seconds since the last lap."""
        now = clock(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.start
        self.start = now


def plain_seconds(net: nn.Module, examples: Examples, config: TrainingOptions, seed: int, fabric: "Fabric") -> float:
    """Seconds that a training run of this network would take without masks and measurements, from a fiftieth of its steps.

    As many steps are taken before, to warm up.

    Args:
        net: without masks; it is trained a little.
        examples: to train on.
        config: the recipe, whose run is timed.
        seed: of the order of the examples.
        fabric: device, precision and processes.
    """
    steps = -(-len(examples) // config.batch_size)
    timed = min(max(LEAST, steps * config.epochs // 50), MOST, steps)
    few = examples.select(torch.arange(len(examples)) < timed * config.batch_size)
    epochs = train(Ordinary(net), few, replace(config, epochs=2), seed, fabric)
    next(epochs)
    start, wall = clock(fabric.device), time.perf_counter()
    next(epochs)
    spent = clock(fabric.device) - start or time.perf_counter() - wall  # a coarse clock may not have moved
    return spent * steps * config.epochs / timed


def machine() -> dict[str, str]:
    """What runs are trained on here: the graphics card, or else the processor, and PyTorch's version."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"hardware": card or platform.machine(), "torch": torch.__version__}


def cost_facts(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds of training, of measuring and of a plain run (see ``plain_seconds``), and cost, all seeds' in plain runs."""
    total = {name: sum(part[name] for part in seconds) for name in ("training_seconds", "measuring_seconds")}
    plain = sum(part["plain_seconds"] for part in seconds) / len(seconds)
    return total | {"plain_seconds": plain, "cost": sum(total.values()) / plain}
