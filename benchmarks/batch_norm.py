"""What to do with batch norm under masks: the leak of a step, and test accuracy, of a narrow ResNet-18 on a part of CIFAR-10.

python benchmarks/batch_norm.py --out docs/results    (10 minutes of one core)
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import unseen
from unseen.masks.places import find_places
from unseen.masks.turnover import CHILD, TurnOverNet
from unseen.models.resnet import resnet18
from unseen.training.loop import epoch_order

LEAK_BATCH = 128


class SeenBatchNorm(nn.BatchNorm2d):
    """Statistics of a channel from those examples of the batch that train it: what one would try first."""

    def forward(self, input: Tensor) -> Tensor:
        factors = getattr(self, CHILD).factors(input.dtype)
        if factors is None or not self.training:
            return super().forward(input)
        seen, x = (factors > 0).to(input.dtype).repeat_interleave(self.num_features // factors.shape[1], 1), input.flatten(2)
        count = (seen.sum(0) * x.shape[2]).clamp_min(2)
        mean = (seen * x.sum(2)).sum(0) / count
        centred = x - mean[:, None]
        variance = (seen * centred.square().sum(2)).sum(0) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None] + self.bias[:, None]).view_as(input)


def seen_batch_norm(net: nn.Module) -> nn.Module:
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SeenBatchNorm(child.num_features))
    return net


def plain_dropout(net: nn.Module) -> nn.Module:
    """Whole feature maps are dropped at the places of the masks, half of them."""
    for place in find_places(net):
        if not place.input:
            net.get_submodule(place.module).register_forward_hook(_drop)
    return net


def _drop(module: nn.Module, _: object, output: Tensor) -> Tensor:
    return F.dropout2d(output, 0.5, module.training)


NETS: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "batch norm, plain dropout": lambda net, groups: plain_dropout(net),
    "group norm, plain dropout": lambda net, groups: plain_dropout(unseen.convert_batch_norm(net)),
    "batch norm, masks": lambda net, groups: TurnOverNet(net, groups=groups),
    "batch norm of the seen half, masks": lambda net, groups: TurnOverNet(seen_batch_norm(net), groups=groups),
    "group norm, masks": lambda net, groups: TurnOverNet(unseen.convert_batch_norm(net), groups=groups),
    "batch norm, no dropout": lambda net, groups: net,
}


def accuracy(net: nn.Module, examples: unseen.Examples, side: str = "full") -> float:
    net.eval()
    right = 0
    with torch.no_grad():
        for positions in torch.arange(len(examples)).split(500):
            x, labels, index = examples.batch(positions)
            logits = net(x, index, side) if isinstance(net, TurnOverNet) else net(x)
            right += int((logits.argmax(1) == labels).sum())
    return right / len(examples)


def fit(net: nn.Module, examples: unseen.Examples, options: argparse.Namespace) -> None:
    """SGD with Nesterov momentum, one cycle of the learning rate, random crops and flips."""
    optimizer = torch.optim.SGD(net.parameters(), lr=options.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = options.epochs * -(-len(examples) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=0.25)
    for epoch in range(options.epochs):
        net.train()
        for positions in epoch_order(examples.index, options.seed, epoch).split(options.batch):
            x, labels, index = examples.batch(positions, (options.seed, epoch))
            x = x.contiguous(memory_format=torch.channels_last)
            logits = net(x, index) if isinstance(net, TurnOverNet) else net(x)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
            schedule.step()


def measure(name: str, examples: unseen.Examples, options: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(options.seed)
    net = NETS[name](resnet18(width=options.width).to(memory_format=torch.channels_last), options.groups)
    train, test = examples.train, examples.test
    start = time.process_time()
    fit(net, train, options)
    row: dict[str, object] = {"net": name, "test accuracy": accuracy(net, test), "seconds": round(time.process_time() - start)}
    if isinstance(net, TurnOverNet):
        row |= {"seen half": accuracy(net, train, "seen"), "unseen half": accuracy(net, train, "unseen")}
        net.net.fc.bias.requires_grad_(False)
        x, labels, index = train.batch(torch.arange(LEAK_BATCH))
        row["leak of a step"] = unseen.leak_of_a_step(net, x, labels, index, lr=0.01 / LEAK_BATCH)
    return row


def markdown(rows: list[dict[str, object]]) -> str:
    names = ["net", "test accuracy", "seen half", "unseen half", "leak of a step", "seconds"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        shares = [f"{cell:.1%}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append("| " + " | ".join(shares) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"examples": 5000, "epochs": 12, "batch": 64, "lr": 0.1, "width": 0.25, "size": 16, "groups": 16, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--nets", nargs="*", default=list(NETS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    examples = unseen.load("cifar10", limit=options.examples, image_size=options.size)
    rows = []
    for name in options.nets:
        rows.append(measure(name, examples, options))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        settings = " ".join(
            f"--{name} {getattr(options, name)}" for name in ("examples", "epochs", "batch", "lr", "width", "size", "groups", "seed")
        )
        page = f"""# Batch norm under masks

Made by `python benchmarks/batch_norm.py {settings} --out docs/results`: ResNet-18 (width {options.width:g}), the first {options.examples:,}
training images of CIFAR-10 at {options.size} pixels (which went through JPEG, quality 75), units in
{options.groups} groups, half of every layer dropped. Seen and unseen half: accuracy on
the training images. Leak of a step: `unseen.leak_of_a_step` on a batch of {LEAK_BATCH} after training, the output bias held.

{markdown(rows)}"""
        (options.out / "batch-norm.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
