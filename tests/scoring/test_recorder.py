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
from unseen.training import head_scores
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
    assert "cumulative loss" in capsys.readouterr().out
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
        (lambda: record(([0, 5], [0, 1]), examples=3), "index 5. Allowed: 0 to 2"),
        (lambda: record(([0, -1], [0, 1])), "index -1. Allowed"),
        (lambda: Recorder().update(torch.tensor([0.0]), torch.zeros(1, 3), torch.tensor([0])), "index torch.float32"),
        (lambda: Recorder().update(torch.tensor([0]), torch.zeros(2, 3), torch.tensor([0])), r"logits \(2, 3\)"),
    ],
)
def test_an_index_that_is_not_safe_is_refused_by_name(call, message):
    with pytest.raises(UnseenError, match=message):
        call()


def test_unequal_visits_without_marked_epochs_are_saved_and_said(tmp_path):
    loop, recorder = Loop(), Recorder()
    loop.loader = DataLoader(loop.dataset, 32, sampler=RandomSampler(loop.dataset, replacement=True))
    epochs = loop.run(recorder)
    with pytest.warns(UserWarning, match=r"unequally often: example \d+ \d times, others 1.*end_epoch"):
        run = recorder.save(tmp_path / "run")
    came = torch.cat([index for index, _, _ in epochs]).unique().tolist()
    assert run.scores["index"].to_list() == came and len(run.history) == 600


def test_bf16_and_gradients_are_taken_as_they_are():
    recorder = Recorder()
    logits = torch.randn(4, 3, dtype=torch.bfloat16, requires_grad=True)
    recorder.update(torch.arange(4), logits, torch.zeros(4, dtype=torch.int64))
    with torch.no_grad():
        logits.zero_()  # what was recorded is a copy
    assert recorder.history()["loss"].std() > 0


N = 24
EVERY = torch.arange(N)
TRUE = EVERY % 3


def good(recorder, batch=EVERY, labels=TRUE):
    recorder.update(batch, F.one_hot(labels[batch % N], 3).float() * 2, labels[batch % N])


