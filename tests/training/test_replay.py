"""Steps that stay on the device, run on the CPU, against ``torch.optim.SGD`` called step by step."""

import copy

import pytest
import torch

from unseen.config import Config
from unseen.data import load
from unseen.scoring.estimators import ESTIMATORS
from unseen.training import epoch_order, get_state, make_fabric, make_optimizer, take_steps
from unseen.training.loop import learning_rate
from unseen.training.replay import Replay

STEPS = 6


def config(**options):
    return Config.of(hidden=(32,), batch_size=32, epochs=4, lr=0.1, precision="32", **options).resolved()


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.01, "schedule": "onecycle"}])
@pytest.mark.parametrize("estimator", ["turnover", "plain"])
def test_replayed_steps_are_those_of_sgd(options, estimator):
    settings, examples = config(**options), load("digits").train.select(torch.arange(32 * STEPS))
    one = ESTIMATORS[estimator].network(settings, examples, "mlp", 0)
    networks, losses, states = (one, copy.deepcopy(one)), [], []
    for net, replayed in zip(networks, (False, True), strict=True):
        fabric = make_fabric(1, "32")
        model, optimizer = fabric.setup(net, make_optimizer(net, settings.training))
        replay = Replay(model, optimizer, examples, settings.training, fabric) if replayed else None
        for epoch in (1, 2):
            if replay is None:
                losses.append(take_steps(model, optimizer, examples, settings.training, 0, epoch, (0, STEPS), fabric))
            else:
                rates = torch.tensor([learning_rate(settings.training, epoch - 1 + step / STEPS) for step in range(STEPS)])
                losses.append(replay.take(epoch_order(examples.index, 0, epoch), rates))
        states.append(get_state(net, optimizer))
    torch.testing.assert_close(torch.cat(losses[:2]), torch.cat(losses[2:]), rtol=1e-5, atol=1e-6)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5)


def test_other_examples_or_batches_are_not_those_captured():
    settings, examples = config(), load("digits").train.select(torch.arange(64))
    net = ESTIMATORS["plain"].network(settings, examples, "mlp", 0)
    replay = Replay(net, make_optimizer(net, settings.training), examples, settings.training, make_fabric(1, "32"))
    assert replay.fits(examples, settings.training)
    assert not replay.fits(examples.select(torch.arange(64).flip(0)), settings.training)
    assert not replay.fits(examples, settings.change(batch_size=16).training)


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing():
    training = config(schedule="onecycle").change(epochs=10).training
    rates = [learning_rate(training, epoch / 10) for epoch in range(101)]
    top = max(range(101), key=rates.__getitem__)
    assert top == 30 and rates[top] == pytest.approx(0.1) and rates[0] == pytest.approx(0.004) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
