"""What masks cost: a training step and a scoring pass, each as a ratio to the plain network's.

    python benchmarks/step.py --out step.json            # MLP 784-4096-10, batch 256; VGG-11, batch 64

Every round times each variant once, in turn, in one process; the table shows medians and ratios of medians.
`sine` is the formula of Kobayashi et al.'s code of 2020, int(sin(index * projection) * 1000 mod 2), in float32.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unseen
from unseen.training.convolutions import FastLayers
from unseen.training.loop import channels_last


class SineMask(nn.Module):
    """The masks of the 2020 code, as a yardstick: kept count not fixed, bits not the same on every device."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.projection = torch.rand(units) * 100
        self.index: Tensor | None = None

    def forward(self, h: Tensor) -> Tensor:
        assert self.index is not None
        mask = torch.remainder((torch.sin(self.index[:, None].float() * self.projection) * 1000).int(), 2).to(h.dtype) * 2
        return h * mask.reshape(*mask.shape, *[1] * (h.dim() - 2))


def variants(net: nn.Module, examples: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The same network plain, with turn-over masks, with nn.Dropout and with sine masks behind the same modules."""
    places = unseen.masks.places.find_places(net)
    dropout, sine = copy.deepcopy(net), copy.deepcopy(net)
    sines = []
    for place in places:
        dropout.add_module(place.module, nn.Sequential(dropout.get_submodule(place.module), nn.Dropout(0.5)))
        sines.append(SineMask(place.units))
        sine.add_module(place.module, nn.Sequential(sine.get_submodule(place.module), sines[-1]))

    def with_sine(x: Tensor, index: Tensor) -> Tensor:
        for mask in sines:
            mask.index = index
        return sine(x)

    few = unseen.TurnOverNet(copy.deepcopy(net), groups=2, tied=True, scale=2**0.5)
    plain, turned = copy.deepcopy(net), unseen.TurnOverNet(net, examples=examples)
    calls = {
        "plain": lambda x, _: plain(x),
        "turn-over": lambda x, i: turned(x, i, "seen"),
        "2 tied groups": lambda x, i: few(x, i, "seen"),
    }
    return calls | {"nn.Dropout": lambda x, _: dropout(x), "sine 2020": with_sine}, {
        "plain": plain, "turn-over": turned, "2 tied groups": few, "nn.Dropout": dropout, "sine 2020": sine,
    }  # fmt: skip


def time_interleaved(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each call over the rounds, each round in turn; two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def training_steps(net: nn.Module, shape: tuple[int, ...], batch: int, bf16: bool, rounds: int, device: str) -> dict[str, float]:
    """Seconds of forward, backward and SGD step."""
    x, index = channels_last(torch.randn(batch, *shape, device=device)), torch.arange(batch, device=device) * 7919
    labels = index % 10
    calls, nets = variants(net.to(device), 10**6)
    steps = {}
    for name, forward in calls.items():
        optimizer = torch.optim.SGD(nets[name].to(device).parameters(), lr=1e-4)

        def step(forward: Callable[..., Tensor] = forward, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with torch.autocast(device, torch.bfloat16, enabled=bf16), FastLayers():
                loss = F.cross_entropy(forward(x, index).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        steps[name] = step
    return time_interleaved(steps, rounds)


@torch.no_grad()
def scoring_passes(net: nn.Module, shape: tuple[int, ...], batch: int, bf16: bool, rounds: int, device: str) -> dict[str, float]:
    """Seconds of a plain inference pass, of both halves, and of both halves and the full network."""
    x, index = channels_last(torch.randn(batch, *shape, device=device)), torch.arange(batch, device=device)
    plain = copy.deepcopy(net).to(device)
    turned = unseen.TurnOverNet(net.to(device))
    calls = {"plain": lambda: plain(x), "both halves": lambda: turned(x, index, "both"), "halves and full": lambda: turned(x, index, "all")}
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        return time_interleaved(calls, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", nargs="+", default=["mlp", "vgg11"])
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    builders = {"mlp": (unseen.mlp, (784,), 256), "vgg11": (unseen.vgg11, (3, 32, 32), 64)}
    rows = []
    for name in args.models:
        build, shape, batch = builders[name]
        rounds = args.rounds if name == "mlp" else max(args.rounds // 5, 3)
        for job, measure in (("step", training_steps), ("score", scoring_passes)):
            for precision in ("bf16", "32"):
                seconds = measure(build(), shape, batch, precision == "bf16", rounds, device)
                for variant, value in seconds.items():
                    ratio = value / seconds["plain"]
                    row = {"model": name, "job": job, "precision": precision, "variant": variant, "ms": value * 1e3, "ratio": ratio}
                    rows.append(row)
                    print(f"{name:6} {job:6} {precision:5} {variant:16} {value * 1e3:9.2f} ms {ratio:6.2f} x", flush=True)
    if args.out:
        about = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
        args.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
