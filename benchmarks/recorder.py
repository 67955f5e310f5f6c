"""What the recorder costs: the share of an epoch of the paper's MLP that is spent in it, on data of MNIST's shape.

python benchmarks/recorder.py    (process time inside update and end_epoch over all the rest of the loop, median of five epochs)
"""

import json
import statistics
import time

import torch
from torch.nn import functional as F

import unseen


def epoch(net: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor, recorder: unseen.Recorder, batch: int = 256) -> float:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.06)
    inside, start = 0.0, time.process_time()
    for index in torch.randperm(len(x)).split(batch):
        given = labels[index]
        logits = net(x[index])
        loss = F.cross_entropy(logits, given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = time.process_time()
        recorder.update(index, logits, given)
        inside += time.process_time() - before
    before = time.process_time()
    recorder.end_epoch()
    inside += time.process_time() - before
    return inside / (time.process_time() - start - inside)


def main(examples: int = 8192, rounds: int = 5) -> None:
    torch.set_num_threads(1)
    x, labels = torch.randn(examples, 784), torch.randint(0, 10, (examples,))
    for hidden in (4096, 512):
        net, recorder = unseen.mlp(784, (hidden,)), unseen.Recorder()
        shares = [epoch(net, x, labels, recorder) for _ in range(rounds)]
        print(json.dumps({"hidden": hidden, "overhead": statistics.median(shares), "all": shares}))


if __name__ == "__main__":
    main()
