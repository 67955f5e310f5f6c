"""Which cheap estimator follows retraining on a deep network, and what the coverage of turn-over masks does to it.

    python benchmarks/coverage.py run --data-dir DATA --out WORK --seconds 240          # trains; goes on where it stopped
    python benchmarks/coverage.py table --out WORK --to docs/results                    # judges: deep.json, deep.md, deep.png

``run`` trains each configuration of ``sweep()`` on the examples of the truth (``truths.py``, cifar-vgg11), the most valuable first, and
leaves its scores and facts in two small files. ``--workers`` processes share the list, on one GPU too. It needs PyTorch, Lightning Fabric
and safetensors only; ``--examples`` takes the images from a safetensors file (inputs, labels, index, true, mean, std, train).
``table`` averages the scores of seeds and judges them by the truth: rank correlation on right labels, AUROC of the wrong ones.
Cost is in plain runs of the same machine and number of workers, measuring included where a score needs it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unseen.config import Config
from unseen.data import Examples
from unseen.hashing import key
from unseen.masks import Side, TurnOverNet
from unseen.scoring.free import FreeScores, MeasuredEpochs, free_scores
from unseen.training import (
    Ordinary,
    find_output,
    first_batch,
    head_scores,
    make_fabric,
    measure,
    members_losses,
    membership,
    new_members,
    new_network,
    train,
    train_members,
)

TRUTH = {"model": "vgg11", "width": 0.25, "epochs": 20, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"}
TRUTH |= {"batch_size": 64, "precision": "bf16", "estimator": "plain"}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAST_THREE = ("conv7", "conv8", "hidden")


@dataclass(frozen=True)
class Setup:
    """A configuration: what of the truth's recipe is changed, and the seed.

    Attributes:
        kind: plain, turnover, members, or retrain: members of a truth, of which ``truths.py --losses`` makes one.
        seed: of weights, order, masks.
        groups: of units that share a mask; 0: none share.
        tied: the same mask in all layers.
        scale: of seen units.
        only: layers masked; empty: all.
        members: how many.
        fraction: of the members that an example trains.
        epochs: of training.
        lr: the first learning rate.
        schedule: of the rate.
        width: factor on the channels.
        model: vgg11 or cct2.
        first: number of the first member of a truth's chunk.
    """

    kind: str
    seed: int = 0
    groups: int = 0
    tied: bool = True
    scale: float = 2**0.5
    only: tuple[str, ...] = ()
    members: int = 0
    fraction: float = 0.7
    epochs: int = 20
    lr: float = 0.01
    schedule: str = "cosine"
    width: float = 0.25
    model: str = "vgg11"
    first: int = 0

    @property
    def name(self) -> str:
        """A file's name: what differs from the standard."""
        standard = asdict(Setup(self.kind))
        changed = [f"{key}-{_text(value)}" for key, value in asdict(self).items() if value != standard[key] and key != "seed"]
        return "_".join([self.kind, *changed, f"seed-{self.seed}"])

    def config(self) -> Config:
        """Of the truth, changed."""
        own = {"epochs": self.epochs, "lr": self.lr, "schedule": self.schedule, "width": self.width, "model": self.model}
        return Config.of(**TRUTH | own).resolved()


