"""A ridge head on features that never saw a label: what it would say without each example is exact, in closed form (training/head.py).

It answers whether a label is wrong. What a network of the user's memorized it does not know.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unseen.config import Config, MaskOptions, MeasuringOptions, MemberOptions, NetworkOptions, TrainingOptions
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.features import LANDMARKS, Landmarks
from unseen.masks import Side
from unseen.runs import Run
from unseen.scoring.estimators.protocol import Done, Job, Observed, Progress, Visit
from unseen.training import Head, Sums, fit_in_chunks, statistics

ROWS = 8192
LEARNED_FROM = 10_000  # rows that landmarks are drawn from
SHARDS_LEARNED_FROM = 8  # of which these are, spread over all: data are often sorted by class
WORK = 10**5 * LANDMARKS**2  # products of rows and two features each: beyond, fewer landmarks
FEWEST_LANDMARKS = 256
COLOURS = 3


class HeadNetwork(nn.Module):
    """A fitted head as a network: what bends the features, and the head itself.

    Args:
        head: of bent features.
        landmarks: what bends them; None where they stay as they are.
    """

    def __init__(self, head: Head, landmarks: Landmarks | None) -> None:
        super().__init__()
        self.head, self.landmarks = head, landmarks

    def bent(self, x: Tensor) -> Tensor:
        """Inputs (n, ...) as the head takes them, on the CPU."""
        flat = x.flatten(1).cpu()
        return self.landmarks(flat) if self.landmarks else flat

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes), float32."""
        return (self.head.scores(self.bent(x)) * self.head.scale).float()


