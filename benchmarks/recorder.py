"""What the recorder costs: epochs of the paper's MLP on MNIST with and without it, interleaved in one process.

python benchmarks/recorder.py    (prints the overhead: the ratio of the medians less one)
"""

import json
import statistics
import time

import torch
from torch.nn import functional as F

import unseen


def epoch(net: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor, recorder: unseen.Recorder | None, batch: int = 256) -> float:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.06)
    start = time.process_time()
    for index in torch.randperm(len(x)).split(batch):
        logits = net(x[index])
        loss = F.cross_entropy(logits, labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if recorder:
            recorder.update(index, logits, labels[index])
    if recorder:
        recorder.end_epoch()
    return time.process_time() - start


def main(examples: int = 2560, rounds: int = 5) -> None:
    torch.set_num_threads(1)
    x, labels = torch.randn(examples, 784), torch.randint(0, 10, (examples,))
    for hidden in (4096, 512):
        net, recorder = unseen.mlp(784, (hidden,)), unseen.Recorder()
        epoch(net, x, labels, None)
        times = [(epoch(net, x, labels, None), epoch(net, x, labels, recorder)) for _ in range(rounds)]
        plain, recorded = (statistics.median(column) for column in zip(*times, strict=True))
        print(json.dumps({"hidden": hidden, "plain_s": plain, "recorded_s": recorded, "overhead": recorded / plain - 1}))


if __name__ == "__main__":
    main()
