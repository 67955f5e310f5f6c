"""The table of architectures in the docs: masks, streams, what leaks where, and what a step costs.

python benchmarks/architectures.py --out docs/results    (a minute of one core)
"""

import argparse
import copy
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from catalogue import CATALOGUE, CLASSES, Architecture
from unseen import TurnOverNet, leak_of_a_step
from unseen.masks import leaks as audit
from unseen.masks.turnover import Inputs, batch_size

BATCH, ROUNDS, LEAK_BATCH = 32, 7, 64


def step_seconds(net: nn.Module, architecture: Architecture, x: Inputs, labels: Tensor, index: Tensor | None) -> float:
    start = time.process_time()
    wrapped = isinstance(net, TurnOverNet)
    out = net(x, index) if wrapped else net(x) if isinstance(x, Tensor) else net(**x)
    architecture.loss(getattr(out, "logits", out), labels).backward()
    return time.process_time() - start


def row(architecture: Architecture) -> list[str]:
    torch.manual_seed(0)
    plain = architecture.build()
    net = TurnOverNet(copy.deepcopy(plain), **architecture.options)
    x = architecture.inputs(BATCH)
    labels, index = torch.arange(batch_size(x)) % CLASSES, torch.arange(batch_size(x))
    for _ in range(2):
        times = [
            (step_seconds(plain, architecture, x, labels, None), step_seconds(net, architecture, x, labels, index)) for _ in range(ROUNDS)
        ]
    cost = statistics.median(masked for _, masked in times) / statistics.median(bare for bare, _ in times)
    few = architecture.inputs(4)
    leaks = [leak for leak in audit(net, few, labels[:4], index[:4], architecture.loss) if leak.inner_product]
    held = ", ".join(f"`{leak.parameter}`" for leak in leaks[:2]) + (f" and {len(leaks) - 2} more" if len(leaks) > 2 else "")
    named = dict(net.net.named_parameters())
    for leak in leaks:
        named[leak.parameter].requires_grad_(False)
    x = architecture.inputs(LEAK_BATCH)
    labels, index = torch.arange(LEAK_BATCH) % CLASSES, torch.arange(LEAK_BATCH)
    rest = leak_of_a_step(net, x, labels, index, lr=0.01 / LEAK_BATCH, loss=architecture.loss, examples=3)
    places = net.masked_layers()
    streams = len({place.stream or place.module for place in places})
    share = f"{sum(leak.of_step for leak in leaks):.2%}" if leaks else "0"
    cells = [architecture.name, str(len({place.layer for place in places})), str(streams), share, held or "nowhere"]
    return [*cells, "0" if rest < 1e-9 else f"{rest:.1%}", f"{cost:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    names = ["network", "layers masked", "streams", "leak through shared parameters", "which", "leak beside them", "cost of a step"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for architecture in CATALOGUE:
        lines.append("| " + " | ".join(row(architecture)) + " |")
        print(lines[-1], flush=True)
    if out:
        page = f"""# Architectures

Made by `python benchmarks/architectures.py --out docs/results` from `tests/catalogue.py`: small networks, fresh weights. Streams: masks
that differ (layers of one stream share theirs). Leak through shared parameters: of what a step on an example changes in its seen half,
to first order, the part that reaches its unseen half (`audit`, sum of `of_step`), and the parameters it goes through: nothing leaks
outside these. Leak beside them: the same measured by doing the step in a batch of {LEAK_BATCH} with these parameters held
(`leak_of_a_step`), which sees batch statistics too. Cost: forward and backward with masks over without, process time, medians of
{ROUNDS}, batch of {BATCH}; in networks as small as these the masks weigh most.

{chr(10).join(lines)}
"""
        (out / "architectures.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
