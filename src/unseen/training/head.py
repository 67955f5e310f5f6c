r"""A ridge head on frozen features, and what it would say of each example had it never seen it: exactly, without training again.

With features x (n, d), centred, and one-hot labels Y, the head is W = (X'X + λ)⁻¹ X'Y with a free intercept. One eigenproblem
X'X = V S V' gives the fitted scores, the leverage and, for every example, the scores of the head trained without it:

.. math:: h_i = \tfrac1n + \sum_k \frac{z_{ik}^2}{s_k + λ}, \quad z = x V, \qquad
          f^{-i}(x_i) = y_i - \frac{y_i - f(x_i)}{1 - h_i}

(Allen 1974, PRESS; Hastie et al. 2009, section 7.10). λ minimises the mean squared leave-one-out residual, and a temperature, fitted to
the leave-one-out likelihood of the given labels, turns scores into probabilities. X'X and X'Y add up over chunks of examples and over
processes; all sums are float64.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unseen.training.sums import ROWS, Chunk, Rows, Sums, Total, alone, checked

RIDGES = tuple(10.0**power for power in torch.linspace(-6, 4, 31).tolist())  # times the mean eigenvalue of X'X
SCALES = tuple(2.0**power for power in torch.linspace(0, 7, 57).tolist())  # of the scores before the softmax
CHOICE_ROWS = 50_000  # rows that choose the ridge and the scale
CONSTANT = 1e-12  # a feature of less variance, relative to its mean square, is constant
LARGEST_LEVERAGE = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the head says of n examples: of each with it (``seen``) and without it (``unseen``).

    Args:
        seen: scores, float64 (n, classes), about 1 for the class and 0 for others.
        unseen: see ``seen``.
        leverage: float64 (n,).
        labels: int64 (n,).
        scale: what scores are multiplied by before the softmax.
    """

    seen: Tensor
    unseen: Tensor
    leverage: Tensor
    labels: Tensor
    scale: float

    def probabilities(self, side: str = "unseen") -> Tensor:
        """Class probabilities, float64 (n, classes): softmax(scale · scores). side: unseen (out-of-sample) or seen."""
        scores: Tensor = getattr(self, side)
        return (scores * self.scale).softmax(1)

    def loss(self, side: str = "unseen") -> Tensor:
        """Cross entropy of the given labels in nats, float64 (n,)."""
        scores: Tensor = getattr(self, side)
        return -(scores * self.scale).log_softmax(1).gather(1, self.labels[:, None])[:, 0]

    @property
    def memorization(self) -> Tensor:
        """Equation 6 of this head, exactly: the loss without the example less the loss with it, in nats. High: memorized."""
        return self.loss("unseen") - self.loss("seen")


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted head: the eigenvectors and values of centred X'X, the ridge and the scale of its scores.

    Args:
        axes: V / √(standard deviations), (d, k); None where features are coordinates on them already.
        values: S, (k,).
        mean: (d,).
        cross: V'X'Y, (k, classes).
        prior: shares of the classes, (classes,).
        count: examples.
        ridge: λ.
        scale: what scores are multiplied by before the softmax.
    """

    axes: Tensor | None
    values: Tensor
    mean: Tensor
    cross: Tensor
    prior: Tensor
    count: int
    ridge: float
    scale: float = 1.0

    @property
    def weights(self) -> Tensor:
        """W on the eigenvectors, (k, classes)."""
        return self.cross / (self.values + self.ridge)[:, None]

    def coordinates(self, features: Tensor) -> Tensor:
        """Features (m, d) along the eigenvectors: float64 (m, k)."""
        return features.double() if self.axes is None else (features.double() - self.mean) @ self.axes

    def scores(self, features: Tensor) -> Tensor:
        """Scores of any features (m, d), as seen by the whole training set: float64 (m, classes)."""
        return self.coordinates(features) @ self.weights + self.prior

    def predict(self, features: Tensor, labels: Tensor) -> Predictions:
        """Scores of training examples with and without themselves, from features (m, d) and labels (m,) of any part of the training set."""
        parts = [self._predict(*chunk) for chunk in zip(features.split(ROWS), labels.split(ROWS), strict=True)]
        seen, unseen, leverage = (torch.cat(column) for column in zip(*parts, strict=True))
        return Predictions(seen, unseen, leverage, labels, self.scale)

    def _predict(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.coordinates(features)
        seen, leverage = z @ self.weights + self.prior, self._leverage(z)
        return seen, without(seen, leverage, labels), leverage

    def _leverage(self, z: Tensor) -> Tensor:
        return (1 / self.count + z.square() @ (1 / (self.values + self.ridge))).clamp_max(LARGEST_LEVERAGE)

    def hat(self, queries: Tensor, features: Tensor) -> Tensor:
        """Rows of the hat matrix: (queries, examples), how much the label of each training example adds to each query's score."""
        return 1 / self.count + (self.coordinates(queries) / (self.values + self.ridge)) @ self.coordinates(features).T

    def influence(self, features: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor) -> Tensor:
        """Equation 1 of this head, exactly: loss of each query without a training example less its loss with it, in nats.

        f⁻ⁱ(q) = f(q) − H(q, i) (y_i − f(x_i)) / (1 − h_i). Memory: queries · examples · classes.

        Args:
            features: of training examples, (m, d).
            labels: of the same, int64 (m,).
            queries: features of the queries, (q, d).
            query_labels: int64 (q,).

        Returns:
            float64 (m, q); positive where training on the example helps the query.
        """
        seen, _, leverage = self._predict(features, labels)
        residual = (one_hot(labels, len(self.prior)) - seen) / (1 - leverage)[:, None]
        found, hat, losses = self.scores(queries), self.hat(queries, features), []
        before = cross_entropy(found * self.scale, query_labels)
        for row in range(len(labels)):
            losses.append(cross_entropy((found - hat[:, row, None] * residual[row]) * self.scale, query_labels) - before)
        return torch.stack(losses)


