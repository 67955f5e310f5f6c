"""Members in blocks, each with an order of batches of its own: what they have in common besides the examples is then less than all.

Members on the same batches in the same order err together: means over them do not average the order away, and no spread among them shows
it. Blocks do, at the cost of smaller products.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unseen.config import TrainingOptions
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.masks import Side
from unseen.training.members import Pass, members_at, train_members
from unseen.training.networks import Members

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ORDERS = 4
"""Orders of batches; more cost more, and what is left of their variance is a quarter (LOG.md)."""


def orders_of(members: int) -> list[int]:
    """The number of each member's order of batches: a function of the member's number alone, so of no number of processes."""
    return [number * ORDERS // members for number in range(members)]


def blocks_of(numbers: Sequence[int], members: int) -> dict[int, list[int]]:
    """Places among ``numbers`` by their order.

    Args:
        numbers: of some of the members.
        members: how many there are in all.

    >>> blocks_of([2, 3, 4, 5], 8)
    {1: [0, 1], 2: [2, 3]}
    """
    found: dict[int, list[int]] = {}
    orders = orders_of(members)
    for place, number in enumerate(numbers):
        found.setdefault(orders[number], []).append(place)
    return found


def train_blocks(
    blocks: Sequence[Members],
    examples: Examples,
    config: TrainingOptions,
    member: Sequence[Tensor],
    seeds: Sequence[int],
    fabric: "Fabric",
    lost: float = 0.0,
    state: dict[str, Tensor] | None = None,
    done: int = 0,
) -> Iterator[Pass]:
    """As ``train_members`` of all blocks side by side; a pass is of all their members, block after block.

    Args:
        blocks: of members, see ``new_members``; trained in place.
        examples: all of them.
        config: epochs, batch_size, optimizer, schedule, augment.
        member: for each block, bool (its members, n): who learns from what.
        seeds: of the order of each block.
        fabric: device and precision.
        lost: see ``train_members``.
        state: a ``Pass.state()`` to go on from; the members must be fresh.
        done: its number.
    """
    shared: dict[str, Any] = {}
    passes = []
    for number, (block, own, seed) in enumerate(zip(blocks, member, seeds, strict=True)):
        before = None if state is None else _part(state, number)
        first = sum(len(earlier) for earlier in blocks[:number])
        options: dict[str, Any] = {"lost": lost, "state": before, "done": done, "shared": shared, "first": first}
        passes.append(train_members(block, examples, config, own, seed, fabric, **options))
    for epoch in zip(*passes, strict=True):
        yield merged(epoch, member)


def blocks_at(
    blocks: Sequence[Members], examples: Examples, config: TrainingOptions, state: dict[str, Tensor], fabric: "Fabric", lost: float
) -> Members:
    """All members as a ``Pass.state()`` of ``train_blocks`` has them. Args as ``members_at``."""
    parts = [_part(state, number) for number in range(len(blocks))]
    return Members.joined([members_at(block, examples, config, part, fabric, lost) for block, part in zip(blocks, parts, strict=True)])


def _part(state: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"block-{number}."
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        raise UnseenError(
            "This run was stopped by a version of unseen whose members had one order of batches. Start it again with --force."
        )
    return found


def merged(passes: Sequence[Pass], member: Sequence[Tensor]) -> Pass:
    """One pass of the members of all: rows side by side, means weighted by how many members they are over. member: as ``train_blocks``."""
    inside = [own.cpu() for own in member]
    counts = {"seen": [own.sum(0) for own in inside], "unseen": [(~own).sum(0) for own in inside]}
    counts["full"] = [torch.full(own.shape[1:], len(own)) for own in inside]
    observed = {name: _mean([each.observed[name] for each in passes], counts[name.rpartition("_")[2]]) for name in passes[0].observed}
    assert set(counts) == {str(side) for side in Side}
    return Pass(
        passes[0].number,
        torch.cat([each.losses for each in passes]),
        _mean([each.unseen_probabilities for each in passes], [count[:, None] for count in counts["unseen"]]),
        torch.cat([each.correct for each in passes]),
        observed,
        lambda examples: torch.cat([each.predict(examples) for each in passes]),
        lambda: Members.joined([each.members() for each in passes]),
        lambda: {f"block-{number}.{name}": value for number, each in enumerate(passes) for name, value in each.state().items()},
    )


def _mean(values: Sequence[Tensor], counts: Sequence[Tensor]) -> Tensor:
    total = sum(value * count for value, count in zip(values, counts, strict=True))
    mean: Tensor = total / sum(counts).clamp_min(1)  # type: ignore[union-attr]
    return mean
