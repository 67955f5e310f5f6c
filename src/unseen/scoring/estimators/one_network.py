"""One network, trained on all examples: with turn-over dropout, whose halves are compared (Liu et al. 2021), or without."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unseen.config import TEST_FRACTION, Config, TrainingOptions
from unseen.data import Examples, joined
from unseen.masks import FEW, LEAST, Side, TurnOverNet, audit, check_capacity, groups_for, mask_count
from unseen.runs import Run
from unseen.scoring.estimators.keeping import with_kept_weights
from unseen.scoring.estimators.protocol import Done, Job, Observed, Progress, Visit
from unseen.training import (
    DEEP,
    HEAD_SCORES,
    NO_LINEAR,
    Ordinary,
    Output,
    checked_losses,
    find_output,
    first_batch,
    get_state,
    head_scores,
    load_state,
    look_at,
    make_optimizer,
    measure,
    new_network,
    take_steps,
)

AUDITED = 4  # examples: enough to see which parameters both halves share


class OneNetwork:
    """What turn-over dropout and an ordinary network have in common."""

    has_halves: bool
    head_of: Side = Side.FULL
    takes_shards: bool = True
    shares_state: bool = True
    measures_apart: bool = False
    leading: tuple[str, ...] = ()
    chooses: dict[str, Any] = {"test_fraction": TEST_FRACTION}  # noqa: RUF012
    fixes: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, job: Job) -> None:
        self.job, self.net = job, self.network(job.config, job.data[len(job.data) - 1], job.model, job.seed)
        self.mean: dict[str, Tensor] = {}
        self.output = find_output(self.net.net, first_batch(job.data[len(job.data) - 1]).cpu())

    @staticmethod
    def network(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> TurnOverNet | Ordinary:
        """A fresh network for the seed."""
        raise NotImplementedError

    @classmethod
    def check(cls, config: Config, processes: int) -> None:
        """Every option is its own, and any number of processes shares a batch."""

    @classmethod
    def check_network(cls, config: Config, examples: Examples, model: str | nn.Module) -> None:
        """Build the network once. Raises UnseenError where it cannot take the examples; may warn of one of the user's own."""
        net = cls.network(config, examples, model, config.seed)
        if not isinstance(model, str):
            look_at(net.net, examples)

    @classmethod
    def restored(cls, run: Run, config: Config, examples: Examples, seed: int, model: nn.Module | None) -> nn.Module:
        """The network."""
        net = cls.network(config, examples, model or config.network.model, seed).to(examples.labels.device)
        return with_kept_weights(net, run, f"seed-{seed}")

    def train(self, state: dict[str, Tensor] | None, done: Done, progress: Progress) -> Iterator[Visit]:
        """See ``Estimator.train``. Each epoch has its own order of the shards, each window of them its own of its examples."""
        job, config, fabric = self.job, self.job.config.training, self.job.fabric
        optimizer: Any = make_optimizer(self.net, config)
        if state is not None:
            self.mean = {name.removeprefix("mean."): state.pop(name) for name in list(state) if name.startswith("mean.")}
        model, optimizer = fabric.setup(self.net, optimizer)
        if state is not None:
            load_state(self.net, optimizer, state)  # after the network has gone to its device
        whole = job.trained(job.data[0].to(fabric.device)) if job.data.is_whole else None
        for epoch in range(max(done[0], 1), config.epochs + 1):
            windows = job.data.windows(job.seed, epoch, job.config.data.shuffle_buffer)
            steps = [-(-sum(job.data.trains[number] for number in window) // config.batch_size) for window in windows]
            if state is not None and epoch == done[0]:
                yield Visit(epoch, done[1], len(windows), lambda: self._state(optimizer))
            for place, window in enumerate(windows, 1):
                if (epoch, place) <= done:
                    continue
                kept = whole or joined([job.trained(examples.to(fabric.device)) for examples in job.data.walk(window)])
                losses = take_steps(
                    model, optimizer, kept, config, job.seed, epoch, (sum(steps[: place - 1]), sum(steps)), fabric, progress
                )
                checked_losses(losses, fabric, self._where(epoch, window), config)
                if place == len(windows):
                    self.mean = running_mean(self.mean, self.net, epoch, config)
                yield Visit(epoch, place, len(windows), lambda: self._state(optimizer))

    def _where(self, epoch: int, window: list[int]) -> str:
        return f"epoch {epoch}" + ("" if self.job.data.is_whole else f", {self.job.data.label(window[0])}")

    def _state(self, optimizer: Any) -> dict[str, Tensor]:
        mean = {f"mean.{name}": value for name, value in self.mean.items()} if self.job.config.training.average > 1 else {}
        return get_state(self.net, optimizer) | mean

    def observe(self, examples: Examples, last: bool) -> Observed:
        """A measurement of all of them. Of the last epoch with probabilities, unless other weights than these are scored.

        Beside it what a ridge head on the network's own features says (``training/hidden.py``); of shards each has its own head.
        """
        ends = last and self.job.config.training.average == 1
        found = self._measure(examples, ends, self.output)
        features = found.pop(f"features_{self.head_of}", None)
        if features is not None:
            of_head = head_scores(features, examples.labels, self.job.is_trained(examples), len(examples.classes))
            unknown = {} if self.job.data.is_whole else dict.fromkeys(HEAD_SCORES, torch.full((len(examples),), torch.nan))
            found |= unknown | of_head  # all shards have the same columns, also one of test examples alone
        return Observed(examples.index, found)

    def finish(self, examples: Examples, observed: Observed) -> dict[str, Tensor]:
        """What was observed, or a measurement of the mean of the last epochs' weights."""
        if self.job.config.training.average == 1:
            return observed.values
        own = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.net.load_state_dict(self.mean)
        found = self._measure(examples, True)
        self.net.load_state_dict(own)
        return found

    def _measure(self, examples: Examples, probabilities: bool, output: Output | None = None) -> dict[str, Tensor]:
        size, asked = measure_size(self.job.config.training), probabilities and isinstance(self.net, TurnOverNet)
        return measure(self.net, examples, self.job.fabric, size, asked, output, (self.head_of,))

    def gradient_network(self) -> nn.Module:
        """The network itself."""
        return self.net

    def weights(self) -> None:
        """Its last state."""
        return


class TurnOverDropout(OneNetwork):
    """Turn-over dropout: every example trains one half of the network and never touches the other."""

    has_halves: bool = True

    @classmethod
    def suits(cls, config: Config, examples: Examples | None) -> bool:
        """Everything."""
        return True

    @staticmethod
    def network(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> TurnOverNet:
        """A fresh network with masks. Raises UnseenError where two examples would share a mask."""
        masks = config.masks
        bare = new_network(config.network, examples, seed, None if isinstance(model, str) else model)
        groups = masks.groups if masks.groups != "auto" else groups_for(bare, len(examples.train), masks.only, masks.skip)
        net = TurnOverNet(bare, seed=seed, scale=masks.mask_scale, groups=groups, tied=masks.tied, only=masks.only, skip=masks.skip)
        width = config.network.width if config.network.model in DEEP else None
        check_capacity(net.masked_layers(), int(examples.index.max()) + 1, width)
        return net

    @classmethod
    def facts(cls, config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
        """Which parameters both halves share, with their sizes, by ``audit``."""
        net = cls.network(config, examples, model, config.seed)
        leaks = audit(net, *examples.train.batch(torch.arange(min(AUDITED, len(examples.train)))))
        sizes = {name: value.numel() for name, value in net.net.named_parameters()}
        shared = {leak.parameter: sizes[leak.parameter] for leak in leaks if leak.share > 0}
        found = mask_facts(config, len(examples.train)) | {
            "shared_parameters": shared,
            "parameters": sum(sizes.values()),
            "leak_of_step": sum(leak.of_step for leak in leaks),
        }
        how = (
            "One network with turn-over dropout made these scores, as in the paper. --estimator members, many small networks, gains for "
            "MLPs and VGG-11."
        )
        return {"networks": 1, "how": how} | found | head_facts(config, examples, model)


class Plain(OneNetwork):
    """One ordinary network: the free scores, and no halves."""

    has_halves: bool = False

    @classmethod
    def suits(cls, config: Config, examples: Examples | None) -> bool:
        """Nothing, unless it is asked for by name: it has no memorization."""
        return False

    @staticmethod
    def network(config: Config, examples: Examples, model: str | nn.Module, seed: int) -> Ordinary:
        """A fresh network without masks."""
        return Ordinary(new_network(config.network, examples, seed, None if isinstance(model, str) else model))

    @classmethod
    def facts(cls, config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
        """How it was scored."""
        return head_facts(config, examples, model)


def mask_facts(config: Config, count: int) -> dict[str, Any]:
    """Who shares a mask: of few groups many examples, which is said in a sentence.

    Args:
        config: with a number of groups.
        count: of the trained examples.
    """
    groups = config.masks.groups
    if not isinstance(groups, int) or not 2 <= groups <= FEW:
        return {}
    masks = mask_count(groups)
    layers = "over all masked layers" if config.masks.tied else "in each layer"
    said = (
        f"Masks of {groups} groups of units {layers}: {masks} of them, each shared by about {count / masks:,.0f} examples, which train "
        "their half as a whole. What is given up: no example has a mask of its own (--groups 0), so the unseen half is one of few."
    )
    few = f" {LEAST:,} examples or more should share a mask: take fewer groups, or --groups auto." if count / masks < LEAST else ""
    sides = {"full": "mean of both halves"}  # weights between the halves were never trained
    return {"mask_groups": groups, "examples_per_mask": count / masks, "shared_masks": said + few, "sides": sides}


def head_facts(config: Config, examples: Examples, model: str | nn.Module) -> dict[str, Any]:
    """Why there is no head_memorization, where there is none."""
    bare = new_network(config.network, examples, config.seed, None if isinstance(model, str) else model)
    return {} if find_output(bare, first_batch(examples).cpu()) else {"no_head": NO_LINEAR}


def running_mean(mean: dict[str, Tensor], net: nn.Module, epoch: int, config: TrainingOptions) -> dict[str, Tensor]:
    """Mean of the weights over the last ``config.average`` epochs so far; empty before them.

    Stochastic weight averaging (Izmailov et al. 2018). It keeps the halves apart: what an example never changed at any epoch,
    the mean over epochs leaves unchanged.
    """
    count = epoch - (config.epochs - config.average)
    if count < 1 or config.average == 1:
        return {}
    weights = net.state_dict()
    if count == 1:
        return {name: value.clone() for name, value in weights.items()}
    return {
        name: mean[name].to(value.device).lerp(value, 1 / count) if value.is_floating_point() else value.clone()
        for name, value in weights.items()
    }


def measure_size(config: TrainingOptions) -> int:
    """Examples per batch of a measurement: those of a step, and 256 at least, 2,048 on a GPU."""
    return max(2048 if torch.cuda.is_available() else 256, config.batch_size)
