"""Members in blocks with orders of their own, and variances that are drawn to those of similar examples."""

import numpy as np
import pytest
import torch
from scipy.stats import t

import unseen
from unseen.config import Config
from unseen.errors import UnseenError
from unseen.training import Members, blocks_at, blocks_of, make_fabric, membership, new_members, train_blocks, train_members
from unseen.training.samples import ALIKE, FEWEST_ALIKE, PRIOR_DEGREES, moderated_samples, two_samples

CONFIG = Config.of(hidden=(16,), epochs=3, batch_size=32, lr=0.1, precision="32").resolved()
ROWS = [[0, 1], [2], [3, 4]]


@pytest.fixture(scope="module")
def examples():
    return unseen.load("digits", limit=120).train


def fresh(examples):
    member = membership(examples.index, 0, 5, 0.6)
    blocks = [new_members(CONFIG.network, examples, rows) for rows in ROWS]
    return blocks, [member[rows] for rows in ROWS], member


def test_blocks_are_members_trained_apart(examples):
    blocks, own, member = fresh(examples)
    fabric, seeds = make_fabric(1, "32"), [7, 8, 9]
    *_, last = train_blocks(blocks, examples, CONFIG.training, own, seeds, fabric)
    alone = [
        list(train_members(block, examples, CONFIG.training, mine, seed, fabric))[-1]
        for block, mine, seed in zip(fresh(examples)[0], own, seeds, strict=True)
    ]
    assert torch.equal(last.losses, torch.cat([each.losses for each in alone])) and last.losses.shape == (5, len(examples))
    assert torch.equal(last.correct, torch.cat([each.correct for each in alone]))
    losses = last.losses.double()
    for name, mine in {"seen": member, "unseen": ~member, "full": torch.ones_like(member)}.items():
        wanted = (losses * mine).sum(0) / mine.sum(0)
        assert torch.allclose(last.observed[f"loss_{name}"].double(), wanted, atol=1e-5)
    assert torch.allclose(last.unseen_probabilities.sum(1), torch.ones(len(examples)), atol=1e-5)
    networks = last.members()
    for number, row in enumerate(row for rows in ROWS for row in rows):
        block = next(place for place, rows in enumerate(ROWS) if row in rows)
        for name, value in alone[block].members().member(ROWS[block].index(row)).items():
            assert torch.allclose(networks.member(number)[name], value, atol=1e-6)
    assert len(networks) == 5 and torch.allclose(
        last.predict(examples), networks(examples.batch(torch.arange(120))[0]).log_softmax(2), atol=1e-4
    )


def test_a_stopped_training_goes_on_bit_for_bit(examples):
    fabric, seeds = make_fabric(1, "32"), [7, 8, 9]
    blocks, own, _ = fresh(examples)
    for epoch in train_blocks(blocks, examples, CONFIG.training, own, seeds, fabric):
        if epoch.number == 1:
            state = {name: value.clone() for name, value in epoch.state().items()}
    *_, last = train_blocks(fresh(examples)[0], examples, CONFIG.training, own, seeds, fabric, state=state, done=1)
    assert torch.equal(last.losses, epoch.losses)
    at_one = blocks_at(fresh(examples)[0], examples, CONFIG.training, state, fabric, 0.0)
    assert isinstance(at_one, Members) and len(at_one) == 5


def test_one_block_goes_on_too_and_an_older_state_is_refused(examples):
    fabric, (blocks, own, _) = make_fabric(1, "32"), fresh(examples)
    for epoch in train_blocks(blocks[:1], examples, CONFIG.training, own[:1], [7], fabric):
        if epoch.number == 1:
            state = {name: value.clone() for name, value in epoch.state().items()}
    *_, last = train_blocks(fresh(examples)[0][:1], examples, CONFIG.training, own[:1], [7], fabric, state=state, done=1)
    assert torch.equal(last.losses, epoch.losses)
    older = {name.removeprefix("block-0."): value for name, value in state.items()}
    with pytest.raises(UnseenError, match="whose members had one order of batches"):
        list(train_blocks(fresh(examples)[0][:1], examples, CONFIG.training, own[:1], [7], fabric, state=older, done=1))


