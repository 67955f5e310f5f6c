"""Differential privacy as a check: what the audit shows stays below what DP-SGD states, and passes it without noise."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import binom, norm
from torch import nn
from torch.nn import functional as F

from unseen.errors import UnseenError
from unseen.privacy import Shadows, Targets, attack_scores, epsilon_lower_bound

DELTA, STEPS, RATE, RECORDS, HIDDEN = 1e-5, 60, 2.0, 20, 8
SHADOWS, TRIALS = 20, 120
NOISE = math.sqrt(STEPS) / 0.35
"""Standard deviation over the clipping norm, so that all steps together are 0.35-GDP."""


def gaussian_epsilon(noise, steps, delta):
    """Exact for full batches: steps Gaussian mechanisms are mu-GDP with mu = sqrt(steps) / noise (Dong, Roth & Su 2022, corollary 2.13)."""
    mu = math.sqrt(steps) / noise
    return brentq(lambda e: norm.cdf(-e / mu + mu / 2) - math.exp(e) * norm.cdf(-e / mu - mu / 2) - delta, 0, 100)


def records():
    """Digits, of which the first has a wrong label: what stands out is found most easily. The networks differ in it alone."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data[:RECORDS] / 16, dtype=torch.float32), torch.tensor(data.target[:RECORDS])
    y[0] = (y[0] + 5) % 10
    return x, y


def network():
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10))


def start(count):
    """Weights of many networks, stacked."""
    torch.manual_seed(0)
    parts = [dict(network().named_parameters()) for _ in range(count)]
    return {name: torch.stack([part[name].detach() for part in parts]) for name in parts[0]}


def own_training(inside, clip, noise):
    """DP-SGD (Abadi et al. 2016) of a network per row of inside, in full batches: per-example gradients, clipped, summed, with noise."""
    x, y = records()
    weights, shell = start(len(inside)), network()

    def loss(w, example, label):
        return F.cross_entropy(torch.func.functional_call(shell, w, example[None]), label[None])

    per_example = torch.func.vmap(torch.func.vmap(torch.func.grad(loss), (None, 0, 0)), (0, None, None))
    random = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        gradients = per_example(weights, x, y)
        norms = sum(g.flatten(2).square().sum(2) for g in gradients.values()).sqrt()
        scale = inside * (clip / norms).clamp(max=1)
        for name, g in gradients.items():
            total = torch.einsum("kn,kn...->k...", scale, g)
            total += noise * clip * torch.randn(total.shape, generator=random) if noise else 0
            weights[name] -= RATE / RECORDS * total
    return torch.func.vmap(lambda w: torch.func.functional_call(shell, w, x))(weights)


def opacus_training(inside, clip, noise):
    """The same by Opacus, and the epsilon that it states."""
    opacus = pytest.importorskip("opacus", reason="Opacus is not installed (pip install opacus)")
    x, y = records()
    weights, found, stated = start(len(inside)), [], 0.0
    for number, row in enumerate(inside):
        net = network()
        net.load_state_dict({name: values[number] for name, values in weights.items()})
        data = torch.utils.data.TensorDataset(x[row], y[row])
        optimizer = torch.optim.SGD(net.parameters(), RATE * len(data) / RECORDS)  # Opacus divides by the batch
        engine = opacus.PrivacyEngine(accountant="prv")
        private, optimizer, loader = engine.make_private(
            module=net, optimizer=optimizer, data_loader=torch.utils.data.DataLoader(data, len(data)), noise_multiplier=noise,
            max_grad_norm=clip, poisson_sampling=False, noise_generator=torch.Generator().manual_seed(number),
        )  # fmt: skip
        for _ in range(STEPS):
            for inputs, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(private(inputs), labels).backward()
                optimizer.step()
        stated = stated or engine.get_epsilon(DELTA)
        found.append(net(x).detach())
    return torch.stack(found), stated


def memberships(count):
    inside = torch.ones(count, RECORDS, dtype=torch.bool)
    inside[::2, 0] = False
    return inside


def shown(logits, inside, shadows):
    """The epsilon that LiRA shows of the first record, by shadows on the networks behind them."""
    from unseen.privacy import log_odds_of_logits

    label = records()[1][:1].expand(len(logits)).numpy()
    odds = log_odds_of_logits(logits[:, 0].numpy(), label, 10)[:, None]
    member = inside[:, :1].numpy()
    known = Shadows(odds[:shadows], member[:shadows]), Targets(odds[shadows:], member[shadows:])
    scores = np.concatenate([part["lira_online"] for _, part in attack_scores(*known, attacks=("lira_online",))], 1)
    return epsilon_lower_bound(scores[:, 0], member[shadows:, 0], DELTA)


def test_what_the_audit_shows_is_below_what_private_training_states():
    inside = memberships(SHADOWS + TRIALS)
    stated = gaussian_epsilon(NOISE, STEPS, DELTA)
    assert 1 < stated < 2
    assert shown(own_training(inside, 1.0, NOISE), inside, SHADOWS) <= stated
    assert shown(own_training(inside, math.inf, 0.0), inside, SHADOWS) > stated


@pytest.mark.filterwarnings("ignore")
def test_opacus_keeps_what_it_states():
    inside = memberships(SHADOWS + TRIALS)
    logits, stated = opacus_training(inside, 1.0, NOISE)
    assert gaussian_epsilon(NOISE, STEPS, DELTA) == pytest.approx(stated, rel=0.1)
    assert shown(logits, inside, SHADOWS) <= stated
    assert shown(own_training(inside, math.inf, 0.0), inside, SHADOWS) > stated


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_the_bound_holds_as_often_as_it_says_and_is_not_idle(epsilon):
    """Randomised response is the test that (epsilon, 0) just allows."""
    random, truth = np.random.default_rng(0), math.exp(epsilon) / (1 + math.exp(epsilon))
    inside = np.arange(400) % 2 == 0
    bounds = np.array([epsilon_lower_bound((inside == (random.random(400) < truth)) * 1.0, inside, 0.0) for _ in range(200)])
    assert (bounds > epsilon).mean() <= 0.05
    assert not epsilon or np.median(bounds) > 0.5 * epsilon
    assert binom.sf((bounds > epsilon).sum() - 1, 200, 0.05) > 0.001


def test_a_perfect_attack_shows_as_much_as_its_trials_allow():
    inside = np.arange(200) % 2 == 0
    assert epsilon_lower_bound(inside * 1.0, inside, 0.0) == pytest.approx(
        math.log((0.025 ** (1 / 50)) / (1 - 0.025 ** (1 / 50))), rel=1e-6
    )
    assert epsilon_lower_bound(inside * 1.0, inside, 0.0) == pytest.approx(math.log(50 / 3.7), abs=0.1)
    assert epsilon_lower_bound(np.zeros(200), inside) == 0


def test_bad_trials_have_their_own_line():
    inside = np.arange(60) % 2 == 0
    for message, call in {
        "must be .trials,., both": lambda: epsilon_lower_bound(np.zeros(3), inside),
        "no score NaN": lambda: epsilon_lower_bound(np.full(60, np.nan), inside),
        "10 trials with the record and 50": lambda: epsilon_lower_bound(np.zeros(60), np.arange(60) < 10),
        "delta is 2": lambda: epsilon_lower_bound(np.zeros(60), inside, 2.0),
    }.items():
        with pytest.raises(UnseenError, match=message):
            call()
