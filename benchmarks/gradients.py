"""What cosine similarity and contribution cost together: as ratios to a plain forward and backward pass, and to peers.

    python benchmarks/gradients.py --out gradients.json

The statistics are those of all examples of one batch and of its own gradient, as after a training step. `separately` calls
cosine_similarity and contributions; `together` is gradient_statistics. The peers form all per-example gradients (vmap(grad),
BackPACK's BatchGrad, Opacus's GradSampleModule) and reduce them to the same numbers; VGG-11's need 10 GB at batch 256, so
they run at batch 32, and the statistics there too. One that is not installed, or fails, is skipped by name.

Every round times each method once, in turn, in one process; the table shows medians and ratios of medians. Memory is the peak
resident set of a fresh process above what it had with network and data (Linux). `error` is the largest
deviation from one backward pass per example in float64, relative to the largest value; most of it is
the rounding of the network itself, as the line in float64 shows. The last rows stream a subset.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import unseen
from unseen.gradients.statistics import Batch, contributions, cosine_similarity, gradient_statistics
from unseen.training.loop import channels_last

Found = tuple[float, Tensor]
Rows = list[Tensor]
MODELS = ("mlp", "vgg11")


def network(model: str) -> nn.Module:
    """The paper's networks; VGG-11 without the module that pads smaller images, which BackPACK does not know."""
    torch.manual_seed(0)
    if model == "mlp":
        return unseen.mlp()
    return nn.Sequential(*list(unseen.vgg11().children())[1:])


def data(model: str, count: int) -> Batch:
    """Noise around a pattern per class, so that gradients agree to some degree."""
    generator = torch.Generator().manual_seed(1)
    shape = (784,) if model == "mlp" else (3, 32, 32)
    patterns = torch.randn(10, *shape, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    x = patterns[labels] + torch.randn(count, *shape, generator=generator)
    return channels_last(x), labels, torch.arange(count)


def plain(net: nn.Module, batch: Batch) -> None:
    loss = F.cross_entropy(net(batch[0]), batch[1])
    torch.autograd.grad(loss, list(net.parameters()))


def separately(net: nn.Module, batch: Batch) -> Found:
    return cosine_similarity(net, [batch]), contributions(net, [batch])


def together(net: nn.Module, batch: Batch) -> Found:
    subset = Subset(batch)
    found = gradient_statistics(net, subset, subset)
    return found.cosine_similarity, found.contributions


class Subset:
    """A batch as gradient_statistics knows it again."""

    def __init__(self, batch: Batch) -> None:
        self.whole = batch

    def __len__(self) -> int:
        return len(self.whole[1])

    def batch(self, positions: Tensor) -> Batch:
        """All of it."""
        return self.whole


def by_vmap(net: nn.Module) -> Callable[[Batch], Rows]:
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def loss(values: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, values, (x[None],)), label[None])

    return lambda batch: list(vmap(grad(loss), (None, 0, 0))(parameters, batch[0], batch[1]).values())


def by_backpack(net: nn.Module) -> Callable[[Batch], Rows]:
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    extended, loss = extend(net), extend(nn.CrossEntropyLoss(reduction="sum"))

    def rows(batch: Batch) -> Rows:
        with backpack(BatchGrad()):
            loss(extended(batch[0]), batch[1]).backward()
        found = [parameter.grad_batch for parameter in net.parameters()]
        for parameter in net.parameters():
            parameter.grad = None
            del parameter.grad_batch
        return found

    return rows


def by_opacus(net: nn.Module) -> Callable[[Batch], Rows]:
    from opacus import GradSampleModule

    sampled = GradSampleModule(net.to(memory_format=torch.contiguous_format), loss_reduction="sum")

    def rows(batch: Batch) -> Rows:
        x = batch[0].contiguous()  # its convolutions are wrong, silently, for channels-last
        F.cross_entropy(sampled(x), batch[1], reduction="sum").backward()
        found = [parameter.grad_sample for parameter in net.parameters()]
        for parameter in net.parameters():
            parameter.grad = parameter.grad_sample = None
        return found

    return rows


