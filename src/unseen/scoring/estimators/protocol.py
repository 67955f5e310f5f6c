"""What an estimator is: one way to find out what a network would say of an example that it has not seen.

The engine asks nothing else of one, and no file outside this folder asks which one it is. A new estimator is a class with these members
in a file of its own, put into ``ESTIMATORS``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples, Sharded, is_trained, trained
from unseen.runs import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Progress = Callable[[int, Tensor], None]
Done = tuple[int, int]
"""An epoch, and how many of its windows of shards are done."""


@dataclass(frozen=True)
class Job:
    """The training of one seed.

    Attributes:
        fabric: device, precision, processes.
        config: resolved.
        data: the examples, those in memory on the device already.
        model: the network's name, or the user's own, not trained yet.
        seed: of weights, order, masks and memberships.
    """

    fabric: "Fabric"
    config: Config
    data: Sharded
    model: str | nn.Module
    seed: int

    @property
    def own_model(self) -> nn.Module | None:
        """The user's network, where it is none of ours."""
        return None if isinstance(self.model, str) else self.model

    def trained(self, examples: Examples) -> Examples:
        """Those of the examples that are trained on."""
        return trained(examples, self.config.noise.null_fraction, self.config.seed)

    def is_trained(self, examples: Examples) -> Tensor:
        """Which of the examples are trained on, bool (n,)."""
        return is_trained(examples, self.config.noise.null_fraction, self.config.seed)


@dataclass(frozen=True)
class Visit:
    """A point in training from which it can go on.

    Attributes:
        epoch: from 1.
        done: windows of this epoch that are done.
        of: windows of the epoch.
        state: gives the tensors to go on from; those that ``net.`` stands before are the weights.
    """

    epoch: int
    done: int
    of: int
    state: Callable[[], dict[str, Tensor]]

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch is complete."""
        return self.done == self.of


@dataclass(frozen=True)
class Observed:
    """What an epoch showed of some examples.

    Attributes:
        index: int64 (n,).
        values: float32 (n,) under ``<quantity>_<side>``, of a network's own features under head_loss and head_memorization, and float32
            (n, classes) under ``probabilities`` where they were asked for.
    """

    index: Tensor
    values: dict[str, Tensor]


class Estimator(Protocol):
    """The training of one seed, and what it says of the examples.

    Attributes:
        has_halves: whether its tables have a seen and an unseen side; otherwise one network is all there is.
        takes_shards: whether the data may come in several shards.
        shares_state: whether all processes hold the same state, so that the first writes it; otherwise each writes its own.
        measures_apart: whether each process measures shards of its own; otherwise all measure each shard together.
        leading: the scores that stand first in the table, where it has them.
        chooses: options that it gives a value where none is asked for.
        fixes: options that have this value with it.
    """

    has_halves: bool
    takes_shards: bool
    shares_state: bool
    measures_apart: bool
    leading: tuple[str, ...]
    chooses: dict[str, Any]
    fixes: dict[str, Any]

    def __init__(self, job: Job) -> None: ...

    @classmethod
    def suits(cls, config: Config, examples: Examples | None) -> bool:
        """Whether ``auto`` may take it for this configuration, as it was asked for, and these examples."""

    @classmethod
    def check(cls, config: Config, processes: int) -> None:
        """Raise UnseenError for an option that it does not have, or a number of processes that it cannot use."""

    @classmethod
    def check_network(cls, config: Config, examples: Examples, model: str | nn.Module) -> None:
        """Raise UnseenError for a network that cannot take these examples."""

    @classmethod
    def network(cls, config: Config, examples: Examples, model: str | nn.Module, seed: int) -> nn.Module:
        """A fresh network for the seed, or the members; ``examples`` are all of the run, or a shard of them."""

    @classmethod
    def restored(cls, run: Run, config: Config, examples: Examples, seed: int, model: nn.Module | None) -> nn.Module:
        """What was trained, as it was scored, from the weights that the run keeps."""

    @classmethod
    def facts(cls, config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
        """What it adds to ``summary.json``."""

    def train(self, state: dict[str, Tensor] | None, done: Done, progress: Progress) -> Iterator[Visit]:
        """Train, and yield after every window of shards.

        Args:
            state: of a ``Visit``, to go on from it, bit for bit; then that visit is yielded first.
            done: its epoch and window.
            progress: called with a number of examples and a loss.
        """

    def observe(self, examples: Examples, last: bool) -> Observed:
        """What the epoch just trained shows of these examples, a shard. last: whether it is the last epoch."""

    def finish(self, examples: Examples, observed: Observed) -> dict[str, Tensor]:
        """The last measurement of a shard: as ``measure`` gives it, of all its examples. observed: of the last epoch."""

    def gradient_network(self) -> nn.Module:
        """The one network whose gradients are watched."""

    def weights(self) -> dict[str, Tensor] | None:
        """What to keep of it at the end as ``weights/seed-<n>.safetensors``; None: its last state."""
