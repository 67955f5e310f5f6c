"""Masks on a network with given weights: what they cost, and what late-layer masks save. Fashion-MNIST, MLP 784-512-512-10.

python benchmarks/fine_tuning.py    (a minute of one core)
"""

import copy
import json

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

import unseen
from unseen import TurnOverNet
from unseen.data import noise
from unseen.training.loop import epoch_order

PRETRAINED, TUNED, EPOCHS = 20_000, 3_000, 5
WAYS: dict[str, dict[str, object]] = {
    "masks on both hidden layers": {},
    "mask on the last hidden layer": {"only": ["hidden2"]},
    "mask on the last, the first layer frozen": {"only": ["hidden2"], "frozen": True},
    "both, from fresh weights": {"fresh": True},
}


def fit(net: nn.Module, examples: unseen.Examples, epochs: int, lr: float = 0.05) -> None:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    for epoch in range(epochs):
        for positions in epoch_order(examples.index, 0, epoch).split(64):
            x, labels, index = examples.batch(positions)
            optimizer.zero_grad()
            F.cross_entropy(net(x, index) if isinstance(net, TurnOverNet) else net(x), labels).backward()
            optimizer.step()


def main() -> None:
    torch.set_num_threads(1)
    whole = unseen.load("fashion-mnist", limit=PRETRAINED + TUNED, test_limit=2000)
    torch.manual_seed(0)
    fresh = unseen.mlp(784, (512, 512))
    given = copy.deepcopy(fresh)
    fit(given, whole.select(torch.arange(PRETRAINED)), 3)
    tuned = noise.random_labels(whole.select(torch.arange(PRETRAINED, PRETRAINED + TUNED)), 0.1, 0, avoid_true=True)
    wrong = (tuned.labels != tuned.true_labels).numpy()
    test_x, test_labels, _ = whole.test.batch(torch.arange(len(whole.test)))
    for name, way in WAYS.items():
        bare = copy.deepcopy(fresh if way.get("fresh") else given)
        if way.get("frozen"):
            bare.hidden1.requires_grad_(False)
        net = TurnOverNet(bare, **({"only": way["only"]} if "only" in way else {}))
        x, labels, index = tuned.batch(torch.arange(64))
        with torch.no_grad():
            start = {side: float((net(x, index, side).argmax(1) == tuned.true_labels[:64]).float().mean()) for side in ("unseen", "full")}
        fit(net, tuned, EPOCHS)
        measured = unseen.measure(net, tuned)
        gap = measured["loss_unseen"] - measured["loss_seen"]
        with torch.no_grad():
            test = float((net(test_x).argmax(1) == test_labels).float().mean())
        right = (measured["predicted_unseen"] == tuned.true_labels).float().mean()
        leak = unseen.leak_of_a_step(net, x, labels, index, lr=0.05 / 64)
        row = {
            "way": name,
            "half_at_start": start["unseen"],
            "full_at_start": start["full"],
            "test": test,
            "unseen_half_true": float(right),
        }
        row |= {"auroc_memorization": roc_auc_score(wrong, gap), "auroc_loss_unseen": roc_auc_score(wrong, measured["loss_unseen"])}
        print(
            json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in (row | {"leak": leak}).items()}),
            flush=True,
        )


if __name__ == "__main__":
    main()
