import polars as pl
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset

import unseen
from reference_scores import free_scores
from small_runs import new_net
from unseen import Recorder, UnseenError, with_index
from unseen.cli import main
from unseen.curate import lists as curate
from unseen.scoring.estimators import resolved
from unseen.scoring.inputs import prepare_whole, settings_of
from unseen.training.loop import epoch_order, make_optimizer
from unseen.training.measuring import statistics

OPTIONS = {"hidden": (32,), "epochs": 3, "batch_size": 64, "lr": 0.1, "precision": "32", "limit": 200, "estimator": "turnover", "seeds": 1}


class Loop:
    """A plain loop over digits, as a user writes it."""

    def __init__(self, epochs=3, **loader):
        self.examples = unseen.load("digits", limit=200).train
        x, labels, _ = self.examples.batch(torch.arange(len(self.examples)))
        torch.manual_seed(0)
        self.net, self.epochs = unseen.mlp(64, (16,), 10), epochs
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.dataset = with_index(TensorDataset(x, labels))
        self.loader = DataLoader(self.dataset, **({"batch_size": 32, "shuffle": True} | loader))

    def run(self, recorder, mark=False):
        seen = []
        for _ in range(self.epochs):
            rows = []
            for x, labels, index in self.loader:
                logits = self.net(x)
                self.optimizer.zero_grad()
                F.cross_entropy(logits, labels).backward()
                self.optimizer.step()
                recorder.update(index, logits, labels)
                rows.append((index, logits.detach(), labels))
            seen.append([torch.cat(parts) for parts in zip(*rows, strict=True)])
            if mark:
                recorder.end_epoch()
        return seen


def test_the_free_scores_are_those_of_the_forwards_that_trained(tmp_path):
    loop, recorder = Loop(), Recorder(examples=200)
    epochs = loop.run(recorder)
    run = recorder.save(tmp_path / "run", classes=[str(digit) for digit in range(10)])
    rows = []
    for number, (index, logits, labels) in enumerate(epochs, 1):
        for place, i in enumerate(index.tolist()):  # the slow twin: one example at a time
            one = statistics(logits[place : place + 1], labels[place : place + 1])
            rows.append({"seed": 0, "epoch": number, "index": i} | {f"{name}_full": float(value) for name, value in one.items()})
    slow = free_scores(pl.DataFrame(rows).with_columns(loss_seen=None, loss_unseen=None), "full")
    names = ["cumulative_loss", "aum", "el2n", "confidence", "variability", "correctness", "forgetting_events"]
    assert (run.scores.select(names) - slow.select(names)).to_numpy() == pytest.approx(0, abs=1e-5)
    assert run.scores["index"].to_list() == list(range(200)) and "memorization" not in run.scores.columns
    assert run.history.height == 600 and run.classes[3] == "3"


def test_what_is_recorded_can_be_shown_and_what_is_missing_is_named(tmp_path, capsys):
    recorder = Recorder()
    Loop().run(recorder)
    run = recorder.save(tmp_path / "run")
    assert main(["show", str(run.path)]) == 0
    assert "cumulative_loss" in capsys.readouterr().out
    assert main(["evaluate", str(run.path)]) == 0
    assert main(["report", str(run.path)]) == 2
    assert "ordinary network, which has no unseen half" in capsys.readouterr().err
    with pytest.raises(UnseenError, match="measure_batches"):
        curate.suspects(run)
    with pytest.raises(UnseenError, match="recorder.*must be one of"):
        resolved(run.config)


def test_halves_make_it_the_run_that_score_makes(tmp_path):
    """The same batches through a plain loop with a recorder, and through our own: the same scores."""
    whole = unseen.score("digits", out=tmp_path / "ours", **OPTIONS)
    config, examples = prepare_whole("digits", "mlp", None, settings_of("digits", "mlp", OPTIONS))
    net, recorder = new_net(config, examples, "mlp", 0), Recorder()
    optimizer = make_optimizer(net, config.training)
    for epoch in range(1, config.training.epochs + 1):
        for positions in epoch_order(examples.train.index, 0, epoch).split(config.training.batch_size):
            x, labels, index = examples.train.batch(positions)
            logits = net(x, index)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
            recorder.update(index, logits, labels)
        batches = [examples.train.batch(positions) for positions in torch.randperm(200).split(90)]
        recorder.end_epoch(unseen.measure_batches(net, batches))
    run = recorder.save(tmp_path / "theirs")
    same = ["loss_seen", "loss_unseen", "loss_full", "memorization", "probability_seen", "unseen_loss_mean", "full_loss_mean"]
    assert (run.scores.select(same) - whole.scores.select(same)).to_numpy() == pytest.approx(0, abs=1e-4)
    assert run.probabilities() == pytest.approx(whole.probabilities(), abs=1e-4)
    assert run.scores["label_score"].to_numpy() == pytest.approx(whole.scores["label_score"].to_numpy(), abs=1e-4)
    assert curate.suspects(run).width == 10