class RidgeHead:
    """Exact leave-one-out of a ridge head."""

    has_halves: bool = True
    takes_shards: bool = True
    shares_state: bool = True
    measures_apart: bool = True
    leading: tuple[str, ...] = ("label_score",)
    chooses: dict[str, Any] = {"features": "auto", "test_fraction": 0.0}  # noqa: RUF012
    fixes: dict[str, Any] = {"epochs": 1, "history_every": 1, "precision": "32"}  # noqa: RUF012

    def __init__(self, job: Job) -> None:
        self.job, self.net = job, HeadNetwork(_no_head(), None)

    @classmethod
    def suits(cls, config: Config, examples: Examples | None) -> bool:
        """Colour pictures, texts, and whatever features are asked for, unless an option of networks is set."""
        network = (config.network.hidden, config.training, config.masks, config.measuring, config.members)
        plain = (NetworkOptions().hidden, TrainingOptions(), MaskOptions(), MeasuringOptions(), MemberOptions())
        if network != plain or config.network.model != NetworkOptions().model:
            return False
        if examples is None:
            return config.data.features is not None
        pictures = len(examples.shape) == 3 and examples.shape[0] == COLOURS
        return pictures or examples.texts is not None or config.data.features is not None

    @classmethod
    def check(cls, config: Config, processes: int) -> None:
        """Raise UnseenError for options of networks that are trained in epochs."""
        training, measuring = config.training, config.measuring
        if training.average > 1 or training.save_every or measuring.gradients_every or training.augment:
            raise UnseenError(
                "--estimator head is fitted at once: it has no epochs to average, save or augment, and no gradients. Leave --average, "
                "--save-every, --gradients-every and --augment out, or take --estimator turnover."
            )

    @classmethod
    def check_network(cls, config: Config, examples: Examples, model: str | nn.Module) -> None:
        """Raise UnseenError for a network, of ours or of the user's, which a head has no use for."""
        if not isinstance(model, str):
            raise UnseenError(f"--estimator head scores features, and got the network {type(model).__name__}. Leave one of them out.")
        if model != NetworkOptions().model:
            raise UnseenError(f"--estimator head scores features and trains no network; --model is {model!r}. Leave one of them out.")

    @classmethod
    def network(cls, config: Config, examples: Examples, model: str | nn.Module, seed: int) -> nn.Module:
        """A head that nothing was fitted to."""
        return HeadNetwork(_no_head(), None)

    @classmethod
    def restored(cls, run: Run, config: Config, examples: Examples, seed: int, model: nn.Module | None) -> nn.Module:
        """The fitted head."""
        return _of_tensors(run.read_tensors(f"seed-{seed}")[0])

    @classmethod
    def facts(cls, config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
        """What was taken, and what it cannot tell."""
        return {
            "networks": 1,
            "sides": {"seen": "head with them", "unseen": "head without them, exactly", "full": "head"},
            "how": f"A ridge head on features ({config.data.features}) that never saw a label made the scores, exactly as if each example "
            "were left out. They say which labels are wrong. --estimator members or turnover says what a network of yours memorizes.",
        }

    def train(self, state: dict[str, Tensor] | None, done: Done, progress: Progress) -> Iterator[Visit]:
        """See ``Estimator.train``: one pass over the data, in which each process takes its shards, and one eigenproblem."""
        if state is not None:
            self.net = _of_tensors(state)
        else:
            landmarks, standardise, shift = self._start()
            bend, classes = HeadNetwork(_no_head(), landmarks).bent, len(self.job.data.classes)
            chunks = ((bend(x), labels) for x, labels in self._chunks())
            start = Sums.empty(len(shift), classes, shift)
            head = fit_in_chunks(chunks, classes, sum(self.job.data.trains), None, standardise, start, self._total)
            self.net = HeadNetwork(head, landmarks)
            progress(sum(self.job.data.trains), torch.zeros(()))
        yield Visit(1, 1, 1, lambda: _tensors_of(self.net))

    def _start(self) -> tuple[Landmarks | None, bool, Tensor]:
        """What bends features, whether they are standardised, and about their mean: found by the first process, for all."""
        found = None
        if self.job.fabric.global_rank == 0:
            some, are_texts = self._sample()
            count = 0 if are_texts else landmark_count(sum(self.job.data.trains), some.shape[1])
            landmarks = Landmarks.learned(some, count) if count else None
            mean = HeadNetwork(_no_head(), landmarks).bent(some).double().mean(0)
            found = landmarks, not (are_texts or count), mean
        shared: tuple[Landmarks | None, bool, Tensor] = self.job.fabric.broadcast(found)  # type: ignore[assignment]
        return shared

    def _sample(self) -> tuple[Tensor, bool]:
        """Features of about 10,000 examples of up to eight shards, and whether they are of texts."""
        numbers = [number for number, count in enumerate(self.job.data.trains) if count]
        numbers = numbers[:: -(-len(numbers) // SHARDS_LEARNED_FROM)]
        parts = []
        for kept in self._kept(numbers):
            step = max(1, len(kept) * len(numbers) // LEARNED_FROM)
            parts.append(_rows(kept, torch.arange(0, len(kept), step)))
        return torch.cat(parts), kept.texts is not None

    def _kept(self, numbers: Sequence[int]) -> Iterator[Examples]:
        """What is trained on of some shards."""
        return (self.job.trained(examples) for examples in self.job.data.walk([one for one in numbers if self.job.data.trains[one]]))

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and labels of this process's shards; of data in memory, of its chunks."""
        data, own = self.job.data, slice(self.job.fabric.global_rank, None, self.job.fabric.world_size)
        for kept in self._kept(range(len(data)) if data.is_whole else range(len(data))[own]):
            parts = torch.arange(len(kept)).split(ROWS)
            for some in parts[own] if data.is_whole else parts:
                yield _rows(kept, some), kept.labels[some].cpu()

    def _total(self, value: Tensor) -> Tensor:
        if self.job.fabric.world_size == 1:
            return value
        total: Tensor = self.job.fabric.all_reduce(value.to(self.job.fabric.device, copy=True), reduce_op="sum")  # type: ignore[assignment]
        return total.cpu()

    def observe(self, examples: Examples, last: bool) -> Observed:
        """What it says of each example with it (seen, full) and without it (unseen); of those never trained all three are the same."""
        inside = torch.isin(examples.index.cpu(), self.job.trained(examples).index.cpu())
        parts = [self._said(examples, some, inside[some]) for some in torch.arange(len(examples)).split(ROWS)]
        return Observed(examples.index, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _said(self, examples: Examples, some: Tensor, inside: Tensor) -> dict[str, Tensor]:
        head, labels = self.net.head, examples.labels[some].cpu()
        found = head.predict(self.net.bent(_rows(examples, some)), labels)
        unseen = torch.where(inside[:, None], found.unseen, found.seen)
        logits = {Side.SEEN: found.seen * head.scale, Side.UNSEEN: unseen * head.scale, Side.FULL: found.seen * head.scale}
        values = {f"{name}_{side}": value for side, one in logits.items() for name, value in statistics(one.float(), labels).items()}
        return values | {"probabilities": logits[Side.UNSEEN].float().softmax(1)}

    def finish(self, examples: Examples, observed: Observed) -> dict[str, Tensor]:
        """What was observed."""
        return observed.values

    def gradient_network(self) -> nn.Module:
        """There is none. Raises UnseenError."""
        raise UnseenError("A ridge head has no gradients to watch. Score with --estimator turnover.")

    def weights(self) -> None:
        """Its last state."""
        return


def landmark_count(rows: int, dimensions: int) -> int:
    """How many landmarks bend so many rows: 2,000 of up to 10^5, of more as many as take no more work than these; 0: none.

    None where the features themselves are more, and few enough to be taken as they are.
    """
    count = min(LANDMARKS, max(FEWEST_LANDMARKS, math.isqrt(WORK // max(rows, 1))))
    return 0 if count < dimensions <= LANDMARKS else count


def _rows(examples: Examples, positions: Tensor) -> Tensor:
    return examples.batch(positions)[0].flatten(1).cpu()


def _no_head() -> Head:
    nothing = torch.zeros(0, dtype=torch.float64)
    return Head(None, nothing, nothing, nothing[:, None], nothing, 0, 0.0)


def _tensors_of(net: HeadNetwork) -> dict[str, Tensor]:
    """The head and its landmarks as tensors, for a file."""
    head, landmarks = net.head, net.landmarks
    numbers = torch.tensor([head.count, head.ridge, head.scale], dtype=torch.float64)
    assert head.axes is not None
    kept = {"axes": head.axes, "values": head.values, "mean": head.mean, "cross": head.cross, "prior": head.prior, "numbers": numbers}
    if landmarks:
        gamma = torch.tensor([landmarks.gamma], dtype=torch.float64)
        kept |= {f"landmarks.{name}": getattr(landmarks, name) for name in ("mean", "inverse", "points", "root")} | {
            "landmarks.gamma": gamma
        }
    return kept


def _of_tensors(kept: dict[str, Tensor]) -> HeadNetwork:
    """Undo ``_tensors_of``. Raises UnseenError for tensors of something else."""
    try:
        count, ridge, scale = kept["numbers"].tolist()
        head = Head(kept["axes"], kept["values"], kept["mean"], kept["cross"], kept["prior"], int(count), ridge, scale)
        names = ("mean", "inverse", "points", "root")
        found = {name: kept[f"landmarks.{name}"] for name in names} if "landmarks.gamma" in kept else {}
    except (KeyError, ValueError) as error:
        raise UnseenError(f"The weights are not those of a head: {error} is not there. Delete them; the next call fits anew.") from error
    landmarks = (
        Landmarks(found["mean"], found["inverse"], found["points"], float(kept["landmarks.gamma"][0]), found["root"]) if found else None
    )
    return HeadNetwork(head, landmarks)