PEERS = {"vmap(grad)": by_vmap, "BackPACK": by_backpack, "Opacus": by_opacus}
OURS = {"plain pass": plain, "separately": separately, "together": together}


def reduced(rows: Rows) -> Found:
    """Both statistics of formed gradients, without a second copy of them."""
    norms = torch.stack([torch.linalg.vector_norm(part.flatten(1), dim=1) for part in rows]).norm(dim=0)
    directions = [torch.tensordot(1 / norms, part.flatten(1), 1) for part in rows]
    step = [part.flatten(1).mean(0) for part in rows]
    length = torch.stack([part.norm() for part in step]).norm()
    count = len(norms)
    cosine = (sum(float(part @ part) for part in directions) - count) / (count * (count - 1))
    return cosine, sum(part.flatten(1) @ mean for part, mean in zip(rows, step, strict=True)) / length


def method(name: str, model: str) -> Callable[[Batch], Found | None]:
    """A method on a network of its own: the peers hang hooks on it."""
    net = network(model)
    if name in OURS:
        return lambda batch: OURS[name](net, batch)
    if name == "turned: plain pass":
        turned = unseen.TurnOverNet(net)
        return lambda batch: plain_turned(turned, batch)
    if name.startswith("turned"):
        turned = unseen.TurnOverNet(net)
        return lambda batch: OURS[name.removeprefix("turned: ")](turned, batch)
    rows = PEERS[name](net)
    return lambda batch: reduced(rows(batch))


def plain_turned(net: nn.Module, batch: Batch) -> None:
    x, labels, index = batch
    torch.autograd.grad(F.cross_entropy(net(x, index, "seen"), labels), list(net.parameters()))


def exact(model: str, count: int) -> Found:
    """In float64, one backward pass per example."""
    net, (x, labels, _) = network(model).double(), data(model, count)
    step = torch.autograd.grad(F.cross_entropy(net(x.double()), labels), list(net.parameters()))
    length = torch.stack([part.norm() for part in step]).norm()
    directions, found = [torch.zeros_like(part) for part in step], []
    for i in range(count):
        rows = torch.autograd.grad(F.cross_entropy(net(x[i : i + 1].double()), labels[i : i + 1]), list(net.parameters()))
        norm = torch.stack([part.norm() for part in rows]).norm()
        for direction, part in zip(directions, rows, strict=True):
            direction += part / norm
        found.append(sum((part * mean).sum() for part, mean in zip(rows, step, strict=True)) / length)
    cosine = (sum(float(part.square().sum()) for part in directions) - count) / (count * (count - 1))
    return cosine, torch.stack(found)


def error(found: Found, true: Found) -> float:
    """Largest relative deviation of the cosine and of the contributions, these relative to the largest."""
    deviation = (found[1].double() - true[1]).abs().max() / true[1].abs().max()
    return max(abs(found[0] / true[0] - 1), float(deviation))