def _text(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else f"{value:.3g}" if isinstance(value, float) else str(value)


def sweep() -> Iterator[Setup]:
    """All configurations, the most valuable first."""
    turn = lambda **changes: Setup("turnover", **changes)
    yield from (Setup("plain", seed) for seed in range(3))
    yield from (turn(groups=2, lr=rate) for rate in (0.02, 0.04, 0.01))
    yield from (*(turn(groups=groups, lr=0.02) for groups in (4, 8, 16)), turn(groups=0, tied=False, lr=0.02))
    yield from (Setup("members", members=4, width=width) for width in (0.25, 0.125))
    yield from (turn(groups=2, lr=0.02, seed=seed) for seed in (1, 2, 3))
    yield from (turn(groups=2, lr=0.02, epochs=40), turn(groups=2, lr=0.02, width=0.5), turn(groups=2, lr=0.02, scale=1.0))
    yield from (turn(groups=2, lr=0.02, scale=2.0), turn(groups=2, lr=0.02, tied=False), turn(groups=4, lr=0.02, tied=False))
    yield from (turn(groups=2, lr=0.02, only=only) for only in (LAST_THREE, ("hidden",)))
    yield from (turn(groups=16, lr=0.02, only=only) for only in (LAST_THREE, ("hidden",)))
    yield from (turn(lr=0.02, tied=False, only=only) for only in (LAST_THREE, ("hidden",)))
    yield from (turn(groups=4, lr=0.02, seed=seed) for seed in (1, 2))
    yield from (turn(groups=2, lr=0.02, width=0.5, seed=seed) for seed in (1, 2))
    yield from (Setup("members", members=8, width=0.125), Setup("members", members=4, width=0.25, fraction=0.5))
    yield from (turn(groups=2, lr=0.02, epochs=60), turn(groups=4, lr=0.02, epochs=40), turn(groups=8, lr=0.02, epochs=40))
    yield from (turn(groups=2, lr=0.02, schedule="constant"), turn(groups=4, lr=0.04), turn(groups=16, lr=0.02, epochs=40))
    yield from (turn(groups=2, lr=0.02, epochs=40, seed=seed) for seed in (1, 2))
    yield from (Setup("members", members=16, width=0.125), Setup("members", members=8, width=0.25))
    yield from (Setup("plain", epochs=40), Setup("plain", lr=0.02), Setup("plain", 3), Setup("plain", 4))
    yield from (turn(groups=8, lr=0.02, seed=1), turn(groups=6, lr=0.02, width=0.375), turn(groups=2, lr=0.02, epochs=10))
    yield from of_cct()


def of_cct() -> Iterator[Setup]:
    """A truth of 100 members of CCT-2, and its cheap estimators."""
    cct = lambda kind, **changes: Setup(kind, model="cct2", lr=0.02, **changes)
    yield from (cct("plain"), cct("turnover", groups=2), cct("members", members=4))
    yield from (cct("retrain", members=10, first=first) for first in range(0, 100, 10))
    yield from (cct("turnover", groups=0, tied=False), cct("plain", seed=1), cct("turnover", groups=2, seed=1))


def scores_of_network(setup: Setup, examples: Examples, device: Any, deadline: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Scores (n,) by name, and facts, of a plain or a turn-over run."""
    config = setup.config()
    fabric = make_fabric(1, config.training.precision)
    net = new_network(config.network, examples, setup.seed)
    output = find_output(net, first_batch(examples).cpu())
    if setup.kind == "turnover":
        net = TurnOverNet(net, seed=setup.seed, scale=setup.scale, groups=setup.groups or None, tied=setup.tied, only=setup.only or None)
    else:
        net = Ordinary(net)
    net.to(device)
    measured = MeasuredEpochs.of(config)
    free, heads, last = FreeScores({}, "seen" if setup.kind == "turnover" else "full"), Heads(), {}
    clock = Clock(device)
    for epoch in train(net, examples, config.training, setup.seed, fabric):
        clock.lap("training")
        last = measure(net, examples, fabric, output=output, of=tuple(Side))
        clock.lap("measuring")
        heads.add(last, examples, measured.is_later(epoch.number))
        clock.lap("heads")
        free.add({name: value for name, value in last.items() if value.dim() == 1}, *_when(measured, epoch.number))
        if time.time() > deadline:
            raise TimeoutError
    found = free_scores(free.tensors, config.training.epochs) | heads.means()
    found |= {name: last[name] for name in last if name.startswith("loss_")}
    if setup.kind == "turnover":
        found["memorization"] = last["loss_unseen"] - last["loss_seen"]
    facts = {f"accuracy_{side}": float(last[f"correct_{side}"].mean()) for side in Side if f"correct_{side}" in last}
    return found, facts | {"seconds": clock.seconds, "accuracy_without_masks": accuracy(net.net, examples)}


@torch.no_grad()
def accuracy(net: torch.nn.Module, examples: Examples) -> float:
    """Of a network without masks, on the given labels."""
    parts = [examples.batch(positions) for positions in torch.arange(len(examples)).split(500)]
    return float(torch.cat([net.eval()(x).argmax(1) == labels for x, labels, _ in parts]).float().mean())


def _when(measured: MeasuredEpochs, epoch: int) -> tuple[bool, bool]:
    return measured.is_early(epoch), measured.is_later(epoch)


class Heads:
    """Sums over the epochs of what heads say, of each side: over all epochs and over the later ones."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts = {"all": 0, "later": 0}

    def add(self, measured: dict[str, Tensor], examples: Examples, later: bool) -> None:
        """The heads of an epoch."""
        kinds = ("all", "later") if later else ("all",)
        for kind in kinds:
            self.counts[kind] += 1
        everyone = torch.ones(len(examples), dtype=torch.bool)
        for side in Side:
            if f"features_{side}" not in measured:
                continue
            found = head_scores(measured[f"features_{side}"], examples.labels, everyone, len(examples.classes))
            for name, value in found.items():
                self.sums[f"{name}_{side}_last"] = value
                for kind in kinds:
                    self.sums[f"{name}_{side}_{kind}"] = self.sums.get(f"{name}_{side}_{kind}", 0) + value

    def means(self) -> dict[str, Tensor]:
        """By name, side and epochs."""
        return {name: value / self.counts.get(name.rpartition("_")[2], 1) for name, value in self.sums.items()}


def scores_of_members(setup: Setup, examples: Examples, device: Any, deadline: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Scores (n,) by name, and facts, of members: means over the later epochs of what they say before their steps."""
    config = setup.config()
    fabric = make_fabric(1, config.training.precision)
    seeds = [key(setup.seed, "member", number) % 2**31 for number in range(setup.members)]
    networks = new_members(config.network, examples, seeds)
    member = membership(examples.index.cpu(), setup.seed, setup.members, setup.fraction)
    measured, later, clock = MeasuredEpochs.of(config), [], Clock(device)
    for epoch in train_members(networks, examples, config.training, member, key(setup.seed, "order"), fabric):
        if measured.is_later(epoch.number):
            later.append({name: value for name, value in epoch.observed.items() if name.startswith("loss_")})
        if time.time() > deadline:
            raise TimeoutError
    losses = members_losses(epoch.members(), examples, fabric)
    clock.lap("training")
    mean = {name: torch.stack([part[name] for part in later]).mean(0) for name in later[0]}
    found = {"unseen_loss_mean": mean["loss_unseen"], "full_loss_mean": mean["loss_full"]}
    found |= {"memorization": _gap(losses, member), "memorization_mean": mean["loss_unseen"] - mean["loss_seen"]}
    facts = {f"accuracy_{side}": float(epoch.observed[f"correct_{side}"].mean()) for side in Side}
    return found, facts | {"seconds": clock.seconds}


def losses_of_truth(setup: Setup, examples: Examples, device: Any, deadline: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Losses (members, n) of a chunk of a truth of 100 members, and who trained on what; facts."""
    config, chosen = setup.config(), slice(setup.first, setup.first + setup.members)
    fabric, clock = make_fabric(1, config.training.precision), Clock(device)
    networks = new_members(config.network, examples, [key(setup.seed, "member", number) % 2**31 for number in range(100)][chosen])
    member = membership(examples.index.cpu(), setup.seed, 100, setup.fraction)[chosen]
    order = key(setup.seed, "order", setup.first // setup.members)
    for epoch in train_members(networks, examples, config.training, member, order, fabric):
        last = epoch
        if time.time() > deadline:
            raise TimeoutError
    losses = members_losses(last.members(), examples, fabric)
    clock.lap("training")
    facts = {f"accuracy_{side}": float(last.observed[f"correct_{side}"].mean()) for side in Side}
    return {"losses": losses, "member": member.float()}, facts | {"seconds": clock.seconds}


MAKERS = {"plain": scores_of_network, "turnover": scores_of_network, "members": scores_of_members, "retrain": losses_of_truth}


def _gap(losses: Tensor, member: Tensor) -> Tensor:
    mean = lambda chosen: (losses * chosen).sum(0) / chosen.sum(0)
    return mean(~member) - mean(member)


class Clock:
    """Wall-clock seconds by what they went to, the device's queue empty."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.start = self._now()

    def lap(self, name: str) -> None:
        """Book the time since the last lap."""
        now = self._now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.start
        self.start = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def load_examples(options: argparse.Namespace) -> Examples:
    """The truth's training examples, from a safetensors file or from the data themselves."""
    if options.examples:
        found = load_file(options.examples)
        count = len(found["labels"])
        split = ["train" if one else "test" for one in found["train"].tolist()]
        ids = [str(number) for number in range(count)]
        columns = {name: found[name] for name in ("inputs", "labels", "index", "mean", "std")}
        whole = Examples(**columns, ids=ids, split=split, classes=NAMES, true_labels=found["true"], name="cifar10")
    else:
        from tasks import load_task

        whole = load_task("cifar-vgg11", options.data_dir).examples
    return whole.train if not options.limit else whole.train.select(torch.arange(options.limit))


def work(options: argparse.Namespace, deadline: float) -> None:
    """Train what nobody has claimed yet, until the time is up."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples, taken = load_examples(options).to(device), 0.0
    for setup in chosen(options):
        claim = options.out / f"{setup.name}.claim"
        cost = setup.epochs * max(1, setup.members / 2) * (4 if setup.width > 0.25 else 1)
        if time.time() + taken * cost > deadline:
            continue
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        start = time.time()
        try:
            found, facts = MAKERS[setup.kind](setup, examples, device, deadline)
        except TimeoutError:
            claim.unlink()
            return
        taken = (time.time() - start) / cost
        facts |= {"setup": asdict(setup), "workers": options.workers, "torch": torch.__version__, "wall": time.time() - start}
        facts["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
        kept = {name: value.float().cpu().contiguous() for name, value in found.items() if not value.isnan().any()}
        save_file(kept, options.out / f"{setup.name}.safetensors")
        (options.out / f"{setup.name}.json").write_text(json.dumps(facts) + "\n")
        print(setup.name, json.dumps({name: facts[name] for name in facts if name.startswith(("accuracy", "wall"))}), flush=True)


def chosen(options: argparse.Namespace) -> list[Setup]:
    """Configurations that have no result yet."""
    found = [setup for setup in sweep() if not options.only or any(word in setup.name for word in options.only)]
    return [setup for setup in found if not (options.out / f"{setup.name}.json").exists()]


def run(options: argparse.Namespace) -> None:
    """All of it, in one process or several."""
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = options.deadline or time.time() + options.seconds
    if options.deadline:
        return work(options, deadline)
    for claim in options.out.glob("*.claim"):
        if not claim.with_suffix(".json").exists():
            claim.unlink()
    if options.workers == 1:
        return work(options, deadline)
    command = [sys.executable, __file__, *sys.argv[1:], "--deadline", str(deadline)]
    for process in [subprocess.Popen(command) for _ in range(options.workers)]:
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["run", "table"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=240, help="until no more is begun, and what runs is given up")
    parser.add_argument("--workers", type=int, default=1, help="processes side by side")
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--examples", type=Path, help="safetensors file of the examples")
    parser.add_argument("--data-dir")
    parser.add_argument("--limit", type=int, help="only the first so many examples, for a try")
    parser.add_argument("--only", nargs="*", help="configurations with one of these words in their name")
    parser.add_argument("--truth", type=Path, default=Path("docs/results/truth/cifar-vgg11"))
    parser.add_argument("--to", type=Path, help="folder for deep.json, deep.md and deep.png")
    options = parser.parse_args()
    if options.stage == "run":
        return run(options)
    from coverage_table import judge

    judge(options)


if __name__ == "__main__":
    main()
