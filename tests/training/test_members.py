"""Many networks at once are the networks one by one, and what is made of them is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score
from torch import nn

import unseen
from reference_members import losses_of, train_one
from unseen import Config, UnseenError, load
from unseen.data import noise
from unseen.judge import retraining as truth_module
from unseen.judge.evaluation import spearman
from unseen.judge.retraining import ceiling, leave_one_out, reliability, retrain
from unseen.judge.retraining import subset_truth as truth
from unseen.runs.run import Run
from unseen.training.members import Members, members_losses, membership, new_members, small, train_members
from unseen.training.processes import make_fabric
from unseen.training.samples import two_samples
from unseen.training.wide import linear_layers, principal_axes

CONFIG = Config.of(hidden=(24,), epochs=3, lr=0.1, momentum=0.9, batch_size=32, precision="32").resolved()


@pytest.fixture(scope="module")
def examples():
    return load("digits", limit=150)


@pytest.fixture(scope="module")
def corrupted():
    return noise.random_labels(load("digits", limit=300), 30, seed=0, avoid_true=True)


def conv_net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize("fraction", [0.5, 0.7, 0.05])
def test_every_example_is_in_exactly_its_share_of_the_members(fraction):
    member = membership(torch.arange(500), seed=3, members=20, fraction=fraction)
    assert member.shape == (20, 500) and (member.sum(0) == round(20 * fraction)).all()
    assert abs(float(member.float().mean(1).std())) < 0.05  # members differ in size by chance alone


def test_membership_depends_on_nothing_but_seed_and_index():
    index = torch.arange(1000)
    whole, some = membership(index, 0, 10, 0.7), torch.tensor([7, 999, 3])
    assert torch.equal(membership(some, 0, 10, 0.7), whole[:, some])
    assert not torch.equal(membership(index, 1, 10, 0.7), whole)
    assert len(torch.unique(whole.T, dim=0)) > 110  # of C(10, 7) = 120


@pytest.mark.parametrize(("members", "fraction"), [(10, 0.01), (10, 0.99), (1, 0.5)])
def test_membership_without_both_sides_is_refused(members, fraction):
    with pytest.raises(UnseenError, match="more members"):
        membership(torch.arange(5), 0, members, fraction)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden": (24, 16), "schedule": "cosine"},
        {"batch_size": 4, "momentum": 0.0},  # some members have batches without any of their examples
        {"weight_decay": 0.01, "output_bias": False},
        {"optimizer": "adam", "lr": 0.001},
    ],
)
def test_members_are_the_networks_trained_one_by_one(examples, changes, wide):
    config, train = CONFIG.change(**changes), examples.train
    member = membership(train.index, 0, 5, 0.4)
    last = list(train_members(new_members(config.network, examples, range(5)), train, config.training, member, 7, wide=wide))[-1]
    found = members_losses(last.members(), examples)
    for k in range(5):
        net = new_members(config.network, examples, [k]).shell[0]
        history = train_one(net, train, config.training, member[k], 7)
        torch.testing.assert_close(last.losses[k], history[-1], rtol=2e-3, atol=2e-4)
        torch.testing.assert_close(found[k], losses_of(net, examples), rtol=2e-3, atol=2e-4)  # also on inputs never trained on
        state = last.members().member(k)
        assert all(torch.allclose(state[name], value, atol=1e-4) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wide", [True, False])
def test_members_go_on_from_any_epoch_to_the_same_bits(examples, wide):
    train, member = examples.train, membership(examples.train.index, 0, 5, 0.4)
    fresh = lambda: new_members(CONFIG.network, examples, range(5))
    states = []
    for epoch in train_members(fresh(), train, CONFIG.training, member, 7, wide=wide):
        states.append(epoch.state())
    again = list(train_members(fresh(), train, CONFIG.training, member, 7, wide=wide, state=states[0], done=1))
    assert [one.number for one in again] == [2, 3] and torch.equal(again[-1].losses, epoch.losses)
    resumed, whole = again[-1].members().weights, epoch.members().weights
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("augment", [False, True])
def test_members_of_any_other_network_too(examples, augment):
    config, train = CONFIG.change(augment=augment, epochs=2), examples.train
    member = membership(train.index, 0, 4, 0.5)
    members = new_members(config.network, examples, range(4), conv_net())
    last = list(train_members(members, train, config.training, member, 7))[-1]
    for k in range(4):
        net = new_members(config.network, examples, [k], conv_net()).shell[0]
        history = train_one(net, train, config.training, member[k], 7)
        torch.testing.assert_close(last.losses[k], history[-1], rtol=1e-3, atol=1e-4)


def test_convolutions_one_by_one_are_the_batched_ones(examples):
    net = nn.Sequential(conv_net()[:2], nn.BatchNorm2d(4), *conv_net()[2:])
    members = new_members(CONFIG.network, examples, range(3), net)
    x = examples.batch(torch.arange(20))[0]
    results = []
    for in_turn in (True, False):
        members.in_turn = in_turn
        members.zero_grad()
        logits = members(x)
        logits.square().sum().backward()
        results.append([logits, *(weight.grad.clone() for weight in members.stacked)])
    for one_by_one, batched in zip(*results, strict=True):
        torch.testing.assert_close(one_by_one, batched, rtol=1e-3, atol=1e-4)
    assert int(members.state["1.num_batches_tracked"].min()) == 2


def test_unseen_probabilities_are_those_of_the_members_without(examples):
    config, train = CONFIG.change(epochs=1, batch_size=150), examples.train
    members, member = new_members(config.network, examples, range(6)), membership(examples.train.index, 0, 6, 0.5)
    expected = members(train.batch(torch.arange(150))[0]).softmax(2).detach()  # one batch: before the only step
    (only,) = train_members(members, train, config.training, member, 0)
    for i in (0, 77, 149):
        torch.testing.assert_close(only.unseen_probabilities[i], expected[~member[:, i], i].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wide", [True, False])
def test_members_predict_examples_that_they_do_not_train_on(examples, wide):
    train, other = examples.train.select(range(100)), examples.train.select(range(100, 110))
    config = CONFIG.change(epochs=2).training
    member = membership(train.index, 0, 4, 0.5)
    *_, last = train_members(new_members(CONFIG.network, train, range(4)), train, config, member, 0, wide=wide)
    found = [last.predict(part) for part in (train, other)]
    expected = [last.members()(part.batch(torch.arange(len(part)))[0]).log_softmax(2) for part in (train, other)]
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=2e-2 if wide else 1e-4, rtol=1e-4)  # off the axes of the trained


def test_each_member_starts_as_it_would_alone(examples):
    members = new_members(CONFIG.network, examples, [3, 8])
    alone = new_members(CONFIG.network, examples, [8]).shell[0].state_dict()
    assert all(torch.equal(members.member(1)[name], value) for name, value in alone.items())
    assert not torch.equal(members.weights["hidden1.weight"][0], members.weights["hidden1.weight"][1])


def test_bf16_learns_as_float32_does(corrupted):
    losses = []
    for precision in ("32", "bf16"):
        config = CONFIG.change(precision=precision, epochs=10)
        member = membership(corrupted.train.index, 0, 8, 0.7)
        members = new_members(config.network, corrupted, range(8))
        last = list(train_members(members, corrupted.train, config.training, member, 0, make_fabric(1, precision)))[-1]
        losses.append(last.losses.mean(0).numpy())
    assert np.corrcoef(losses)[0, 1] > 0.98 and abs(losses[0].mean() / losses[1].mean() - 1) < 0.1


def test_principal_axes_keep_the_inputs():
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random)
    inputs = draw(200, 5) * torch.tensor([3.0, 3, 3, 3, 0.5]) @ torch.linalg.qr(draw(30, 5))[0].T
    axes = principal_axes(inputs, torch.float32)
    assert axes.shape == (30, 5)
    torch.testing.assert_close(inputs @ axes @ axes.T, inputs, rtol=1e-4, atol=1e-4)
    fewer = principal_axes(inputs, torch.float32, lost=0.1)
    rest = inputs - inputs @ fewer @ fewer.T
    assert fewer.shape[1] == 4 and float((rest**2).sum() / (inputs**2).sum()) <= 0.1


def test_only_plain_mlps_take_the_fast_path(examples):
    assert linear_layers(new_members(CONFIG.network, examples, [0]).shell[0]) == ["hidden1", "output"]
    assert linear_layers(conv_net()) is None
    assert linear_layers(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))) is None
    assert linear_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU())) is None
    assert linear_layers(nn.Linear(3, 4)) is None


def test_buffers_belong_to_each_member():
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2)]
    members = Members(nets).train()
    members(torch.arange(32.0).view(8, 4))
    assert members.state["2.running_mean"].shape == (2, 3)
    assert not torch.equal(members.state["2.running_mean"][0], members.state["2.running_mean"][1])


def test_a_loss_that_is_not_finite_names_member_and_epoch(examples):
    config = CONFIG.change(lr=1e30)
    member = membership(examples.train.index, 0, 4, 0.5)
    with pytest.raises(UnseenError, match=r"member \d+ .* epoch 1"):
        list(train_members(new_members(config.network, examples, range(4)), examples.train, config.training, member, 0))


def test_two_samples_is_welchs_test():
    random = np.random.default_rng(0)
    values, member = random.normal(size=(12, 30)), random.random((12, 30)) < 0.6
    member[:2], member[2:4] = True, False
    found = two_samples(values, member)
    for i in range(30):
        expected = ttest_ind(values[~member[:, i], i], values[member[:, i], i], equal_var=False)
        assert found.gap[i] / found.standard_error[i] == pytest.approx(expected.statistic)
        assert found.degrees[i] == pytest.approx(expected.df)


def test_a_truth_says_what_it_cannot_know(examples):
    assert reliability(np.random.default_rng(0).normal(size=(4, 50)), membership(torch.arange(50), 0, 4, 0.7).numpy()) is None
    with pytest.warns(UserWarning, match=r"mean loss of .* nats on the very examples .* guessing among 10 classes has 2\.303"):
        truth(examples, CONFIG.change(lr=3.0, epochs=1), members=4, fraction=0.5)


def test_reliability_is_the_correlation_with_as_many_new_members():
    random = np.random.default_rng(1)
    effect = random.normal(size=2000)
    draw = lambda: random.normal(size=(60, 2000)) * 2
    member = membership(torch.arange(2000), 0, 60, 0.5).numpy()
    values = [draw() - effect * member for _ in range(2)]
    again = np.corrcoef([two_samples(some, member).gap for some in values])[0, 1]
    assert reliability(values[0], member) == pytest.approx(again, abs=0.04)


def test_no_estimator_passes_the_ceiling_and_a_perfect_one_reaches_it():
    random = np.random.default_rng(2)
    effect = random.normal(size=4000)
    member = membership(torch.arange(4000), 0, 40, 0.5).numpy()
    values = random.normal(size=(40, 4000)) * 3 - effect * member
    known = reliability(values, member)
    reached = spearman(effect, two_samples(values, member).gap, 1).value
    assert reached == pytest.approx(ceiling(known), abs=0.03) and reached > known + 0.1
    assert ceiling(None) is None and ceiling(-0.1) == 0


def test_truth_finds_wrong_labels_and_a_stopped_one_goes_on(corrupted, tmp_path, monkeypatch):
    config = CONFIG.change(epochs=12)
    run, done = Run(tmp_path), []
    whole, facts = truth(corrupted, config, members=24, fraction=0.7)
    wrong = (corrupted.train.labels != corrupted.train.true_labels).numpy()
    assert roc_auc_score(wrong, whole["memorization"].to_numpy()) > 0.95
    assert 0.3 < facts["reliability_correct"] < facts["reliability"] <= 1
    assert whole["index"].to_list() == corrupted.train.index.tolist()

    def stop(count):
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        truth(corrupted, config, members=24, run=run, progress=stop)
    assert len(list((tmp_path / "weights").glob("truth-*/*.safetensors"))) == 2
    resumed, _ = truth(corrupted, config, members=24, run=run)
    assert resumed.equals(whole)
    monkeypatch.setattr(truth_module, "train_members", None)  # nothing is trained again
    losses, member = retrain(corrupted, config, members=24, run=run)
    assert losses.shape == (24, len(corrupted)) and member.shape == (24, 300)


@pytest.mark.parametrize("change", ["labels", "inputs", "index", "split"])
def test_chunks_of_other_examples_are_never_mixed(examples, tmp_path, change):
    """The same configuration and seed in the same run: each set of examples has chunks of its own."""
    config, run = CONFIG.change(epochs=1), Run(tmp_path)
    others = {
        "labels": lambda: replace(examples, labels=examples.labels.flip(0)),
        "inputs": lambda: replace(examples, inputs=torch.cat([examples.inputs[:-1], examples.inputs[-1:] + 1])),
        "index": lambda: replace(examples, index=examples.index + 1000),
        "split": lambda: examples.joined(),
    }
    changed = others[change]()
    for each in (examples, changed):
        assert torch.equal(retrain(each, config, 6, run=run, chunk=3)[0], retrain(each, config, 6, chunk=3)[0])
    assert len(list((tmp_path / "weights").glob("truth-*"))) == 2
    for each in (examples, changed):
        again = leave_one_out(each, config, [5], seeds=[0], run=run)
        assert again.equals(leave_one_out(each, config, [5], seeds=[0]))


def test_processes_share_the_chunks(examples, tmp_path):
    config, run = CONFIG.change(epochs=1), Run(tmp_path)
    real = make_fabric(1, "32")

    class Process:
        device, world_size, autocast, _precision = real.device, 2, real.autocast, real._precision

        def __init__(self, rank, barrier=lambda: None):
            self.global_rank, self.barrier = rank, barrier

    results = []
    other = Process(1, lambda: results.append(retrain(examples, config, 12, run=run, chunk=3, fabric=Process(0, lambda: None))))
    first, _ = retrain(examples, config, 12, run=run, chunk=3, fabric=other)
    alone, _ = retrain(examples, config, 12, chunk=3)
    assert torch.equal(first, alone) and torch.equal(results[0][0], alone)
    with pytest.raises(UnseenError, match="run folder"):
        retrain(examples, config, 12, chunk=3, fabric=other)


def test_leaving_one_out_is_training_without_it(examples):
    table = leave_one_out(examples, CONFIG, [5, 60], seeds=[0, 1], chunk=2)
    assert table["index"].to_list() == examples.train.index[[5, 60]].tolist() and table["memorization_se"].null_count() == 0
    order = truth_module.key(0, "order")
    only = leave_one_out(examples, CONFIG, [5], seeds=[0])
    gaps = []
    for inside in (torch.ones(150, dtype=torch.bool), torch.arange(150) != 5):
        net = new_members(CONFIG.network, examples, [0]).shell[0]
        train_one(net, examples.train, CONFIG.training, inside, order)
        gaps.append(float(losses_of(net, examples.train)[5]))
    assert only["memorization"][0] == pytest.approx(gaps[1] - gaps[0], abs=1e-4)
    assert only["memorization_se"].to_list() == [None]
    with pytest.raises(UnseenError, match=r"\[150\]"):
        leave_one_out(examples, CONFIG, [150])


def test_members_score_wrong_labels_with_their_uncertainty(corrupted, tmp_path):
    options = {"estimator": "members", "hidden": (96,), "epochs": 10, "lr": 0.1, "momentum": 0.9, "batch_size": 32, "precision": "32"}
    run = unseen.score(corrupted, members=32, out=tmp_path / "few", **options)
    table, probabilities = run.scores, run.probabilities()
    wrong = (corrupted.train.labels != corrupted.train.true_labels).numpy()
    for column in ("memorization", "memorization_mean", "unseen_loss_mean", "full_loss_mean"):
        assert roc_auc_score(wrong, table[column].to_numpy()) > 0.93
    assert probabilities.shape == (300, 10) and np.allclose(probabilities.sum(1), 1, atol=1e-3)
    assert (probabilities.argmax(1) == corrupted.train.true_labels.numpy()).mean() > 0.85
    others = unseen.score(corrupted, members=200, seed=1, out=tmp_path / "many", **options).scores  # what the interval speaks of
    inside = (table["memorization_low"] < others["memorization"]) & (others["memorization"] < table["memorization_high"])
    assert 0.75 < inside.mean() < 0.97


def test_the_estimators_members_are_small():
    config = small(Config.of(hidden=(512,), lr=0.05, momentum=0.9, batch_size=64, epochs=30).resolved(), 5000)
    assert (config.network.hidden, config.training.batch_size) == ((128,), 250) and config.training.lr == pytest.approx(0.147, abs=1e-3)
    assert small(config.change(epochs=4), 5000).training.batch_size == 250  # few steps anyway: no larger batches
    assert small(config.change(batch_size=64, epochs=1000), 1403).training.batch_size == 176  # 175 would leave a batch of 3
    assert small(config, 400).training.batch_size == 200
    for model in ("vgg11", "resnet10"):
        deep = small(Config.of(model=model, width=0.5, batch_size=64).resolved(), 5000)
        assert (deep.network.width, deep.training.batch_size, deep.members.members) == (0.25, 64, 8)


def test_members_need_no_room_for_masks(tmp_path):
    run = unseen.score(
        "digits", "vgg11", width=0.125, estimator="members", members=2, fraction=0.5, epochs=1, limit=40, out=tmp_path / "run"
    )
    assert run.scores["memorization"].is_finite().all()


def test_transformers_at_once_are_the_transformers_one_by_one():
    """A graphics card takes the first way, a CPU the second."""
    examples = load("digits").train.select(torch.arange(16))
    members = new_members(Config.of(model="cct2").resolved().network, examples, [1, 2])
    x, found = examples.batch(torch.arange(16))[0], []
    for members.in_turn in (False, True):
        logits = members(x)
        logits.square().sum().backward()
        found.append([logits.detach(), *(value.grad.clone() for value in members.stacked)])
        members.zero_grad()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
