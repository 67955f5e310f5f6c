"""What memorization is by definition: networks that had an example against networks that had not.

``subset_truth`` retrains on random subsets (Feldman & Zhang, *What Neural Networks Memorize and Why*, 2020), ``leave_one_out``
retrains without single examples (Liu et al. 2021, eq. 2).
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples, content
from unseen.errors import UnseenError
from unseen.hashing import key
from unseen.runs import Run
from unseen.scoring import rank_correlation
from unseen.training import make_fabric, members_losses, membership, new_members, train_members, two_samples

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
CHUNK = 8  # members at once: on a CPU the weights of a small MLP stay in its cache


def reliability(values: Floats, member: Bools, rows: Bools | None = None, repeats: int = 10, seed: int = 0) -> float | None:
    """How well the same number of other members would rank the examples.

    Spearman correlation r of the gaps from random halves of the members, stepped up to all of them, 2r / (1 + r) (Spearman
    1910, Brown 1910); mean over ``repeats``. An estimator without noise of its own can reach its root, see ``ceiling``.

    Args:
        values: (members, n).
        member: bool, the same shape.
        rows: examples to look at, bool (n,); those that a half has on one side only are left out of that repeat.
        repeats: how many random halvings.
        seed: of them.

    Returns:
        None where it cannot be known: with so few members that no half of them has two examples on both sides.
    """
    random = np.random.default_rng(key(seed, "halves"))
    found = []
    for _ in range(repeats):
        order = random.permutation(len(values))
        halves = [order[: len(order) // 2], order[len(order) // 2 :]]
        kept = np.logical_and.reduce([member[half].any(0) & ~member[half].all(0) for half in halves]) & (True if rows is None else rows)
        if kept.sum() < 2:
            continue
        gaps = np.stack([two_samples(values[half][:, kept], member[half][:, kept]).gap for half in halves])
        correlation = rank_correlation(gaps)
        found.append(2 * correlation / (1 + correlation))
    return float(np.mean(found)) if found else None


def ceiling(reliability: float | None) -> float | None:
    """The largest correlation with the truth that its own noise allows: the root of its reliability (Spearman 1904, attenuation).

    None where the reliability is not known; 0 where it is negative, as chance makes it where members agree in nothing.

    >>> ceiling(0.81)
    0.9
    """
    return None if reliability is None else float(max(0.0, reliability) ** 0.5)


def subset_truth(
    examples: Examples,
    config: Config,
    members: int = 400,
    fraction: float = 0.7,
    *,
    seed: int = 0,
    run: Run | None = None,
    fabric: "Fabric | None" = None,
    model: nn.Module | None = None,
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """Retrain ``members`` networks, each on a random ``fraction`` of the training examples, by the configured recipe.

    Args:
        examples: the training examples are trained on, all are measured.
        config: the recipe.
        members: how many networks.
        fraction: share of the training examples that each member learns from.
        seed: of the subsets, the initial weights and the orders of batches.
        model: a network of your own (``new_members``).
        fabric: device, precision and processes; default: one process.
        run: where each finished chunk of members is kept, so that a stopped call goes on; processes of ``fabric`` share the chunks.
        chunk: members trained at once, on the same batches in the same order; the order is another in each chunk.
        progress: called with the number of members after each chunk.

    Returns:
        A frame, one row per training example: index, given_label, true_label where known, loss_seen and loss_unseen (means over members
        with and without it), memorization (their difference, nats), memorization_se, memorization_probability (probability of the given
        label, seen minus unseen: Feldman & Zhang's) and memorization_probability_se; and facts: members, fraction, reliability and, of the
        correct labels alone, reliability_correct, both again for the probability.

    Raises:
        UnseenError: where an example would be in all members, or none.
    """
    name = losses_name(examples, config, members, fraction, seed, model, chunk)
    losses, member = _retrained(name, examples, config, members, fraction, seed, run, fabric, model, chunk, progress)
    table, facts = truth_table(examples, losses, member)
    return table, facts | {"share": fraction, "seed": seed, "losses": name}


def retrain(
    examples: Examples,
    config: Config,
    members: int = 400,
    fraction: float = 0.7,
    *,
    seed: int = 0,
    run: Run | None = None,
    fabric: "Fabric | None" = None,
    model: nn.Module | None = None,
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The members behind ``subset_truth``: losses of each at the end on every example, train and test, and who learned from what.

    Takes finished chunks of the same examples from ``run``.

    Returns:
        float32 (members, all examples), nats, and bool (members, training examples). The margin log p/(1-p) of the given label, which
        influence is often measured in, is -log(exp(loss) - 1).
    """
    name = losses_name(examples, config, members, fraction, seed, model, chunk)
    return _retrained(name, examples, config, members, fraction, seed, run, fabric, model, chunk, progress)


def _retrained(
    name: str,
    examples: Examples,
    config: Config,
    members: int,
    fraction: float,
    seed: int,
    run: Run | None,
    fabric: "Fabric | None",
    model: nn.Module | None,
    chunk: int,
    progress: Callable[[int], None] | None,
) -> tuple[Tensor, Tensor]:
    member = membership(examples.train.index, seed, members, fraction)
    seeds = [key(seed, "member", number) % 2**31 for number in range(members)]
    orders = [key(seed, "order", number) for number in range(-(-members // chunk))]
    chunks = _Chunks(examples, config, run, fabric or make_fabric(1, config.training.precision), model, chunk)
    return chunks.losses(name, member, seeds, orders, progress), member


def losses_name(
    examples: Examples, config: Config, members: int, fraction: float, seed: int, model: nn.Module | None = None, chunk: int = CHUNK
) -> str:
    """Folder under a run's ``weights/`` of the losses of the members of ``subset_truth``, a file per chunk."""
    return f"truth-{_digest(examples, config, chunk, model, members, fraction, seed)}"


def _digest(examples: Examples, config: Config, chunk: int, model: nn.Module | None, *settings: Any) -> str:
    """Eight hexadecimal digits that change with anything the losses depend on, the examples' content among it."""
    parts = json.dumps([content(examples), config.digest(), chunk, "" if model is None else repr(model), *settings], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Chunks:
    """Members trained chunk by chunk; with a run each finished chunk is a file, and processes share the chunks."""

    examples: Examples
    config: Config
    run: Run | None
    fabric: "Fabric"
    model: nn.Module | None
    size: int

    def losses(
        self, name: str, member: Tensor, seeds: Sequence[int], orders: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> Tensor:
        """Losses (members, all examples) at the end of training. orders: the seed of each chunk's batches."""
        fabric, run = self.fabric, self.run
        if fabric.world_size > 1 and run is None:
            raise UnseenError("Several processes meet in the run folder. Give run=..., or use one process.")
        parts: list[Tensor | None] = []
        files = [f"{name}/{first:06d}" for first in range(0, len(member), self.size)]
        for number, file in enumerate(files):
            part = slice(number * self.size, (number + 1) * self.size)
            done = run is not None and (run.path / f"weights/{file}.safetensors").exists()
            mine = not done and number % fabric.world_size == fabric.global_rank
            parts.append(self._train(member[part], seeds[part], orders[number]) if mine else None)
            if mine and run is not None:
                run.write_tensors(file, {"losses": parts[-1]}, config=json.dumps(self.config.flat()))  # type: ignore[dict-item]
            if progress:
                progress(len(member[part]))
        fabric.barrier()
        return torch.cat([run.read_tensors(file)[0]["losses"] if part is None else part for file, part in zip(files, parts, strict=True)])  # type: ignore[union-attr]

    def _train(self, member: Tensor, seeds: Sequence[int], order: int) -> Tensor:
        examples = self.examples.to(self.fabric.device)
        members = new_members(self.config.network, examples, seeds, self.model)
        *_, last = train_members(members, examples.train, self.config.training, member, order, self.fabric)
        return members_losses(last.members(), examples, self.fabric)


def truth_table(examples: Examples, losses: Tensor, member: Tensor) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """``subset_truth``'s frame and facts from the members' losses (members, examples) and membership (members, training examples)."""
    train = examples.train
    values, inside = losses[:, torch.tensor([split == "train" for split in examples.split])].double().numpy(), member.numpy()
    by_loss, by_probability = two_samples(values, inside), two_samples(-np.exp(-values), inside)
    _warn_of_divergence(float(by_loss.seen.mean()), len(examples.classes))
    table = _labels(train).with_columns(
        loss_seen=by_loss.seen,
        loss_unseen=by_loss.unseen,
        memorization=by_loss.gap,
        memorization_se=by_loss.standard_error,
        memorization_probability=by_probability.gap,
        memorization_probability_se=by_probability.standard_error,
    )
    facts: dict[str, Any] = {"members": len(values), "fraction": float(inside.mean()), "reliability": reliability(values, inside)}
    facts["reliability_probability"] = reliability(-np.exp(-values), inside)
    if train.true_labels is not None:
        correct = (train.labels == train.true_labels).cpu().numpy()
        facts["reliability_correct"] = reliability(values, inside, correct)
        facts["reliability_probability_correct"] = reliability(-np.exp(-values), inside, correct)
    return table, facts


def _warn_of_divergence(seen: float, classes: int) -> None:
    if seen > 2 * math.log(classes):
        warnings.warn(
            f"The members have a mean loss of {seen:.4g} nats on the very examples that they trained on, and guessing among {classes} "
            f"classes has {math.log(classes):.4g}. Their training diverged, so this truth says little. Lower --lr.",
            stacklevel=3,
        )


def leave_one_out(
    examples: Examples,
    config: Config,
    left_out: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    run: Run | None = None,
    fabric: "Fabric | None" = None,
    model: nn.Module | None = None,
    chunk: int = CHUNK,
) -> "pl.DataFrame":
    """Exact memorization (Liu et al. 2021, eq. 2): loss of a network trained without the example minus loss of one trained with all.

    Both have the same initial weights and batches, so that the example is the only difference.

    Args:
        examples: of which the training examples are trained on.
        config: the recipe.
        left_out: positions among the training examples.
        seeds: of weights and order; each trains 1 + len(left_out) networks.
        run: where each finished chunk of networks is kept, so that a stopped call goes on.
        fabric: device, precision and processes; default: one process.
        model: a network of your own (``new_members``).
        chunk: networks trained at once, on the same batches.

    Returns:
        A row per example left out: index, loss_seen, loss_unseen, memorization, means over the seeds, and memorization_se, the standard
        error over them (null for one seed): the noise of training, not of the definition.
    """
    import polars as pl

    train = examples.train
    wrong = [i for i in left_out if not 0 <= i < len(train)]
    if wrong or not len(left_out):
        raise UnseenError(f"Cannot leave out {wrong or 'nothing'}: name one or more of the training examples 0 to {len(train) - 1}.")
    member = torch.ones(1 + len(left_out), len(train), dtype=torch.bool)
    member[torch.arange(1, len(member)), torch.tensor(left_out)] = False
    chunks = _Chunks(train, config, run, fabric or make_fabric(1, config.training.precision), model, chunk)
    name, pairs = f"leave-one-out-{_digest(train, config, chunk, model, list(left_out))}", []
    for seed in seeds:
        orders = [key(seed, "order")] * -(-len(member) // chunk)
        losses = chunks.losses(f"{name}-{seed}", member, [seed] * len(member), orders)
        without = losses[torch.arange(1, len(member)), torch.tensor(left_out)]
        pairs.append(torch.stack([losses[0, torch.tensor(left_out)], without]))
    seen, unseen = torch.stack(pairs, 1).double().numpy()  # each (seeds, left out)
    spread = (unseen - seen).std(0, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else [None] * len(left_out)
    columns = {"index": train.index[list(left_out)].cpu().numpy(), "loss_seen": seen.mean(0), "loss_unseen": unseen.mean(0)}
    table = pl.DataFrame(columns | {"memorization": (unseen - seen).mean(0)})
    return table.with_columns(pl.Series("memorization_se", spread, dtype=pl.Float64))


def _labels(train: Examples) -> "pl.DataFrame":
    import polars as pl

    true = {} if train.true_labels is None else {"true_label": train.true_labels.cpu().numpy()}
    return pl.DataFrame({"index": train.index.cpu().numpy(), "given_label": train.labels.cpu().numpy()} | true)
