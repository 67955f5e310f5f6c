"""Which half is active, and of which examples; also while activation checkpointing computes a part of a forward again.

``torch.utils.checkpoint`` drops what a part of the network computed and runs it again in the backward pass, when the forward that set the
switch is long over. Autograd numbers its nodes in the order in which a thread makes them, so the node that asks for the recomputation says
by its number which forward it belongs to, and the masks of that forward are applied again. Where the number says nothing, the
recomputation is refused: without its masks the gradients would be wrong, and nobody would see it.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable, without importing the compiler

from unseen.errors import UnseenError

KEPT = 256  # forwards whose index is remembered for a recomputation: as many as may wait for one backward pass
NO_BACKWARD = -1  # what torch calls the graph task of a thread that is in no backward pass


@dataclass
class _Forward:
    """One forward: its examples and side, and the numbers of the autograd nodes that it made, ``first`` to below ``end``."""

    index: Tensor | None
    side: str
    first: int
    end: float = float("inf")
    thread: threading.Thread = field(default_factory=threading.current_thread)  # its ident would go to the next thread

    def holds(self, number: int) -> bool:
        """Whether the node with this number is one of its own; true of nodes of other threads too."""
        return self.first <= number < self.end


class Switch:
    """Which half is active, and of which examples: set for one forward, shared by all masks of a network.

    Attributes:
        index: the examples of the forward that is running; None between forwards and in a forward without masks.
        side: its side; "full" between forwards.
    """

    def __init__(self) -> None:
        self.index: Tensor | None = None
        self.side = "full"
        self.is_turned = False
        self.masks: tuple[Tensor | None, dict[Any, Tensor]] = (None, {})
        self._task = NO_BACKWARD  # in which backward pass the running forward began
        self._forwards: deque[_Forward] = deque(maxlen=KEPT)
        self._recomputing: int | None = None  # the backward pass that recomputes now

    def __deepcopy__(self, _: Any) -> "Switch":
        return Switch()  # a copy of a network has no backward pass that waits

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, _: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    @contextmanager
    def turned(self, index: Tensor | None, side: str) -> Iterator[None]:
        """Turn the network to one side for the length of a forward; undone whatever happens."""
        before = self.index, self.side, self.is_turned
        self.index, self.side, self.is_turned = index, side, True
        entered = None if torch.compiler.is_compiling() else self._enter(index, side)
        self.masks = (None, {})
        try:
            yield
        finally:
            self.index, self.side, self.is_turned = before
            self.masks = (None, {})
            if entered is not None:
                self._leave(*entered)

    def active(self) -> tuple[Tensor | None, str]:
        """Index and side of the forward that is running, or of the one that a checkpoint computes again.

        Raises:
            UnseenError: where a recomputation cannot be told from others.
        """
        if torch.compiler.is_compiling():
            return (self.index, self.side) if self.is_turned or not torch.is_grad_enabled() else self._asked_in_eager()
        task = _graph_task()
        if task == NO_BACKWARD or (self.is_turned and task == self._task):
            return self.index, self.side
        return self._recomputed(task)

    @_disable_dynamo
    def _asked_in_eager(self) -> tuple[Tensor | None, str]:
        return self.active()  # a compiled layer in a checkpoint: whether this is a recomputation shows at run time only

    def once(self, index: Tensor, mask: Any) -> Tensor:
        """``mask(index)``, made once in a forward for all layers whose masks are the same: those with the same key and units."""
        if torch.compiler.is_compiling() or _is_transformed(index):
            made: Tensor = mask(index)
            return made
        if self.masks[0] is not index:
            self.masks = (index, {})
        kept, name = self.masks[1], (mask.purpose, mask.units)
        if name not in kept:
            kept[name] = mask(index)
        return kept[name]

    def _enter(self, index: Tensor | None, side: str) -> tuple[int, _Forward | None]:
        task, self._task = self._task, _graph_task()
        if self._task == NO_BACKWARD:
            self._recomputing = None
        if not torch.is_grad_enabled() or _is_transformed(index):
            return task, None
        forward = _Forward(None if index is None else index.clone(), side, _next_node())
        self._forwards.append(forward)
        return task, forward

    def _leave(self, task: int, forward: _Forward | None) -> None:
        self._task = task
        if forward is not None:
            forward.end = _next_node()

    def _recomputed(self, task: int) -> tuple[Tensor | None, str]:
        """Index and side of the forward whose node is being run backward. Raises UnseenError where that is none, or one of several."""
        if self._recomputing not in (None, task):
            raise UnseenError(_NESTED)
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        found = [forward for forward in self._forwards if forward.holds(number)]
        if not found:
            raise UnseenError(_UNKNOWN)
        if len({forward.thread for forward in found}) > 1:
            raise UnseenError(_SEVERAL)
        if self._recomputing is None:
            self._recomputing = task
            torch.autograd.Variable._execution_engine.queue_callback(self._recomputed_all)
        return found[-1].index, found[-1].side  # of forwards in one another, the innermost

    def _recomputed_all(self) -> None:
        self._recomputing = None


def _graph_task() -> int:
    return int(torch._C._current_graph_task_id())


def _next_node() -> int:
    return int(torch._C._autograd._get_sequence_nr())


def _is_transformed(index: Tensor | None) -> bool:
    """Whether the index belongs to ``torch.func.vmap`` or ``grad``, which end before any backward pass."""
    return index is not None and bool(torch._C._functorch.is_functorch_wrapped_tensor(index))


_CANNOT = "Activation checkpointing computes masked layers again, and "
_NESTED = (
    f"{_CANNOT}one checkpoint with use_reentrant=True lies in another, so it cannot be told of which examples. "
    "Use checkpoint(…, use_reentrant=False), or do not nest them."
)
_UNKNOWN = (
    f"{_CANNOT}of a forward that did not go through the masks' own network (or of one of more than {KEPT} that wait for their backward "
    "pass). Call the TurnOverNet (net(x, index), or net(x) without masks), never the network inside it, or switch checkpointing off."
)
_SEVERAL = (
    f"{_CANNOT}forwards of several threads could be meant. Run the forwards in one thread, with one process per device, or switch "
    "checkpointing off."
)
