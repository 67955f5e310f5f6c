r"""How right a list of wrong labels is: estimated from errors planted in the same data, one at a time and in closed form.

The leave-one-out prediction of an example does not depend on its own label. So the score that a wrong label c would get is there without
training: the out-of-sample probability of c. Planted errors are all such pairs of an example
and another class. With t the log-odds against a label, F1 the distribution of t over planted errors and F0 over right labels, the
given labels follow

.. math:: G = (1 - ε) F_0 + ε F_1 .

ε is how many labels are wrong. F0 is not known; it is taken to be normal, with its own mean and spread, on the axis on which the planted
errors are standard normal (the binormal model of ROC curves, Dorfman & Alf 1969), where right and wrong overlap: above 1.5 deviations
below the mean of the planted errors. Below it right labels alone decide, and their shape says nothing of the tail. What is wrong already
is planted upon too: a share κ of the planted labels is right by chance, and is taken off.

Errors by habit (a cat is called a dog) have smaller log-odds than errors at random. So the same mixture is fitted to each likely pair of
classes alone, planted there with the one label for the other, and counts where the pair is confused more often than chance has it.

Of two classes, see ``mirrored``.

Right labels of odd examples look as wrong ones do, and no mixture tells the two apart. Where no label was wrong, up to .2 times the overlap
(one minus the AUROC) were called wrong. So intervals reach down to what is left without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unseen.curate.binormal import Mixture, auroc, mixture
from unseen.curate.mirrored import Mirrored, mirrored
from unseen.errors import UnseenError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DISCOVERY = 0.02  # false discovery rate of habitual confusions
PAIRS, MOST_PAIRS = 3, 300  # classes that are looked at for habitual confusions with a class, and pairs in all
PLANTED = 200_000  # planted errors that are looked at
TIES = 3  # decimals in which probabilities differ
HARDLY = 0.1  # probability of being wrong, below which another score ranks
MODEL_ERROR = 0.15  # of a number of wrong labels, relative: how far estimates were from the truth on six data sets, see LOG.md
FEWEST_OF_CLASS = 40  # examples
REPEATS = 40
CHANCE = 0.6  # AUROC of planted errors under which nothing is said
FEWEST = 100  # examples
BETWEEN = (0.05, 0.95)


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of a ranked list of suspects.

    Args:
        wrong: probability of each example's label to be wrong, (n,), in the order given.
        against: log-odds against each given label, (n,).
        total: how many labels are wrong in all, with a 90% interval.
        total_low: see ``total``.
        total_high: see ``total``.
        auroc: of planted errors against given labels.
        says: False near chance, where no number means anything.
        repeats: ``wrong`` of resampled data, (repeats, n): where intervals come from.
    """

    wrong: Floats
    against: Floats
    total: float
    total_low: float
    total_high: float
    auroc: float
    says: bool
    repeats: Floats

    @property
    def order(self) -> Integers:
        """Positions of the examples, most suspect first: by ``wrong``, and where it is equal by ``against``.

        Where classes are confused by habit this finds far more than ``against`` alone, and elsewhere as much; see LOG.md.
        """
        return self.order_with(self.against)

    def order_with(self, doubt: Floats) -> Integers:
        """The same, but ``doubt``, high for a wrong label, ranks those that are hardly wrong (below .1), which ``wrong`` cannot tell apart.

        Minus the log of ``right_probability`` finds confusions by habit there too (LOG.md).
        """
        rest = self.wrong < HARDLY
        return np.lexsort((-doubt, np.where(rest, 0, -self.against), np.where(rest, 0, -self.wrong.round(TIES))))

    def in_first(self, order: Sequence[int] | Integers, count: int) -> tuple[float, float, float]:
        """How many of the first ``count`` of a list are wrong: the estimate and a 90% interval. NaN where nothing can be said.

        Args:
            order: positions of examples, most suspect first.
            count: how many of them to look at, from the first.
        """
        if not self.says:
            return (float("nan"),) * 3
        chosen = np.asarray(order)[:count]
        return _interval(self.wrong[chosen].sum(), self.repeats[:, chosen], len(chosen))

    def stop(self, order: Sequence[int] | Integers) -> int:
        """How many of a list to read: the longest head of whose last tenth (10 rows or more) half are wrong."""
        return stop_of(self.wrong[np.asarray(order)]) if self.says else 0

    def sentence(self, order: Sequence[int] | Integers, count: int = 50) -> str:
        """The finding in plain words."""
        if not self.says:
            return (
                f"Nothing can be said of wrong labels here: the scores tell labels changed on purpose from others with an AUROC of "
                f"{self.auroc:.2f}, and guessing has 0.50."
            )
        found, low, high = self.in_first(order, count)
        count = min(count, len(self.wrong))
        said = f"About {self.total:,.0f} of {len(self.wrong):,} labels are wrong ({self.total_low:,.0f} to {self.total_high:,.0f}). "
        said += f"Of the first {count} of the list about {found:.0f} are ({low:.0f} to {high:.0f}). "
        stop = self.stop(order)
        return said + (f"Stop after {stop:,}: beyond, fewer than half are wrong." if stop else "Nowhere are half of the list's rows wrong.")


