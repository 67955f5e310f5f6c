"""Members: many small networks in place of one, each trained on its own share of the examples (Feldman & Zhang 2020)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unseen.config import GRADIENTS_NEED, MEMBERS, TEST_FRACTION, Config
from unseen.data import Examples, trained
from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.masks import Side, evaluating
from unseen.runs import Run
from unseen.scoring.estimators.forgetting import Forgetting
from unseen.scoring.estimators.keeping import with_kept_weights
from unseen.scoring.estimators.protocol import Done, Job, Observed, Progress, Visit
from unseen.scoring.free import MeasuredEpochs
from unseen.training import (
    DEEP,
    FEWEST_EXAMPLES,
    FEWEST_MEMBERS,
    LOST,
    FastLayers,
    Members,
    Pass,
    blocks_at,
    blocks_of,
    channels_last,
    expected_rank,
    look_at,
    membership,
    moderated_samples,
    new_members,
    new_network,
    orders_of,
    share,
    small,
    train_blocks,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

AT_ONCE = 1024  # examples whose predictions by all members are held


class ManyMembers:
    """What networks with an example say of it, against networks without it.

    Each process trains its share of the members, in blocks that see the same batches (``training/blocks.py``). Test and held-out examples
    get a membership too, which no member has used: their gaps are the noise floor.
    """

    has_halves: bool = True
    takes_shards: bool = False
    shares_state: bool = False
    measures_apart: bool = False
    leading: tuple[str, ...] = ("memorization_rank", "unseen_loss_mean")
    chooses: dict[str, Any] = {"test_fraction": TEST_FRACTION}  # noqa: RUF012
    fixes: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, job: Job) -> None:
        self.job, self.kept = job, job.trained(job.data[0])
        config, fabric = job.config, job.fabric
        self.recipe = _recipe(config, self.kept, job.model)
        self.own = share(config.members.members, fabric.global_rank, fabric.world_size)
        self.member = self._membership(self.kept.index)
        self.places = blocks_of(range(config.members.members)[self.own], config.members.members)
        self.measured = MeasuredEpochs.of(config)
        self.never = job.data[0].select(self._never_trained(job.data[0]))
        self.forgetting = Forgetting(self.member.cpu())
        self.observed: dict[str, Tensor] = {}
        self.probabilities = {"trained": torch.zeros(()), "never": torch.zeros(())}
        self.later = torch.zeros(())
        self.networks: Members | None = None

    @classmethod
    def suits(cls, config: Config, examples: Examples | None) -> bool:
        """The models that they follow retraining best for, unless an option is set that they do not have."""
        masks = any(value is not None for value in vars(config.masks).values())
        training, measuring = config.training, config.measuring
        one = training.average > 1 or training.save_every or measuring.gradients_every or measuring.watch or config.data.shards
        return config.network.model in MEMBERS and not masks and not one

    @classmethod
    def check(cls, config: Config, processes: int) -> None:
        """Raise UnseenError for gradients, which are of one network, and for members that processes cannot share."""
        if config.measuring.gradients_every:
            raise UnseenError(GRADIENTS_NEED.format(config.measuring.gradients_every))
        if config.members.members % processes:
            raise UnseenError(
                f"{config.members.members} members do not divide among {processes} processes. Make --members a multiple of them."
            )

    @classmethod
    def check_network(cls, config: Config, examples: Examples, model: str | nn.Module) -> None:
        """Build the network once. Raises UnseenError where it cannot take the examples; may warn of one of the user's own."""
        net = new_network(config.network, examples, config.seed, None if isinstance(model, str) else model)
        if not isinstance(model, str):
            look_at(net, examples)

    @classmethod
    def facts(cls, config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
        """How many networks the sides are of."""
        sides = {"seen": "members that trained on them", "unseen": "members that never saw them", "full": "all members"}
        kept = len(trained(examples, config.noise.null_fraction, config.seed))
        many = config.members.members >= FEWEST_MEMBERS and kept >= FEWEST_EXAMPLES
        best = "full_loss_mean" if config.network.model in DEEP else "memorization_rank" if many else "unseen_loss_mean"
        how = (
            f"Many small networks made these scores; --estimator auto takes them for MLPs, VGG-11 and ResNet-10. Their {best} follows "
            "retraining best, and their label_score finds wrong labels best. --estimator turnover gives the memorization of the paper, "
            "by one network."
        )
        return {"networks": config.members.members, "sides": sides, "how": how}

    @classmethod
    def network(cls, config: Config, examples: Examples, model: str | nn.Module, seed: int) -> Members:
        """Fresh members."""
        kept = trained(examples, config.noise.null_fraction, config.seed)
        recipe = _recipe(config, kept, model)
        return new_members(recipe.network, kept, _seeds(config, seed), None if isinstance(model, str) else model)

    @classmethod
    def restored(cls, run: Run, config: Config, examples: Examples, seed: int, model: nn.Module | None) -> nn.Module:
        """The members."""
        members = cls.network(config, examples, model or config.network.model, seed).to(examples.labels.device)
        return with_kept_weights(members, run, f"seed-{seed}")

    def train(self, state: dict[str, Tensor] | None, done: Done, progress: Progress) -> Iterator[Visit]:
        """See ``Estimator``; a visit is an epoch."""
        job, config = self.job, self.recipe.training
        blocks, orders = self._blocks(), [key(job.seed, "order", number) for number in self.places]
        if state is not None:
            yield self._again(blocks, state, done[0])
        own = [self.member[rows] for rows in self.places.values()]
        for epoch in train_blocks(blocks, self.kept, config, own, orders, job.fabric, lost=LOST, state=state, done=done[0]):
            self._look(epoch)
            if epoch.number == config.epochs:
                self.networks = epoch.members()
            progress(len(self.kept), epoch.losses.mean())
            yield Visit(epoch.number, 1, 1, lambda found=epoch: self._state(found.state()))  # type: ignore[misc]

    def _blocks(self) -> list[Members]:
        """Fresh members of this process, those of one order of batches together."""
        job = self.job
        seeds = _seeds(job.config, job.seed)[self.own]
        return [new_members(self.recipe.network, self.kept, [seeds[row] for row in rows], job.own_model) for rows in self.places.values()]

    def _look(self, epoch: Pass) -> None:
        """Keep what an epoch that is measured showed: of every example, and the unseen probabilities of the later epochs."""
        if epoch.number not in self.measured.epochs:
            return
        forgetting = self.forgetting.after(epoch.correct)
        self.observed, chances = _over_processes(self.job.fabric, epoch, self.member, forgetting)
        if not self.measured.is_later(epoch.number):
            return
        self.probabilities["trained"] = self.probabilities["trained"] + chances
        self.later = self.later + epoch.losses / self.measured.later
        if len(self.never):
            self.probabilities["never"] = self.probabilities["never"] + self._of_never_trained(epoch)

    def _of_never_trained(self, epoch: Pass) -> Tensor:
        """Unseen probabilities (n, classes), by the members that would not have had them, of those held out."""
        sums = []
        for some in torch.arange(len(self.never)).split(AT_ONCE):
            examples = self.never.select(some)
            outside = (~self._membership(examples.index)).to(examples.labels.device)
            sums.append((epoch.predict(examples).exp() * outside[..., None]).sum(0).cpu())
        total, counts = torch.cat(sums), (~self._membership(self.never.index)).sum(0)
        if self.job.fabric.world_size > 1:
            total, counts = _summed(self.job.fabric, total), _summed(self.job.fabric, counts)
        return total / counts[:, None]

    def _never_trained(self, examples: Examples) -> Tensor:
        """Which examples of the train split are not trained on, bool (n,): they stand in the tables beside the trained ones."""
        of_train = torch.tensor([split != "test" for split in examples.split])
        return of_train & ~torch.isin(examples.index.cpu(), self.kept.index.cpu())

    def _state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        observed = {f"observed.{name}": value for name, value in self.observed.items()}
        sums = {f"sum.{name}": value for name, value in (self.probabilities | {"later": self.later}).items()}
        return state | observed | sums | {f"forgetting.{name}": value for name, value in self.forgetting.state().items()}

    def _again(self, blocks: list[Members], state: dict[str, Tensor], epoch: int) -> Visit:
        """Where training goes on from."""
        self.probabilities, self.observed = _popped(state, "sum."), _popped(state, "observed.")
        self.later = self.probabilities.pop("later", torch.tensor(torch.nan))  # a version before it kept none
        self.forgetting.load(_popped(state, "forgetting."))
        if epoch == self.recipe.training.epochs:
            self.networks = blocks_at(blocks, self.kept, self.recipe.training, state, self.job.fabric, LOST)
        return Visit(epoch, 1, 1, lambda: self._state(state))

    def observe(self, examples: Examples, last: bool) -> Observed:
        """What the trained ones showed before the steps on them: nothing is computed twice."""
        return Observed(self.kept.index.cpu(), self.observed)

    def finish(self, examples: Examples, observed: Observed) -> dict[str, Tensor]:
        """A measurement by all members; of the train split the probabilities are the mean over the later epochs, which is less noisy.

        With enough members the trained examples have their ``expected_rank`` too.
        """
        assert self.networks is not None
        member = self._membership(examples.index, every=True)
        measured = measure_members(self.networks, examples, member, self.job.fabric)
        last, later = measured.pop("losses"), _gathered(self.job.fabric, self.later).cpu()
        places = {"trained": torch.isin(examples.index.cpu(), self.kept.index.cpu()), "never": self._never_trained(examples)}
        for name, inside in places.items():
            measured["probabilities"][inside] = self.probabilities[name] / self.measured.later
        kept, orders = places["trained"], np.array(orders_of(len(member)))
        if later.isnan().any():
            return measured
        rank = expected_rank(later.double().numpy(), last[:, kept].double().numpy(), member[:, kept].numpy(), orders)
        if rank is not None:
            measured["memorization_rank"] = torch.full((len(examples),), torch.nan).masked_scatter(kept, torch.from_numpy(rank).float())
        return measured

    def _membership(self, index: Tensor, every: bool = False) -> Tensor:
        members = self.job.config.members
        chosen = membership(index, self.job.seed, members.members, members.fraction)
        return chosen if every else chosen[self.own]

    def gradient_network(self) -> nn.Module:
        """There is none. Raises UnseenError."""
        raise UnseenError("Gradients are of one network, and --estimator members has many. Score with --estimator turnover.")

    def weights(self) -> dict[str, Tensor]:
        """Those of all members, stacked."""
        assert self.networks is not None
        return {f"net.{name}": _gathered(self.job.fabric, value) for name, value in (self.networks.weights | self.networks.state).items()}


def _recipe(config: Config, kept: Examples, model: str | nn.Module) -> Config:
    """The members' own: networks of ours are made smaller."""
    return small(config, len(kept)) if isinstance(model, str) else config


def _seeds(config: Config, seed: int) -> list[int]:
    """Of the members' initial weights."""
    return [key(seed, "member", number) % 2**31 for number in range(config.members.members)]


def _popped(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What is under the prefix, taken out."""
    return {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}


def _over_processes(fabric: "Fabric", epoch: Pass, member: Tensor, more: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """An epoch's ``observed``, with more of its kind, and ``unseen_probabilities``: means over the members of all processes.

    member: this process's, bool (K, n).
    """
    observed = epoch.observed | more
    if fabric.world_size == 1:
        return observed, epoch.unseen_probabilities
    counts = {"seen": member.sum(0), "unseen": (~member).sum(0), "full": torch.full(member.shape[1:], len(member))}
    totals = {side: _summed(fabric, count) for side, count in counts.items()}
    sums = {name: _summed(fabric, mean * counts[name.rpartition("_")[2]]) for name, mean in observed.items()}
    chances = _summed(fabric, epoch.unseen_probabilities * counts["unseen"][:, None]) / totals["unseen"][:, None]
    return {name: value / totals[name.rpartition("_")[2]] for name, value in sums.items()}, chances


def _summed(fabric: "Fabric", value: Tensor) -> Tensor:
    total: Tensor = fabric.all_reduce(value.to(fabric.device, copy=True), reduce_op="sum")  # type: ignore[assignment]
    return total.cpu()  # a copy, since it sums in place


def _gathered(fabric: "Fabric", value: Tensor) -> Tensor:
    """The rows of all processes, (K of each, ...) to (K of all, ...)."""
    if fabric.world_size == 1:
        return value
    return fabric.all_gather(value.to(fabric.device)).flatten(0, 1)  # type: ignore[union-attr]


@torch.no_grad()
def measure_members(members: Members, examples: Examples, member: Tensor, fabric: "Fabric", batch_size: int = 256) -> dict[str, Tensor]:
    """What members with and without each example, and all, say of it: as ``measure``, means over members, for all examples.

    loss is the mean of losses, probability that of the given label's probabilities, predicted the largest mean probability; beside
    them memorization_se and half_width (90%) of the gap, by Welch's two-sample t with variances drawn to those of similar examples; and
    losses (all members, n).

    Args:
        members: of this process.
        examples: to measure them on.
        member: who trained on what, bool (all members, examples).
        fabric: precision and processes.
        batch_size: examples at a time.
    """
    from scipy.stats import t

    own = member[len(members) * fabric.global_rank :][: len(members)]
    losses, sides = torch.zeros(len(members), len(examples)), torch.zeros(len(Side), len(examples), len(examples.classes))
    with evaluating(members), fabric.autocast(), FastLayers():
        for positions in torch.arange(len(examples)).split(batch_size):
            x, labels, _ = examples.batch(positions)
            logs = members(channels_last(x)).float().log_softmax(2).cpu()  # (K, B, classes)
            losses[:, positions] = -logs.gather(2, labels.cpu().expand(len(logs), -1)[..., None]).squeeze(2)
            inside = own[:, positions]
            for side, chosen in enumerate((inside, ~inside, torch.ones_like(inside))):
                sides[side, positions] = (logs.exp() * chosen[..., None]).sum(0)
    losses = _gathered(fabric, losses).cpu()
    sides = sides if fabric.world_size == 1 else _summed(fabric, sides)
    gap = moderated_samples(losses.double().numpy(), member.numpy())
    result = {"loss_seen": gap.seen, "loss_unseen": gap.unseen, "loss_full": losses.double().numpy().mean(0)}
    result |= {"memorization_se": gap.standard_error, "half_width": t.ppf(0.95, np.maximum(gap.degrees, 1)) * gap.standard_error}
    tensors = {name: torch.from_numpy(values).float() for name, values in result.items()} | {"losses": losses}
    predicted = {f"predicted_{side}": sides[number].argmax(1).float() for number, side in enumerate(Side)}
    counts = (member.sum(0), (~member).sum(0), torch.full(member.shape[1:], len(member)))
    own = sides.gather(2, examples.labels.cpu().expand(len(sides), -1)[..., None]).squeeze(2)
    chances = {f"probability_{side}": own[number] / counts[number] for number, side in enumerate(Side)}
    return tensors | chances | predicted | {"probabilities": sides[1] / counts[1][:, None]}