def test_subset_repeats_and_dropped_batches_work_where_epochs_are_marked(tmp_path):
    loop, recorder = Loop(), Recorder()
    loop.loader = DataLoader(Subset(loop.dataset, range(50, 150)), 32, shuffle=True, drop_last=True)
    loop.run(recorder, mark=True)
    history = recorder.history()
    assert set(history["index"]) <= set(range(50, 150)) and history.height == 3 * 96
    padded = Recorder()
    for _ in range(2):
        padded.update(torch.tensor([0, 1, 2, 0]), torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
        padded.end_epoch()
    assert padded.history().group_by("index").len()["len"].to_list() == [2, 2, 2]


def test_cumulative_loss_counts_missed_epochs_as_the_others(tmp_path):
    recorder = Recorder()
    for present in ([0, 1], [0], [0, 1]):
        index = torch.tensor(present)
        recorder.update(index, torch.zeros(len(index), 2), index * 0)
        recorder.end_epoch()
    scores = recorder.save(tmp_path / "run").scores
    assert scores["cumulative_loss"].to_list() == pytest.approx([3 * 0.6931] * 2, abs=1e-3)


def test_a_resumed_loop_records_what_an_uninterrupted_one_does():
    whole, loop = Recorder(), Loop(shuffle=False)
    loop.run(whole, mark=True)
    before, resumed, loop = Recorder(), Recorder(), Loop(shuffle=False)
    loop.epochs = 2
    loop.run(before, mark=True)
    state = before.state_dict()
    before.update(torch.tensor([0]), torch.zeros(1, 10), torch.tensor([0]))  # after the checkpoint: forgotten
    resumed.load_state_dict(state)
    loop.epochs = 1
    loop.run(resumed, mark=True)
    assert resumed.history().equals(whole.history())


class Stream(IterableDataset):
    def __iter__(self):
        return iter([1, 2])


class Row(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"x": i * 10}


def test_indexed_data_sets():
    import datasets

    assert with_index(Row())[2] == {"x": 20, "index": 2} and with_index(Row())[-1]["index"] == 3
    column = with_index(datasets.Dataset.from_dict({"text": ["a", "b", "c"]})).shuffle(seed=1)
    assert sorted(column["index"]) == [0, 1, 2] and "abc"[column[0]["index"]] == column[0]["text"]
    with pytest.raises(UnseenError, match="Stream has no positions"):
        with_index(Stream())
    with pytest.raises(UnseenError, match="streaming data set"):
        with_index(datasets.Dataset.from_dict({"text": ["a"]}).to_iterable_dataset())
    with pytest.raises(UnseenError, match="does not tell examples apart"):
        with_index(datasets.Dataset.from_dict({"index": [1, 1]}))


def record(*batches, examples=None):
    recorder = Recorder(examples)
    for index, labels in batches:
        recorder.update(torch.tensor(index), torch.zeros(len(index), 3), torch.tensor(labels))
    return recorder.history()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: record(), "Nothing was recorded"),
        (lambda: record(([0, 1], [0, 1]), ([1, 0], [0, 1])), r"Example 0 came with the labels \[0, 1\].*must follow the example"),
        (lambda: record(([0, 1], [0, 1]), examples=3), "1 of 3 examples never came, the first 2"),
        (lambda: record(([0, 5], [0, 1]), examples=3), "index 5. Allowed: 0 to 2"),
        (lambda: record(([0, -1], [0, 1])), "index -1. Allowed"),
        (lambda: record(([0, 1, 1], [0, 1, 1])), "unequally often: example 1 2 times, others 1"),
        (lambda: Recorder().update(torch.tensor([0.0]), torch.zeros(1, 3), torch.tensor([0])), "index torch.float32"),
        (lambda: Recorder().update(torch.tensor([0]), torch.zeros(2, 3), torch.tensor([0])), r"logits \(2, 3\)"),
    ],
)
def test_an_index_that_is_not_safe_is_refused_by_name(call, message):
    with pytest.raises(UnseenError, match=message):
        call()


def test_sampling_with_replacement_needs_marked_epochs():
    loop, recorder = Loop(), Recorder()
    loop.loader = DataLoader(loop.dataset, 32, sampler=RandomSampler(loop.dataset, replacement=True))
    loop.run(recorder)
    with pytest.raises(UnseenError, match=r"unequally often.*end_epoch"):
        recorder.history()


def test_bf16_and_gradients_are_taken_as_they_are():
    recorder = Recorder()
    logits = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    recorder.update(torch.arange(4), logits, torch.zeros(4, dtype=torch.int64))
    with torch.no_grad():
        logits.zero_()  # what was recorded is a copy
    assert recorder.history()["loss"].std() > 0