def fit_head(
    features: Tensor, labels: Tensor, classes: int, ridge: float | None = None, standardise: bool = True
) -> tuple[Head, Predictions]:
    """The head of features in memory, and its predictions; see ``fit_in_chunks``.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> pixels, digits = (torch.as_tensor(values) for values in load_digits(return_X_y=True))
        >>> head, found = fit_head(pixels, digits, 10)
        >>> float((found.unseen.argmax(1) == digits).double().mean()) > 0.9
        True
    """
    head = solve(checked(Sums.empty(features.shape[1], classes).add(features, labels)), standardise)
    return relabelled(head, head.coordinates(features), labels, ridge)


def relabelled(head: Head, coordinates: Tensor, labels: Tensor, ridge: float | None = None) -> tuple[Head, Predictions]:
    """The head of the same examples with other labels, and its predictions, without the eigenproblem: n · d · classes operations.

    Args:
        head: of these examples.
        coordinates: ``head.coordinates`` of their features, (n, k).
        labels: int64 (n,).
        ridge: λ; chosen by PRESS where it is left out.
    """
    y = one_hot(labels, len(head.prior))
    prior = y.mean(0)
    start = replace(head, axes=None, cross=coordinates.T @ (y - prior), prior=prior, ridge=mean_value(head.values))
    found = chosen(start, [(coordinates, labels)], ridge)
    return replace(found, axes=head.axes), found.predict(coordinates, labels)