def peak_above(call: Callable[[], object]) -> float:
    """MB by which the peak resident set of this fresh process rises above what it holds now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator kept would hide as much of the peak
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def resident(line: str) -> float:
    """MB, from the process's own status; getrusage's peak includes the parent's."""
    status = dict(entry.split(":", 1) for entry in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024 / 1e6


def memory_of(*job: object) -> float | None:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--memory", *map(str, job), "--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def memory_job(name: str, model: str, count: int) -> float:
    if name == "stream":
        net, batches = network(model), lambda: (data(model, 256) for _ in range(count // 256))
        return peak_above(lambda: (cosine_similarity(net, batches()), contributions(net, batches(), [data(model, 256)])))
    call, batch, warm = method(name, model), data(model, count), network(model)
    with torch.no_grad():
        warm(batch[0][:2])  # threads and libraries
    return peak_above(lambda: call(batch))


def time_interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call over the rounds, each round in turn; one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
            gc.collect()
    return {name: statistics.median(values) for name, values in seconds.items()}


def usable(names: list[str], model: str) -> Iterator[tuple[str, Callable[[Batch], Found | None]]]:
    for name in names:
        try:
            call = method(name, model)
            call(data(model, 2))
            yield name, call
        except Exception as problem:  # whatever a peer's code raises
            print(f"{model:6} {name:22} skipped: {type(problem).__name__}: {problem}")


def compare(model: str, count: int, names: list[str], rounds: int) -> list[dict[str, object]]:
    """Rows of the table for one model and batch size."""
    batch, methods = data(model, count), dict(usable(names, model))
    seconds = time_interleaved({name: lambda call=call: call(batch) for name, call in methods.items()}, rounds)
    true = exact(model, count)
    rows: list[dict[str, object]] = []
    for name, call in methods.items():
        base = seconds["turned: plain pass" if name.startswith("turned") else "plain pass"]
        found = None if name.startswith("turned") else call(batch)
        row = {"model": model, "batch": count, "method": name, "ms": seconds[name] * 1e3, "passes": seconds[name] / base}
        row |= {"extra_mb": memory_of(name, model, count), "error": error(found, true) if found else None}
        rows.append(row)
        show(row)
    x, *others = batch
    rows[0]["error_float64"] = error(together(network(model).double(), (x.double(), *others)), true)
    print(f"{model:6} {count:5} together, in float64: error {rows[0]['error_float64']:.1e}", flush=True)
    return rows


def show(row: dict[str, object]) -> None:
    deviation = f"{row['error']:10.1e}" if row["error"] is not None else " " * 10
    extra = f"{row['extra_mb']:9.0f} MB" if row["extra_mb"] is not None else " " * 12
    print(
        f"{row['model']:6} {row['batch']:5} {row['method']:22} {row['ms']:9.1f} ms {row['passes']:7.2f} x {extra} {deviation}", flush=True
    )


def against_peers(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """How many times faster and smaller the statistics are, together, at the peers' batch size."""
    ratios: list[dict[str, object]] = []
    for row in rows:
        if row["method"] not in PEERS:
            continue
        alike = {"model": row["model"], "batch": row["batch"], "method": "together"}
        own = next(other for other in rows if alike.items() <= other.items())
        ratio = alike | {"peer": row["method"], "faster": row["ms"] / own["ms"], "smaller": row["extra_mb"] / own["extra_mb"]}
        ratios.append(ratio)
        about = f"{ratio['model']:6} {ratio['batch']:5} {ratio['peer']:22}"
        print(f"{about} {ratio['faster']:6.1f} x slower, {ratio['smaller']:6.1f} x more memory than together", flush=True)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--memory", nargs=3, metavar=("METHOD", "MODEL", "BATCH"), help="print the MB of one job, and no more")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        print(memory_job(args.memory[0], args.memory[1], int(args.memory[2])))
        return
    turned = ["turned: plain pass", "turned: separately", "turned: together"]
    rows = []
    for model in args.models:
        rounds = args.rounds if model == "mlp" else max(args.rounds // 3, 3)
        rows += compare(model, 256, [*OURS, *turned, *(PEERS if model == "mlp" else ())], rounds)
        if model == "vgg11":
            rows += compare(model, 32, [*OURS, *PEERS], args.rounds)
    ratios = against_peers(rows)
    streams = {count: memory_of("stream", "mlp", count) for count in (2048, 20480)}
    for count, extra in streams.items():
        print(f"mlp    streaming {count:6} examples {extra:9.0f} MB")
    if args.out:
        about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": os.uname().machine}
        args.out.write_text(json.dumps(about | {"rows": rows, "peers": ratios, "streaming_mb": streams}, indent=1) + "\n")


if __name__ == "__main__":
    main()
