"""A new estimator is one file: nothing else knows it, and every table and command that needs no halves of one network works."""

import json

import pytest
import torch

import unseen
from unseen.cli import main
from unseen.data import joined, trained
from unseen.masks import Side
from unseen.scoring.estimators import ESTIMATORS, Observed, Visit
from unseen.training import statistics


class ClassMeans:
    """A toy: the nearest class mean, computed with an example (seen) and without it (unseen)."""

    has_halves = takes_shards = shares_state = True
    measures_apart = False
    leading = ("loss_unseen",)
    chooses = fixes = {}

    def __init__(self, job):
        self.job = job
        self.sums, self.counts = torch.zeros(()), torch.zeros(())

    suits = classmethod(lambda cls, config, examples: False)
    check = classmethod(lambda cls, config, processes: None)
    check_network = classmethod(lambda cls, config, examples, model: None)
    facts = classmethod(lambda cls, config, examples, model: {"networks": 1})

    def train(self, state, done, progress):
        if state is not None:
            self.sums, self.counts = state["sums"], state["counts"]
            yield Visit(done[0], 1, 1, lambda: {"sums": self.sums, "counts": self.counts})
        for epoch in range(done[0] + 1, self.job.config.training.epochs + 1):
            examples = joined([self.job.trained(part) for part in self.job.data.walk(range(len(self.job.data)))])
            x, labels, _ = examples.batch(torch.arange(len(examples)))
            ones = torch.nn.functional.one_hot(labels, len(examples.classes)).float()
            self.sums, self.counts = ones.T @ x.flatten(1), ones.sum(0)
            progress(len(examples), torch.zeros(()))
            yield Visit(epoch, 1, 1, lambda: {"sums": self.sums, "counts": self.counts})

    def observe(self, examples, last):
        x, labels, index = examples.batch(torch.arange(len(examples)))
        x, own = x.flatten(1), torch.nn.functional.one_hot(labels, len(examples.classes)).float()
        config = self.job.config
        kept = trained(examples, config.noise.null_fraction, config.seed).index
        own = own * torch.isin(index, kept)[:, None]
        means = self.sums / self.counts[:, None]
        without = (self.sums - own[..., None] * x[:, None]) / (self.counts - own).clamp_min(1)[..., None]
        logits = {Side.SEEN: -torch.cdist(x, means), Side.UNSEEN: -(x[:, None] - without).norm(dim=2), Side.FULL: -torch.cdist(x, means)}
        found = {f"{name}_{side}": value for side, one in logits.items() for name, value in statistics(one, labels).items()}
        return Observed(index, found | {"probabilities": logits[Side.UNSEEN].softmax(1)})

    def finish(self, examples, observed):
        return observed.values

    def gradient_network(self):
        raise unseen.UnseenError("Class means have no gradient.")

    def weights(self):
        return None


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "toy", ClassMeans)


def test_a_toy_estimator_in_one_file_works_everywhere(toy, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["score", "digits", "--estimator", "toy", "--epochs", "2", "--random-labels", "0.05", "--out", str(run)]) == 0
    scores = unseen.open_run(run).scores
    assert scores.columns[4] == "loss_unseen" and len(scores) == 1403
    moved = scores.filter("trained")["memorization"]
    assert moved.min() >= -1e-4 and moved.mean() > 0  # an example's own class mean comes nearer with it
    assert unseen.open_run(run).summary["auroc"] > 0.85
    for command in ("show", "suspects", "evaluate", "report", "dynamics"):
        assert main([command, str(run)]) == 0, command
    capsys.readouterr()
    assert main(["score", "digits", "--estimator", "toys"]) == 2
    assert "must be one of auto, head, members, turnover, plain, toy" in capsys.readouterr().err


def test_the_toy_resumes_and_takes_shards(toy, tmp_path):
    x, y = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    x[:, 0] += y
    shards = unseen.Shards(3, lambda number: (x[100 * number : 100 * number + 100], y[100 * number : 100 * number + 100]))
    one = unseen.score((x, y), estimator="toy", epochs=2, out=tmp_path / "one")
    three = unseen.score(shards, estimator="toy", epochs=2, out=tmp_path / "three")
    both = one.scores.join(three.scores, on="index", suffix="_in_shards")
    assert len(both) == len(one.scores) == len(three.scores)
    assert both["loss_unseen"].to_numpy() == pytest.approx(both["loss_unseen_in_shards"].to_numpy(), abs=1e-4)
    assert json.loads((three.path / "summary.json").read_text())["shards"] == 3