def stop_of(wrong: Floats) -> int:
    """How many rows of a list to read, by their probabilities of being wrong: see ``Trust.stop``."""
    if not len(wrong):
        return 0
    sums = np.concatenate([[0.0], wrong.cumsum()])
    ends = np.arange(1, len(wrong) + 1)
    lengths = np.minimum(ends, np.maximum(10, ends // 10))
    reached = (sums[ends] - sums[ends - lengths]) / lengths >= 0.5
    return int(reached.nonzero()[0][-1] + 1) if reached.any() else 0


def trust_in(probabilities: Floats, labels: Integers, repeats: int = REPEATS, seed: int = 0) -> Trust:
    """How many labels are wrong, and which, from out-of-sample probabilities.

    Args:
        probabilities: (n, classes), of each example by a model that did not see it; those of other examples may depend on its label.
        labels: (n,), the given ones.
        repeats: resampled data sets for the intervals.
        seed: of resampling.

    Returns:
        The estimates and their intervals, see ``Trust``.

    Cost: O(n · classes), a few seconds for 50,000.

    Raises:
        UnseenError: shapes that do not fit, a NaN, fewer than 100 examples or 2 classes.
    """
    against = against_labels(probabilities, labels)
    pairs = habitual(against, labels)
    wrong = wrong_chances(against, labels, pairs)
    tells = planted_auroc(against, labels)
    generator = np.random.default_rng(seed)
    again = np.zeros((repeats, len(labels)))
    for row in again:
        fewer, some = generator.random(), generator.integers(0, len(labels), len(labels))
        row[:] = _transferred(against, labels, some, {pair: found.with_fewer(fewer) for pair, found in pairs.items()}, fewer)
    total = float(wrong.sum())
    _, low, high = _interval(total, again, len(labels))
    return Trust(wrong, against[np.arange(len(labels)), labels], total, low, high, tells, tells >= CHANCE, again)


def _transferred(against: Floats, labels: Integers, some: Integers, pairs: "dict[tuple[int, int], Mixture]", fewer: float) -> Floats:
    """Probabilities of all examples by what is fitted to some, see ``with_fewer``; pairs stay as they are given."""
    rows = np.arange(len(labels))
    wrong = pooled(against[some], labels[some]).with_fewer(fewer).wrong(against[rows, labels])
    for (true, given), found in pairs.items():
        chosen = (labels == given).nonzero()[0]
        wrong[chosen] = np.maximum(wrong[chosen], found.wrong(between(against[chosen], true, given)))
    return wrong


def against_labels(probabilities: Floats, labels: Integers) -> Floats:
    """Log-odds against each label of each example: log((1 − p) / p), float64 (n, classes)."""
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or probabilities.shape[1] < 2 or len(labels) < FEWEST:
        raise UnseenError(
            f"Probabilities have shape {probabilities.shape} for {len(labels)} labels. Allowed: (examples, classes) of at least {FEWEST} "
            "examples and 2 classes. Score more examples."
        )
    if not np.isfinite(probabilities).all():
        raise UnseenError("The probabilities hold a NaN. Allowed: numbers from 0 to 1. Look at the run that made them.")
    chances = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-9)
    return np.log1p(-chances) - np.log(chances)


def wrong_chances(against: Floats, labels: Integers, pairs: "dict[tuple[int, int], Mixture] | None" = None) -> Floats:
    """Probability that each label is wrong: by the mixture over all errors, or that of a habitual confusion, whichever says more."""
    wrong = pooled(against, labels).wrong(against[np.arange(len(labels)), labels])
    for (true, given), found in (pairs or {}).items():
        chosen = (labels == given).nonzero()[0]
        wrong[chosen] = np.maximum(wrong[chosen], found.wrong(between(against[chosen], true, given)))
    return wrong


def pooled(against: Floats, labels: Integers) -> Mixture | Mirrored:
    """What tells wrong labels from right ones: of two classes the curve, else the mixture over all planted errors, every class alike."""
    if against.shape[1] == 2:
        return mirrored(against[np.arange(len(labels)), labels])
    some = planted_errors(against, labels)
    given = against[np.arange(len(labels)), labels]
    return mixture(given, some, np.ones(len(some)), 1 / (against.shape[1] - 1))


def planted_errors(against: Floats, labels: Integers) -> Floats:
    """Log-odds against every other class than the given one, row by row; of more than ``PLANTED``, every so many."""
    others = against.shape[1] - 1
    step = max(1, len(labels) * others // PLANTED)
    step += step > 1 and others % step == 0  # a step that divides a row would see few classes
    rows, classes = np.divmod(np.arange(0, len(labels) * others, step), others)
    return np.asarray(against[rows, classes + (classes >= labels[rows])])


def habitual(against: Floats, labels: Integers) -> dict[tuple[int, int], Mixture]:
    """Pairs (true class, given class) that are confused more often than errors at random are: of each its mixture.

    Only the examples of two classes matter to a pair, and t is the log-odds of one class against the other. Pairs are chosen by the ratio
    of likelihoods of their own ε and of the share at random, at a false discovery rate of ``DISCOVERY`` (Benjamini & Hochberg 1995).
    """
    from scipy.stats import chi2, false_discovery_control

    classes = against.shape[1]
    if classes == 2:  # all errors are of the one pair
        return {}
    share = pooled(against, labels).share / (classes - 1)
    tried = {(true, given): _pair(against, labels, true, given, share) for true, given in _likely(against, labels)}
    tested = {pair: found for pair, found in tried.items() if found is not None}
    if not tested:
        return {}
    rarities = false_discovery_control([min(1.0, chi2.sf(2 * max(gain, 0), 1) / 2) for _, gain in tested.values()])
    return {
        pair: found
        for (pair, (found, _)), rarity in zip(tested.items(), rarities, strict=True)
        if rarity <= DISCOVERY and found.share > share
    }


def _likely(against: Floats, labels: Integers) -> list[tuple[int, int]]:
    """Pairs (true class, given class) that may be confused: of each given class the 3 that its examples look like most, and 300 in all."""
    pairs = []
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.unique(labels[order], return_index=True)[1][1:]):
        given = int(labels[rows[0]])
        mass = (1 / (1 + np.exp(against[rows]))).sum(0)
        mass[given] = -1
        pairs += [(float(mass[true]), int(true), given) for true in (-mass).argsort()[: min(PAIRS, len(mass) - 1)]]
    return [(true, given) for _, true, given in sorted(pairs, reverse=True)[:MOST_PAIRS]]


def _pair(against: Floats, labels: Integers, true: int, given: int, share: float) -> tuple[Mixture, float] | None:
    """The mixture of a pair, and by how many nats its own ε is likelier than the share at random; None for too few examples."""
    seen, planted = (between(against[labels == label], true, given) for label in (given, true))
    if min(len(seen), len(planted)) < FEWEST_OF_CLASS:
        return None
    weights = np.ones(len(planted))
    found = mixture(seen, planted, weights, 0.0)
    return found, found.likelihood - mixture(seen, planted, weights, 0.0, max(share, 1e-4)).likelihood


def between(against: Floats, true: int, given: int) -> Floats:
    """Log-odds of one class against another: log(p_true / p_given)."""
    return np.asarray(np.logaddexp(0, against[:, given]) - np.logaddexp(0, against[:, true]))


def planted_auroc(against: Floats, labels: Integers) -> float:
    """How well t tells planted errors, every other class alike, from given labels: how often a planted one's is larger."""
    return auroc(against[np.arange(len(labels)), labels], planted_errors(against, labels))


def _interval(estimate: float, repeats: Floats, count: int) -> tuple[float, float, float]:
    """An estimate of a number of wrong labels with its 90% interval: of resampling, of the draw of the labels, and of the model."""
    sums = repeats.sum(1) if len(repeats) else np.array([estimate])
    spread = 1.64 * np.sqrt((repeats * (1 - repeats)).sum(1)) if len(repeats) else np.zeros(1)
    low, high = np.quantile(sums - spread, BETWEEN[0]), np.quantile(sums + spread, BETWEEN[1])
    low, high = min(low, estimate) * (1 - MODEL_ERROR), max(high, estimate) * (1 + MODEL_ERROR)
    return float(estimate), float(max(0.0, low)), float(min(count, high))
