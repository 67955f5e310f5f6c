"""Convolutions as matrix products beside PyTorch's own, in bfloat16 on a CPU: layer by layer, and a whole step of VGG-11.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py --out docs/results/convolutions.json

Every round times each way once, in turn, in one process; medians. A layer: forward and backward pass at batch 64, milliseconds, and the
ratio of ours to PyTorch's. Ours is taken where the file ``unseen/training/convolutions.py`` says so, by shape and processor.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import BaseTorchFunctionMode

from unseen.models.paper import vgg11
from unseen.training import convolutions
from unseen.training.convolutions import FastLayers, convolution, suits

LAYERS = ((64, 128, 16), (128, 256, 8), (256, 256, 8), (128, 128, 4), (256, 512, 4), (512, 512, 4), (128, 128, 2), (512, 512, 2))
BATCH = 64


def medians(ways: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Milliseconds of forward and backward pass, each way in turn, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way().backward()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def layer(inputs: int, outputs: int, size: int, rounds: int) -> dict[str, object]:
    x = torch.randn(BATCH, inputs, size, size).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = (torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5).bfloat16().contiguous(memory_format=torch.channels_last)
    weight.requires_grad_()
    ways = {"pytorch": lambda: F.conv2d(x, weight, padding=1).sum(), "products": lambda: convolution(x, weight).sum()}
    found = medians(ways, rounds)
    ratio = found["products"] / found["pytorch"]
    return {"layer": [inputs, outputs, size], **found, "ratio": ratio, "taken": suits(x, weight, None, 1, 1)}


def step(width: float, rounds: int) -> dict[str, object]:
    torch.manual_seed(0)
    net = vgg11(width=width)
    x, labels = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.arange(BATCH) % 10

    def loss(mode: BaseTorchFunctionMode) -> Tensor:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), mode:
            logits = net(x)
        return F.cross_entropy(logits.float(), labels)

    found = medians({"pytorch": lambda: loss(BaseTorchFunctionMode()), "products": lambda: loss(FastLayers())}, rounds)
    return {"vgg11 width": width, **found, "ratio": found["products"] / found["pytorch"]}


def processor() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    facts = {"processor": processor(), "tiles (AMX)": convolutions._has_tiles(), "torch": torch.__version__}
    facts |= {"threads": torch.get_num_threads(), "layers": [layer(*shape, options.rounds) for shape in LAYERS]}
    facts |= {"steps": [step(width, options.rounds) for width in (0.25, 0.5, 1.0)]}
    for row in facts["layers"] + facts["steps"]:
        print(row)
    if options.out:
        there = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.write_text(json.dumps(there | {facts["processor"]: facts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
