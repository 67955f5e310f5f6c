import dataclasses

import pytest
import torch
from torch.nn import functional as F

import unseen
from small_runs import new_net
from unseen import Config, TurnOverNet, UnseenError
from unseen.data.splits import null_mask
from unseen.training.loop import epoch_order, get_state, learning_rate, train

CONFIG = Config.of(hidden=(32,), epochs=3, lr=0.1, batch_size=64, precision="32", estimator="turnover").resolved()
SMALL = CONFIG.training


def states(examples, config, **options):
    net = new_net(CONFIG, examples, "mlp", 0)
    return [epoch.state for epoch in train(net, examples.train, config, 0, **options)]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9}, {"optimizer": "adam", "lr": 0.001}, {"schedule": "cosine"}])
def test_a_resumed_run_is_bit_identical(digits, changes):
    config = dataclasses.replace(SMALL, **changes)
    whole = states(digits, config)
    stopped = states(digits, dataclasses.replace(config, epochs=1) if config.schedule != "cosine" else config)[0]
    assert same(stopped, whole[0])
    net = new_net(CONFIG, digits, "mlp", 99)  # other weights: all must come from the state
    masks = new_net(CONFIG, digits, "mlp", 0)
    masks.net.load_state_dict(net.net.state_dict())
    resumed = [epoch.state for epoch in train(masks, digits.train, config, 0, state=stopped, done=1)]
    assert same(resumed[-1], whole[-1])


def test_equals_a_plain_loop(digits):
    config = dataclasses.replace(SMALL, epochs=1, momentum=0.5)
    fast = states(digits, config)[-1]
    net = new_net(CONFIG, digits, "mlp", 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    examples = digits.train
    for positions in epoch_order(examples.index, 0, 1).split(64):
        x, labels, index = examples.batch(positions)
        loss = F.cross_entropy(net(x, index, "seen"), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    slow = get_state(net, optimizer)
    for name in fast:
        torch.testing.assert_close(fast[name], slow[name])


def test_it_learns(digits):
    net = TurnOverNet(unseen.mlp(64, (128,), 10))
    losses = [epoch.loss for epoch in train(net, digits.train, dataclasses.replace(SMALL, epochs=5), 0)]
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        x, labels, _ = digits.test.batch(torch.arange(len(digits.test)))
        assert (net(x).argmax(1) == labels).float().mean() > 0.85


def test_the_order_is_a_permutation_that_a_subset_keeps(digits):
    index = digits.train.index
    order = epoch_order(index, 0, 1)
    assert torch.equal(order.sort().values, torch.arange(len(index)))
    assert not torch.equal(order, epoch_order(index, 0, 2)) and not torch.equal(order, epoch_order(index, 1, 1))
    part = index[::3]
    kept = [i for i in index[order].tolist() if i in set(part.tolist())]
    assert part[epoch_order(part, 0, 1)].tolist() == kept


def test_learning_rates():
    step = dataclasses.replace(SMALL, schedule="step", milestones=(2, 3), epochs=4, lr=1.0)
    assert [learning_rate(step, epoch) for epoch in (0, 1.99, 2, 3)] == [1.0, 1.0, 0.1, 0.01]
    cosine = dataclasses.replace(SMALL, schedule="cosine", epochs=4, lr=1.0)
    assert [round(learning_rate(cosine, epoch), 9) for epoch in (0, 2, 4)] == [1.0, 0.5, 0.0]


def test_null_examples_are_a_function_of_index():
    index = torch.arange(50_000)
    held_out = null_mask(index, 0.1, 0)
    assert abs(held_out.double().mean() - 0.1) < 0.01
    assert torch.equal(null_mask(index[100:200], 0.1, 0), held_out[100:200])


def test_a_loss_that_is_not_finite_names_epoch_and_batch(digits):
    with pytest.raises(UnseenError, match=r"epoch 1, batch \d+ of 22.*--lr"):
        states(digits, dataclasses.replace(SMALL, lr=1e30, momentum=0.9))


def test_augmentation_changes_training_and_is_repeatable(digits):
    config = dataclasses.replace(SMALL, epochs=1)
    augmented = [states(digits, dataclasses.replace(config, augment=True))[-1] for _ in range(2)]
    assert same(*augmented) and not same(augmented[0], states(digits, config)[-1])


def test_a_batch_of_one(digits):
    few = digits.select(torch.arange(5))
    assert states(few, dataclasses.replace(SMALL, batch_size=1, epochs=1))