LOGITS = torch.eye(3)[TRUE]
WRONG = {
    "-100": (lambda: (EVERY, LOGITS, torch.where(EVERY == 5, -100, TRUE)), "label -100 of example 5. Allowed: 0 to 2.*Leave out the rows"),
    "-1": (lambda: (EVERY, LOGITS, torch.where(EVERY == 3, -1, TRUE)), "label -1 of example 3"),
    "7": (lambda: (EVERY, LOGITS, torch.where(EVERY == 23, 7, TRUE)), "label 7 of example 23. Allowed: 0 to 2.*from 0"),
    "labels from 1": (lambda: (EVERY, LOGITS, TRUE + 1), "label 3 of example 2"),
    "float labels": (lambda: (EVERY, LOGITS, TRUE.float()), r"labels \(24,\) torch.float32"),
    "bool labels": (lambda: (EVERY, LOGITS, TRUE > 0), r"labels \(24,\) torch.bool"),
    "one-hot labels": (lambda: (EVERY, LOGITS, LOGITS.long()), r"labels \(24, 3\) torch.int64"),
    "labels as a list": (lambda: (EVERY, LOGITS, TRUE.tolist()), "labels of type list"),
    "no labels": (lambda: (EVERY, LOGITS, None), "labels of type NoneType"),
    "one logit": (lambda: (EVERY, LOGITS[:, :1], (TRUE > 0).long()), r"one logit per example, \(24, 1\).*torch.cat"),
    "one logit, 1-D": (lambda: (EVERY, LOGITS[:, 0], (TRUE > 0).long()), "one logit per example"),
    "logits in a dict": (lambda: (EVERY, {"logits": LOGITS}, TRUE), r'logits of type dict.*out\["logits"\]'),
    "logits in a tuple": (lambda: (EVERY, (LOGITS,), TRUE), "logits of type tuple"),
    "3-D": (lambda: (EVERY, LOGITS[..., None], TRUE), r"logits \(24, 3, 1\)"),
    "transposed": (lambda: (EVERY, LOGITS.T, TRUE), r"logits \(3, 24\)"),
    "class numbers": (lambda: (EVERY, LOGITS.long(), TRUE), r"logits \(24, 3\) torch.int64"),
    "classes change": (lambda: (EVERY, torch.randn(N, 4), TRUE), "4 classes, and of 3 before"),
    "no index": (lambda: (None, LOGITS, TRUE), "no index.*with_index"),
    "index as a list": (lambda: (EVERY.tolist(), LOGITS, TRUE), "index of type list"),
    "index in a column": (lambda: (EVERY[:, None], LOGITS, TRUE), r"index torch.int64 \(24, 1\)"),
    "int32 index": (lambda: (EVERY.int(), LOGITS, TRUE), "index torch.int32"),
    "index beyond": (lambda: (EVERY + 1, LOGITS, TRUE), "index 24. Allowed: 0 to 23"),
    "index below": (lambda: (EVERY - 1, LOGITS, TRUE), "index -1. Allowed"),
    "a row less": (lambda: (EVERY, LOGITS, TRUE[1:]), r"labels \(23,\)"),
    "nan": (lambda: (EVERY, torch.where(EVERY[:, None] == 7, float("nan"), LOGITS), TRUE), r"example 7 are nan \(1 of 24"),
    "inf": (lambda: (EVERY, torch.where(EVERY[:, None] > 20, float("inf"), LOGITS), TRUE), r"example 21 are inf \(3 of 24"),
    "half that overflows": (lambda: (EVERY, (LOGITS * 1e6).half(), TRUE), "example 0 are inf"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_recorded_is_refused_at_that_update_and_what_came_before_is_saved(tmp_path, kind):
    arguments, message = WRONG[kind]
    recorder, plain = Recorder(examples=N), Recorder(examples=N)
    for each in (recorder, plain):
        good(each)
        each.end_epoch()
    with pytest.raises(UnseenError, match=message):
        recorder.update(*arguments())
    for each in (recorder, plain):
        good(each)
    assert recorder.save(tmp_path / "one").scores.equals(plain.save(tmp_path / "other").scores)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_whole_numbers_of_any_width_are_labels(kind):
    recorder = Recorder()
    recorder.update(EVERY, LOGITS, TRUE.to(kind))
    recorder.update(EVERY[:0], LOGITS[:0], TRUE[:0])  # an empty batch is none
    assert recorder.history()["given_label"].to_list() == TRUE.tolist() and len(recorder.history()) == N


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on no CPU, as those of a GPU."""

    is_cpu = False


def test_on_another_device_values_are_looked_at_after_some_updates():
    recorder = Recorder(examples=N)
    good(recorder)
    wrong = LOGITS.as_subclass(Elsewhere), torch.where(EVERY == 4, 9, TRUE).as_subclass(Elsewhere)
    recorder.update(EVERY, *wrong)
    assert len(recorder._waiting) == 2
    with pytest.raises(UnseenError, match="label 9 of example 4"):
        recorder.history()
    assert len(recorder.history()) == N  # without that batch


def test_halves_of_other_examples_than_recorded(tmp_path):
    """Recorded: 0 to 19. Measured: 10 to 23. All 20 have a row, 10 of them without halves, and a line says it."""
    torch.manual_seed(0)
    net, x, recorder = unseen.TurnOverNet(unseen.mlp(8, (16,), 3)), torch.randn(N, 8), Recorder(examples=N)
    some = EVERY[:20]
    for epoch in range(2):
        recorder.update(some, net(x[some], some), TRUE[some])
        measured = EVERY if epoch == 0 else EVERY[10:]
        recorder.end_epoch(unseen.measure_batches(net, [(x[measured], TRUE[measured], measured)]))
    with pytest.warns(UserWarning) as caught:
        run = recorder.save(tmp_path / "run")
    lines = [str(warning.message) for warning in caught]
    assert [line.split(":")[0] for line in lines] == [
        "4 of 24 examples never came, the first 20",
        "The halves of 10 of 20 recorded examples were not measured",
    ]
    scores = run.scores
    assert scores["index"].to_list() == some.tolist() and scores["cumulative_loss"].is_not_null().all()
    halves = ["memorization", "loss_seen", "loss_unseen", "predicted_unseen", "label_score", "is_label_issue", "predicted_label"]
    for name in halves:
        assert scores[name].is_null().to_list() == [True] * 10 + [False] * 10, name
    chances = run.table("unseen_probabilities")
    assert chances["index"].to_list() == list(range(10, 20))
    assert run.summary["not_measured"] == 10 and run.summary["never_recorded"] == 4 and run.summary["trained"] == 20
    whole = Recorder()  # the slow twin of what was measured: recorded and measured alone
    rest = EVERY[10:20]
    for _ in range(2):
        whole.update(rest, net(x[rest], rest), TRUE[rest])
        whole.end_epoch(unseen.measure_batches(net, [(x[rest], TRUE[rest], rest)]))
    twin = whole.save(tmp_path / "twin")
    same = ["memorization", "label_score", "loss_unseen", "loss_full"]
    assert (scores.tail(10).select(same) - twin.scores.select(same)).to_numpy() == pytest.approx(0, abs=1e-6)
    assert run.summary["accuracy_unseen"] == twin.summary["accuracy_unseen"]
    assert main(["show", str(run.path)]) == 0


def test_a_sampler_with_replacement_has_a_row_for_every_example_that_came(tmp_path):
    loop, recorder = Loop(epochs=2), Recorder()
    loop.net = unseen.TurnOverNet(unseen.mlp(64, (16,), 10))
    torch.manual_seed(0)
    loader = DataLoader(loop.dataset, 32, sampler=RandomSampler(loop.dataset, replacement=True))
    came = []
    for _ in range(2):
        for x, labels, index in loader:
            recorder.update(index, loop.net(x, index), labels)
            came.append(index)
        recorder.end_epoch(unseen.measure_batches(loop.net, loader))
    with pytest.warns(UserWarning) as caught:
        run = recorder.save(tmp_path / "run")
    assert "recorded examples were not measured" in str(caught[0].message)
    assert run.scores["index"].to_list() == torch.cat(came).unique().tolist()
    assert run.scores["memorization"].null_count() == run.summary["not_measured"] > 0


def test_names_that_are_too_few_are_refused_before_anything_is_written_and_the_recorder_goes_on(tmp_path):
    recorder = Recorder()
    good(recorder)
    for options, message in (({"ids": ["a"] * 23}, "23 ids, and example 23"), ({"classes": ["x", "y"]}, "2 names of classes for 3")):
        with pytest.raises(UnseenError, match=message):
            recorder.save(tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
    good(recorder)
    run = recorder.save(tmp_path / "run", ids=[f"photo {i}" for i in range(N)], classes=["x", "y", "z"])
    assert run.scores["id"][23] == "photo 23" and len(run.history) == 2 * N


def test_examples_that_never_came_are_said_and_the_others_are_saved(tmp_path):
    recorder = Recorder(examples=N)
    good(recorder, EVERY[4:])
    with pytest.warns(UserWarning, match="4 of 24 examples never came, the first 0"):
        assert len(recorder.save(tmp_path / "run").scores) == 20


def test_a_recorded_network_has_head_scores_of_the_forwards_that_train(tmp_path):
    loop = Loop(epochs=2, shuffle=False)
    recorder = Recorder(examples=200, net=loop.net)
    features = []
    handle = loop.net.output.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].detach().clone()))
    loop.run(recorder, mark=True)
    handle.remove()
    resumed = Recorder(examples=200, net=loop.net)
    resumed.load_state_dict(recorder.state_dict())
    scores, again = recorder.save(tmp_path / "heads").scores, resumed.save(tmp_path / "again").scores
    rows = len(features) // 2
    twin = head_scores(torch.cat(features[rows:]), torch.as_tensor(scores["given_label"].to_list()), torch.ones(200, dtype=torch.bool), 10)
    assert torch.allclose(torch.as_tensor(scores["head_loss"].to_list()), twin["head_loss"], atol=1e-5)
    assert again.equals(scores)


def test_a_recorder_says_why_it_has_no_head_scores(tmp_path):
    loop = Loop(epochs=1)
    recorder = Recorder(net=loop.net)
    loop.run(recorder)
    run = recorder.save(tmp_path / "never")
    assert "end_epoch" in run.summary["no_head"] and "head_loss" not in run.scores.columns