def test_the_order_is_the_members_own_whoever_trains_it():
    whole = blocks_of(range(10), 10)
    assert sorted(place for places in whole.values() for place in places) == list(range(10)) and len(whole) == 4
    for processes in (2, 5):
        shares = [range(first, first + 10 // processes) for first in range(0, 10, 10 // processes)]
        again = {
            number: order for own in shares for order, places in blocks_of(own, 10).items() for number in (own[place] for place in places)
        }
        assert again == {number: order for order, places in whole.items() for number in places}
    assert set(blocks_of(range(2), 2)) == {0, 2}


def test_a_loss_that_explodes_names_the_member(examples):
    blocks, own, _ = fresh(examples)
    with torch.no_grad():
        blocks[2].stacked[0][1].fill_(float("nan"))
    with pytest.raises(UnseenError, match="The loss of member 4 became nan in epoch 1"):
        list(train_blocks(blocks, examples, CONFIG.training, own, [7, 8, 9], make_fabric(1, "32")))


def tailed(random, members, count):
    """Losses with rare large ones: each example's own rate and size of them; the true gap, and who had it."""
    rate, size = random.beta(0.5, 3, count), random.exponential(2, count)
    member = np.argsort(random.random((members, count)), 0) < round(0.7 * members)
    losses = 0.05 * random.exponential(1, (members, count)) + ~member * (random.random((members, count)) < rate) * size
    return losses, member, rate * size


def test_moderated_variances_are_those_of_the_formula():
    losses, member, _ = tailed(np.random.default_rng(0), 12, 300)
    found = moderated_samples(losses, member)
    plain = two_samples(losses, member)
    assert np.array_equal(found.seen, plain.seen) and np.array_equal(found.unseen, plain.unseen)
    width = max(FEWEST_ALIKE, round(ALIKE * 300))
    own = {side: [losses[chosen[:, i], i] for i in range(300)] for side, chosen in (("in", member), ("out", ~member))}
    order = sorted(range(300), key=lambda k: losses[:, k].mean())
    for i in range(0, 300, 29):
        errors, parts = 0.0, 0.0
        for samples in own.values():
            place = order.index(i)
            prior = np.mean([samples[k].var(ddof=1) for k in order[max(0, place - width) : place + width + 1]])
            degrees = PRIOR_DEGREES + len(samples[i]) - 1
            error = (PRIOR_DEGREES * prior + (len(samples[i]) - 1) * samples[i].var(ddof=1)) / degrees / len(samples[i])
            errors, parts = errors + error, parts + error**2 / degrees
        assert found.standard_error[i] == pytest.approx(np.sqrt(errors)) and found.degrees[i] == pytest.approx(errors**2 / parts)


@pytest.mark.parametrize("members", [16, 64])
def test_intervals_of_long_tailed_losses_hold_more_often_and_are_no_longer(members):
    losses, member, true = tailed(np.random.default_rng(1), members, 3000)
    held, widths = [], []
    for samples in (two_samples(losses, member), moderated_samples(losses, member)):
        half = t.ppf(0.95, samples.degrees) * samples.standard_error
        held.append((np.abs(samples.gap - true) <= half).mean())
        widths.append(half.mean())
    assert held[1] > held[0] + 0.01 and widths[1] < 1.05 * widths[0]


def test_one_member_on_a_side_takes_the_variance_of_the_others():
    losses, member, _ = tailed(np.random.default_rng(2), 8, 100)
    member[:, 0] = np.arange(8) == 3
    assert np.isnan(two_samples(losses, member).standard_error[0]) and np.isfinite(moderated_samples(losses, member).standard_error[0])
    member = np.repeat(np.arange(2)[:, None] == 0, 100, 1)
    assert np.isnan(moderated_samples(losses[:2], member).standard_error).all()
