"""What a run's tables must say, computed again from its weights and from each other: NumPy and plain PyTorch, no code of the package.

The package is asked for nothing but its inputs (``unseen.load``) and its half masks, which other tests hold against slow twins.
"""

from itertools import combinations, pairwise

import numpy as np
import torch
from safetensors.numpy import load_file

import unseen

FIRST_TENTH = 0.1
SLACK = 1e-6  # cleanlab's


def inputs(run, **options):
    """Index, standardised flat inputs (n, features) and given labels of all examples of a run on digits, by index."""
    data = unseen.load("digits", **options)
    x = data.batch(torch.arange(len(data)))[0].flatten(1).double().numpy()
    table = run.examples.sort("index")
    order = np.argsort(data.index.numpy())
    assert (data.index.numpy()[order] == table["index"].to_numpy()).all()
    return table["index"].to_numpy(), x[order], table["given_label"].to_numpy()


def layers(path, prefix="net."):
    """Weights and biases by layer, in order, float64, of a file of weights; of members with a first dimension more."""
    found = load_file(path)
    names = [name.removesuffix(".weight") for name in found if name.endswith(".weight") and name.startswith(prefix)]
    return [(found[f"{name}.weight"].astype(np.float64), found[f"{name}.bias"].astype(np.float64)) for name in sorted(names)]


def log_probabilities(logits):
    """(..., classes) to the same."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def halves(weights, x, mask):
    """Log-probabilities (n, classes) of the seen, the unseen and the full network of one hidden layer. mask: (n, units), of 0 and 2."""
    (first, first_bias), (last, last_bias) = weights
    hidden = np.maximum(x @ first.T + first_bias, 0)
    return [log_probabilities((hidden * factor) @ last.T + last_bias) for factor in (mask, 2 - mask, np.ones_like(mask))]


def half_masks(units, index, seed=0):
    return unseen.HalfMask(units, seed, 0)(torch.tensor(index.tolist())).double().numpy()


def members_say(weights, x):
    """Log-probabilities (members, n, classes) of networks with one hidden layer of tanh."""
    (first, first_bias), (last, last_bias) = weights
    hidden = np.tanh(np.einsum("kuf,nf->knu", first, x) + first_bias[:, None])
    return log_probabilities(np.einsum("kcu,knu->knc", last, hidden) + last_bias[:, None])


def memberships(losses, seen, unseen_, inside):
    """Who trained on what, bool (members, n): the one choice of ``inside`` members whose mean losses are those of both sides."""
    members, n = losses.shape
    best, found = np.full(n, np.inf), np.zeros((members, n), bool)
    for chosen in combinations(range(members), inside):
        inner = np.isin(np.arange(members), chosen)
        error = np.abs(losses[inner].mean(0) - seen) + np.abs(losses[~inner].mean(0) - unseen_)
        found = np.where(error < best, inner[:, None], found)
        best = np.minimum(best, error)
    assert best.max() < 1e-3, best.max()
    return found


def mean_over(values, chosen):
    """Mean over the chosen members: (members, n, ...) and bool (members, n)."""
    weights = chosen.reshape(chosen.shape + (1,) * (values.ndim - 2))
    return (values * weights).sum(0) / weights.sum(0)


def early(epochs):
    """How many of so many epochs are the first tenth: rounded, at least one."""
    return max(1, round(FIRST_TENTH * epochs))


def forgotten(correct):
    """Events of right turning wrong, of one network: correct bool (epochs, n); epochs + 1 where it was never right."""
    events = np.zeros(correct.shape[1])
    for before, now in pairwise(correct):
        events += before & ~now
    return np.where(correct.any(0), events, len(correct) + 1)


def label_issues(probabilities, labels, trained):
    """Confident learning (Northcutt et al. 2021) example by example: thresholds from the trained rows, verdicts on all."""
    classes = probabilities.shape[1]
    thresholds = [probabilities[trained & (labels == c), c].mean() if (trained & (labels == c)).any() else np.inf for c in range(classes)]
    verdicts = []
    for row, label in zip(probabilities, labels, strict=True):
        candidates = [c for c in range(classes) if row[c] >= max(thresholds[c], 2 * SLACK) - SLACK]
        guess = row.argmax() if len(candidates) > 1 else candidates[0] if candidates else label
        verdicts.append(guess != label and row.argmax() != label)
    return np.array(verdicts)


def q_values(gaps, null):
    """Benjamini & Hochberg (1995) on empirical p-values, hypothesis by hypothesis."""
    p = np.array([(1 + (null >= gap).sum()) / (1 + len(null)) for gap in gaps])
    order = np.argsort(p, kind="stable")
    least, found = 1.0, np.empty(len(p))
    for rank in range(len(p), 0, -1):
        least = min(least, p[order[rank - 1]] * len(p) / rank)
        found[order[rank - 1]] = least
    return found


def ranks(values):
    """Mid-ranks."""
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


def spearman(left, right):
    return np.corrcoef(ranks(left), ranks(right))[0, 1]