def fit_in_chunks(
    chunks: Iterable[Chunk],
    classes: int,
    rows: int,
    ridge: float | None = None,
    standardise: bool = True,
    start: Sums | None = None,
    total: Total = alone,
) -> Head:
    """The head of features that need not fit in memory, in one pass: sums, and up to 50,000 rows that choose ridge and scale.

    The rows are spread, since data are often sorted by class.

    Args:
        chunks: (features (m, d), labels int64 (m,)), of this process.
        classes: how many.
        rows: examples of all chunks, of all processes.
        ridge: λ; chosen by PRESS where it is left out.
        standardise: see ``solve``; not for what ``Features.head_map`` gives.
        start: empty sums; of several processes with the same shift in each, so that they add up to the same as those of one.
        total: adds a tensor of all processes.

    Returns:
        The head, the same in all processes; ``head.predict(features, labels)`` of each chunk are its leave-one-out predictions.

    Raises:
        UnseenError: no examples, a NaN, a label out of range, chunks of other widths.
    """
    sums, kept, step = start, Rows(), max(1, -(-rows // CHOICE_ROWS))
    for features, labels in chunks:
        sums = (Sums.empty(features.shape[1], classes) if sums is None else sums).add(features, labels)
        kept.add(features[::step], labels[::step])
    return chosen(solve(checked(sums and sums.over(total)), standardise), kept.chunks(), ridge, total)


def solve(sums: Sums, standardise: bool = True) -> Head:
    """The eigenproblem of standardised features; the ridge is the mean eigenvalue until it is chosen.

    Args:
        sums: over all examples, two or more.
        standardise: divide each feature by its standard deviation first, so that units do not matter. Constant features are left out.
    """
    mean = sums.features / sums.count
    gram = sums.gram - sums.count * torch.outer(mean, mean)
    variance = gram.diagonal().clamp_min(0) / sums.count
    square = variance + (mean + sums.shift).square()
    varies = variance > CONSTANT * square
    inverse = torch.where(varies, variance, torch.inf).rsqrt() if standardise else varies.double()
    values, vectors = torch.linalg.eigh(gram * inverse * inverse[:, None])
    axes = inverse[:, None] * vectors
    cross = axes.T @ (sums.cross - torch.outer(mean, sums.labels))
    values = values.clamp_min(0)
    return Head(axes, values, mean + sums.shift, cross, sums.labels / sums.count, sums.count, mean_value(values))


def mean_value(values: Tensor) -> float:
    """The mean eigenvalue, what ridges are counted in; 1 where all are 0."""
    return float(values.mean()) or 1.0


def chosen(head: Head, chunks: Sequence[Chunk], ridge: float | None = None, total: Total = alone, ridges: Sequence[float] = RIDGES) -> Head:
    """The same with the ridge of least squared leave-one-out residual on these training examples, and the likeliest scale.

    ridges: what it is chosen from, times the mean eigenvalue, unless ``ridge`` says it.
    """
    if ridge is None:
        ridges, squares = [factor * head.ridge for factor in ridges], torch.zeros(len(ridges), dtype=torch.float64)
        for chunk in chunks:
            for part in zip(*(values.split(ROWS) for values in chunk), strict=True):
                squares += press(head, ridges, *part).cpu()
        ridge = ridges[int(total(squares).argmin())]
    head, losses = replace(head, ridge=ridge), torch.zeros(len(SCALES), dtype=torch.float64)
    for chunk in chunks:
        losses += losses_by_scale(head.predict(*chunk).unseen, chunk[1]).cpu()
    return replace(head, scale=SCALES[int(total(losses).argmin())])


def press(head: Head, ridges: Sequence[float], features: Tensor, labels: Tensor) -> Tensor:
    """Sum of squared leave-one-out residuals of these training examples for each ridge: float64 (ridges,)."""
    z, y = head.coordinates(features), one_hot(labels, len(head.prior))
    inverse = 1 / (head.values[:, None] + head.values.new_tensor(ridges))
    leverages = (1 / head.count + z.square() @ inverse).clamp_max(LARGEST_LEVERAGE)
    residuals = (y - head.prior - z @ (head.cross * inverse[:, place, None]) for place in range(len(ridges)))
    return torch.stack([(found / (1 - leverages[:, place, None])).square().sum() for place, found in enumerate(residuals)])


def losses_by_scale(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross entropies of scores (n, classes) times each of ``SCALES``, under their softmax: float64 (scales,)."""
    return torch.stack([cross_entropy(scores * scale, labels).sum() for scale in SCALES])


def without(seen: Tensor, leverage: Tensor, labels: Tensor) -> Tensor:
    """Scores of each example by the head without it: y − (y − f) / (1 − h)."""
    y = one_hot(labels, seen.shape[1])
    return y - (y - seen) / (1 - leverage)[:, None]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels (n,) as float64 (n, classes)."""
    return torch.nn.functional.one_hot(labels, classes).double()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each row, in nats."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
