"""What a graphics card gives: the same masks and scores as the CPU, and how fast steps, epochs, members and influence are on it.

    python benchmarks/gpu.py --out docs/results/gpu.json      # about a minute

Without a card it says so and ends. Images are random bytes: nothing here depends on what they show. Times are medians of repeated runs,
rivals interleaved.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unseen.config import Config
from unseen.data import Examples
from unseen.masks import HalfMask
from unseen.scoring.estimators import ESTIMATORS
from unseen.training import epoch_order, make_fabric, make_optimizer, membership, new_members, take_steps, train_members
from unseen.training.replay import replay_of

WIDTHS = (64, 512, 4096)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No graphics card is here, so there is nothing to measure.")
        return
    started = time.perf_counter()
    examples = random_images(options.images)
    found: dict[str, Any] = {"hardware": torch.cuda.get_device_name(), "torch": torch.__version__}
    found["masks_equal"] = masks_equal()
    found["loss_difference_float32"] = loss_difference()
    found |= step_seconds(examples.to("cuda"), options.repeats)
    found["members_epochs_per_second"] = members_speed(examples.select(torch.arange(5000)))
    found["matrix_product_tflops"] = matrix_tflops()
    found["seconds"] = time.perf_counter() - started
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def random_images(count: int, size: int = 32) -> Examples:
    """Random bytes with random labels, in the shape of CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    return Examples(
        inputs=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, 10, (count,), generator=generator),
        index=torch.arange(count),
        ids=[str(i) for i in range(count)],
        split=["train"] * count,
        classes=tuple("0123456789"),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        name="random",
    )


def masks_equal(count: int = 10_000) -> bool:
    """Whether the masks are the same bits on the card and on the CPU."""
    index = torch.randint(0, 2**62, (count,), generator=torch.Generator().manual_seed(0))
    return all(torch.equal(HalfMask(units)(index), HalfMask(units).cuda()(index.cuda()).cpu()) for units in WIDTHS)


def config_of(**options: Any) -> Config:
    """The recipe that is timed."""
    return Config.of(**{"model": "vgg11", "groups": 2, "tied": True, "lr": 0.01, "batch_size": 128, "epochs": 100} | options).resolved()


def loss_difference(count: int = 640) -> float:
    """Largest difference of a step's loss between card and CPU, over an epoch in float32."""
    losses = []
    for device in ("cpu", "cuda"):
        config = config_of(width=0.125, precision="32", batch_size=64)
        examples = random_images(count).to(device)
        model, optimizer, fabric = _ready(config, examples, "turnover", device)
        losses.append(take_steps(model, optimizer, examples, config.training, 0, 1, (0, count // 64), fabric).cpu())
    return float((losses[0] - losses[1]).abs().max())


def _ready(config: Config, examples: Examples, estimator: str, device: str = "cuda") -> tuple[Any, Any, Any]:
    from lightning_fabric import Fabric

    torch.backends.cudnn.allow_tf32 = config.training.precision != "32"
    fabric = make_fabric(1, config.training.precision) if device == "cuda" else Fabric(accelerator="cpu")
    net = ESTIMATORS[estimator].network(config, examples, "vgg11", 0)
    return *fabric.setup(net, make_optimizer(net, config.training)), fabric


def step_seconds(examples: Examples, repeats: int) -> dict[str, float]:
    """Seconds of an epoch of VGG-11: replayed and called step by step, with masks and without."""
    found: dict[str, list[float]] = {}
    runs: dict[str, Callable[[], object]] = {}
    for estimator in ("plain", "turnover"):
        config = config_of()
        model, optimizer, fabric = _ready(config, examples, estimator)
        steps = len(examples) // config.training.batch_size
        order = epoch_order(examples.index, 0, 1)
        replay = replay_of(model, optimizer, examples, config.training, fabric)
        if replay is not None:
            rates = torch.full((steps,), 0.001)
            runs[f"{estimator}_replayed"] = lambda replay=replay, order=order, rates=rates: replay.take(order, rates)
        few = examples.select(torch.arange(20 * config.training.batch_size))
        runs[f"{estimator}_called"] = lambda m=model, o=optimizer, f=fabric, c=config, few=few: _called(m, o, few, c, f)
    for _ in range(repeats):
        for name, run in runs.items():
            torch.cuda.synchronize()
            before = time.perf_counter()
            run()
            torch.cuda.synchronize()
            found.setdefault(name, []).append((time.perf_counter() - before) * (steps / 20 if name.endswith("called") else 1))
    seconds = {f"epoch_seconds_{name}": statistics.median(values) for name, values in found.items()}
    how = "replayed" if "plain_replayed" in found else "called"
    return seconds | {"masked_over_plain": seconds[f"epoch_seconds_turnover_{how}"] / seconds[f"epoch_seconds_plain_{how}"]}


def _called(model: Any, optimizer: Any, examples: Examples, config: Config, fabric: Any) -> None:
    """Steps called one by one: what a loop in Python takes."""
    for positions in torch.arange(len(examples), device="cuda").split(config.training.batch_size):
        x, labels, index = examples.batch(positions)
        loss = torch.nn.functional.cross_entropy(model(x.contiguous(memory_format=torch.channels_last), index).float(), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()


def members_speed(examples: Examples, members: int = 50) -> float:
    """Epochs of single members per second: VGG-11 at a quarter of its widths on 5,000 images, many at once."""
    config = config_of(estimator="plain", width=0.25, batch_size=64, epochs=2, precision="bf16")
    net = new_members(config.network, examples, list(range(members)))
    epochs = train_members(net, examples, config.training, membership(examples.index, 0, members, 0.7), 0, make_fabric(1, "bf16"))
    next(epochs)
    torch.cuda.synchronize()
    before = time.perf_counter()
    next(epochs)
    torch.cuda.synchronize()
    return members / (time.perf_counter() - before)


def matrix_tflops(size: int = 8192, repeats: int = 20) -> float:
    """What a large bf16 matrix product reaches here, in 10^12 operations per second."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    a @ b
    torch.cuda.synchronize()
    before = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - before) / 1e12


if __name__ == "__main__":
    main()
