"""What all train x query pairs cost: pairs per second and the share of the machine's matrix-product peak.

    python benchmarks/influence.py --out influence.json        # MLP 784-4096-10, one mask; 1,000 queries

Every round times, in turn and in one process: the largest plain product (the peak), ``top_influence`` whole (masks, products,
losses, top and bottom 20), its tiles alone, a forward of either half per pair, and one forward forked at the mask per pair, both
in batches of 512; medians. The peak is that of the best of several square products. Rates of floating-point operations count the
classes - 1 columns that are computed.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

import unseen
from unseen.attribution.turnover import query_tiles, top_influence

PEAK_SIZES = (1024, 2048, 4096)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(precision: str, device: str) -> float:
    """Operations per second of the fastest square product."""
    rates = []
    for size in PEAK_SIZES:
        left, right = (
            torch.randn(size, size, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32) for _ in range(2)
        )
        rates.append(2 * size**3 / min(seconds(lambda left=left, right=right: left @ right) for _ in range(2)))
    return max(rates)


def examples(count: int, device: str) -> unseen.Examples:
    """Noise in the shape of MNIST: the arithmetic does not depend on what it shows."""
    inputs, labels = torch.randn(count, 784), torch.arange(count) % 10
    return unseen.load((inputs, labels), test_fraction=0.0).to(device)


@torch.no_grad()
def forward_per_pair(net: unseen.TurnOverNet, x: torch.Tensor, label: torch.Tensor, index: torch.Tensor, fork: bool) -> torch.Tensor:
    """One query under the masks of all of ``index``, as equation 5 has it, or with one pass up to the mask for both halves."""
    x, labels = x.expand(len(index), *x.shape), label.expand(len(index))
    seen, other = net(x, index, "both") if fork else (net(x, index, "seen"), net(x, index, "unseen"))
    return F.cross_entropy(other.float(), labels, reduction="none") - F.cross_entropy(seen.float(), labels, reduction="none")


def compare(precision: str, hidden: int, train: int, queries: int, rounds: int, device: str) -> dict[str, float]:
    net = unseen.TurnOverNet(unseen.mlp(784, (hidden,), 10)).to(device).eval()
    data = examples(train, device)
    asked = data.select(range(queries))
    x, labels, _ = asked.batch(torch.arange(queries))
    tiles, index = query_tiles(net, x, labels, precision), data.index[: min(train, 512)]
    found: dict[str, list[float]] = {"peak": [], "whole": [], "tiles": [], "pair": [], "fork": []}
    for number in range(rounds + 1):
        rates = {"peak": peak(precision, device)}
        rates["whole"] = queries * train / seconds(lambda: top_influence(net, data, asked, 20, 4.0, precision))
        rates["tiles"] = queries * len(index) / seconds(lambda: tiles(index))
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            for name, fork in (("pair", False), ("fork", True)):
                rates[name] = len(index) / seconds(lambda fork=fork: forward_per_pair(net, x[0], labels[0], index, fork))
        for name, rate in rates.items():
            if number:  # the first is to warm up
                found[name].append(rate)
    median = {name: statistics.median(rates) for name, rates in found.items()}
    operations = 2 * hidden * 9
    shares = {
        name: statistics.median(a * operations / b for a, b in zip(found[name], found["peak"], strict=True)) for name in ("whole", "tiles")
    }
    return {
        "peak_gflops": median["peak"] / 1e9,
        "pairs_per_second": median["whole"],
        "share_of_peak": shares["whole"],
        "share_of_peak_tiles": shares["tiles"],
        "forward_per_pair_per_second": median["pair"],
        "times_faster": statistics.median(a / b for a, b in zip(found["whole"], found["pair"], strict=True)),
        "times_faster_than_forked": statistics.median(a / b for a, b in zip(found["whole"], found["fork"], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--train", type=int, default=6000, help="60000 for all of MNIST")
    parser.add_argument("--queries", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for precision in ("bf16", "32"):
        row = {"precision": precision, "hidden": args.hidden, "train": args.train, "queries": args.queries}
        row |= compare(precision, args.hidden, args.train, args.queries, args.rounds, device)
        rows.append(row)
        print(
            f"{precision:5} peak {row['peak_gflops']:7.0f} GFLOP/s; {row['pairs_per_second']:12,.0f} pairs/s, "
            f"{row['share_of_peak']:.0%} of the peak (tiles alone {row['share_of_peak_tiles']:.0%}); "
            f"forward per pair {row['forward_per_pair_per_second']:9,.0f} pairs/s: "
            f"{row['times_faster']:,.0f} x (forked {row['times_faster_than_forked']:,.0f} x)",
            flush=True,
        )
    if args.out:
        about = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__, "machine": os.uname().machine}
        args.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
