"""Turn-over dropout: every example trains one half of the network and never touches the other half.

Kobayashi et al., *Efficient Estimation of Influence of a Training Instance* (2020); Liu, Lin, Jaggi,
*Understanding Memorization from the Perspective of Optimization via Efficient Influence Estimation* (2021).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError
from unseen.masks.active import CHILD, active_layers, active_logits
from unseen.masks.half import FEW, HalfMask, SharedMask
from unseen.masks.outputs import logits_of
from unseen.masks.places import KEEP_MEAN, KEEP_VARIANCE, Place, check_capacity, choose, is_read_by_width, places_of
from unseen.masks.switch import Switch


class Side(StrEnum):
    """Whose logits: of the half that the example trains, of the half that it never touches, or of the network without masks."""

    SEEN = "seen"
    UNSEEN = "unseen"
    FULL = "full"


COPIES = {"both": 2, "all": 3}  # how many sides come out of one forward
CHILD_OF_INPUT = "turn_over_input"  # and where the mask is on its input
IN_THREADS = (
    "nn.DataParallel runs copies of the network in threads that would share one switch, so that examples would get masks of others. "
    "Use one process per device (DistributedDataParallel, torchrun), or make one device visible (CUDA_VISIBLE_DEVICES=0)."
)


class TurnOver(nn.Module):
    r"""Mask the units of one layer: :math:`s\,m(z) \odot h` on the seen side, :math:`s\,(1 - m(z)) \odot h` on the unseen.

    Has no parameters and no state that is saved. Does nothing unless its ``TurnOverNet`` is in a forward, or a checkpoint in it
    is computed again.

    Args:
        place: see ``Place``.
        seed: what the masks are a function of, beside the index.
        layer: see ``seed``.
        switch: the network's switch.

    Shapes: input (batch, units) or (batch, ..., units), or (batch, units, ...) where ``dim`` is 1; output the
    same; where this is the first mask and the side is "both" or "all", with two or three times the batch: first
    seen, then unseen, then full.
    """

    def __init__(self, place: Place, seed: int, layer: int, switch: Switch) -> None:
        super().__init__()
        groups = place.groups or place.units
        if place.units % groups:
            raise UnseenError(
                f"Layer {place.layer!r} has {place.units} units, which do not divide into {groups} groups. "
                "Choose a number of groups that divides every width, or --skip this layer."
            )
        self.place, self.switch = place, switch
        self.mask = (SharedMask if place.is_shared else HalfMask)(groups, seed, layer)

    def forward(self, h: Tensor) -> Tensor:
        """Mask ``h`` for the side and the examples that the switch names."""
        index, side = self.switch.active()
        if index is None or side == "full":
            return h
        factors = self._factors(index, side, h.dtype)
        self._check(h, len(index), len(factors))
        if len(factors) > h.shape[0] == len(index):  # the first mask: fork here
            factors = factors.view(-1, h.shape[0], factors.shape[1])
            return (h * self._shape(factors, h)).flatten(0, 1)
        return h * self._shape(factors, h)

    def factors(self, dtype: torch.dtype = torch.float32) -> Tensor | None:
        """What the units (or groups) are multiplied by: (rows, units), a row per example and side; None where nothing is masked."""
        index, side = self.switch.active()
        return None if index is None or side == "full" else self._factors(index, side, dtype)

    def _factors(self, index: Tensor, side: str, dtype: torch.dtype) -> Tensor:
        mask = self.switch.once(index, self.mask)  # bytes as long as possible: what is large is slow
        if side == "unseen":
            mask = 2 - mask
        if side not in COPIES:
            return self._scaled(mask, dtype)
        sides = self._scaled(torch.cat((mask, 2 - mask)), dtype)
        return torch.cat((sides, torch.ones_like(sides[: len(index)]))) if side == "all" else sides

    def _scaled(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        mask, scale = mask.to(dtype), self.place.scale or KEEP_MEAN
        return mask if scale == 2.0 else mask * (scale / 2)

    def _check(self, h: Tensor, batch: int, rows: int) -> None:
        place = self.place
        if h.shape[place.dim] != place.units or h.shape[0] not in (1, batch, rows):
            raise UnseenError(
                f"{place.module!r} gives {tuple(h.shape)}, where a mask of {place.units} units along dimension {place.dim} of "
                f"{batch} examples was to go. Leave this layer out (skip=[{place.layer!r}]), or name your places: attach(net, places=[…])."
            )

    def _shape(self, mask: Tensor, h: Tensor) -> Tensor:
        """Spread groups over their units and put the units in their dimension of ``h``."""
        place = self.place
        if place.groups and place.groups != place.units:
            mask = mask.repeat_interleave(place.units // place.groups, -1)
        between, behind = (0, h.dim() - 2) if place.dim == 1 else (h.dim() - 2, 0)
        return mask.reshape(*mask.shape[:-1], *[1] * between, mask.shape[-1], *[1] * behind)

    def extra_repr(self) -> str:
        """Shown by ``print(net)``."""
        return f"units={self.place.units}, groups={self.place.groups}, stream={self.place.stream!r}"


Inputs = Tensor | Mapping[str, Any]
"""A batch: a tensor, or a network's named arguments."""


def batch_size(x: Inputs) -> int:
    """Number of examples in a batch."""
    return len(x) if isinstance(x, Tensor) else len(next(value for value in x.values() if isinstance(value, Tensor)))


def on_rows(function: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    """Apply a function to the tensor, or to each tensor of a mapping."""
    if isinstance(x, Tensor):
        return function(x)
    return {name: function(value) if isinstance(value, Tensor) else value for name, value in x.items()}


class TurnOverNet(nn.Module):
    """A network that can be asked for either half: ``net(x, index, side)``.

    Masks are attached to ``net`` itself (``attach``), so an optimiser over ``net.parameters()`` stays valid and
    the keys of ``net.state_dict()`` stay as they were.

    Args:
        net: any module whose first dimension is the batch, with ``attach``'s options: seed, groups, tied, only, skip, scale, places,
            output, examples.
        fork: on sides "both" and "all", run what comes before the first mask once; wrong for a network in which something from before the
            first mask joins again behind it. Default: for chains and models that name their own places.

    Example:
        >>> import torch, unseen
        >>> net = unseen.TurnOverNet(unseen.mlp(inputs=4, hidden=(64,), classes=3))
        >>> x, index = torch.randn(2, 4), torch.tensor([0, 1])
        >>> net(x, index, "seen").shape
        torch.Size([2, 3])
        >>> seen, unseen_half = net(x, index, "both")
        >>> torch.allclose(seen + unseen_half, 2 * net(x), atol=1e-5)  # one hidden layer: exact halves
        True
    """

    def __init__(self, net: nn.Module, fork: bool | None = None, **options: Any) -> None:
        super().__init__()
        self.net, self.fork = net, not is_read_by_width(net) if fork is None else fork
        self.switch = attach(net, **options)

    @classmethod
    def around(cls, net: nn.Module, switch: Switch) -> "TurnOverNet":
        """A network to which masks with this switch are attached already; it is not copied."""
        wrapped = cls.__new__(cls)
        nn.Module.__init__(wrapped)
        wrapped.net, wrapped.fork, wrapped.switch = net, not is_read_by_width(net), switch
        wrapped.training = net.training
        return wrapped

    def forward(self, x: Inputs, index: Tensor | None = None, side: str | None = None) -> Any:
        """Logits of one side, or of both.

        Args:
            x: inputs (batch, ...), or the net's named arguments: a mapping of tensors, as tokenizers give.
            index: int64 (batch,), the examples' positions in the data set.
            side: "seen", "unseen", "full" (no masks), "both" or "all"; default: seen with an index, full without.

        Returns:
            The net's output (its ``logits``, where it gives more); for "both" the pair (seen, unseen) and for "all" the triple (seen,
            unseen, full), with one common pass up to the first mask where the net allows it. See ``shares_masks`` for what full is.

        Raises:
            UnseenError: an unknown side, an index that is missing or not an int64 vector of the batch's length, or a copy of the network
                that ``nn.DataParallel`` runs in a thread.
        """
        if getattr(self, "_is_replica", False):
            raise UnseenError(IN_THREADS)
        side = side or ("full" if index is None else "seen")
        if side == "full":
            with self.switch.turned(None, "full"):
                return self._logits(x, 1)
        index = checked_index(index, batch_size(x), side)
        if side == "all" and (self.is_average_of_halves or self.shares_masks):
            seen, unseen = self.forward(x, index, "both")
            return seen, unseen, (seen + unseen) / 2
        copies = COPIES.get(side, 1)
        if copies < 3 and (layers := self._active(x)) is not None:
            assert isinstance(x, Tensor)
            out = active_logits(layers, x, index, side)
        else:
            with self.switch.turned(index, side):
                out = self._logits(x, 1 if self.fork else copies)
        return out if copies == 1 else out.unflatten(0, (copies, len(index))).unbind(0)

    def _active(self, x: Inputs) -> list[nn.Module] | None:
        """The layers, where they can be computed by their active units alone, on a CPU and outside of any transformation."""
        eager = not torch.compiler.is_compiling() and torch._C._functorch.maybe_current_level() is None
        return active_layers(self.net) if eager and isinstance(x, Tensor) and x.is_cpu else None

    def _logits(self, x: Inputs, copies: int) -> Any:
        x = on_rows(lambda rows: torch.cat([rows] * copies), x) if copies > 1 else x
        out = self.net(x) if isinstance(x, Tensor) else self.net(**x)
        return logits_of(out)

    @property
    def is_average_of_halves(self) -> bool:
        """Whether full = (seen + unseen) / 2 exactly: one mask, and behind it nothing but linear layers in a sequence."""
        masked = [name for name, module in self.net.named_children() if hasattr(module, CHILD)]
        places = self.masked_layers()
        if not isinstance(self.net, nn.Sequential) or not masked or [place.scale for place in places] != [KEEP_MEAN]:
            return False
        names = [name for name, _ in self.net.named_children()]
        behind = list(self.net.children())[names.index(masked[0]) + 1 :]
        return all(isinstance(module, nn.Linear | nn.Identity) for module in behind) and not self.net._forward_hooks

    @property
    def shares_masks(self) -> bool:
        """Whether all masks are of few groups, which examples share. Weights between units that no mask has together are then never
        trained, so the network without masks says nothing: of sides "all" the third is the mean of both halves' logits.
        """
        return all(place.is_shared for place in self.masked_layers())

    def masked_layers(self) -> list[Place]:
        """The places of the masks, in order."""
        return [module.place for module in self.net.modules() if isinstance(module, TurnOver)]


def attach(
    net: nn.Module,
    seed: int = 0,
    groups: int | None = None,
    tied: bool = False,
    only: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    scale: float | None = None,
    places: Sequence[Place] | None = None,
    output: str | None = None,
    examples: int | None = None,
) -> Switch:
    """Put a ``TurnOver`` mask after every hidden layer of ``net``, in place, and return their common switch.

    Args:
        net: any module. Its method ``turn_over_places()`` is asked where masks go if it has one, ``find_places`` if not.
        seed: seed of the masks.
        groups: units share a mask in this many groups per layer (each width must divide); None or 0: none share. Of 8 groups or fewer
            many examples have the same mask, on purpose: that is what trains a half of a deep network as a whole.
        tied: all layers with the same number of groups have the same masks.
        only: names of the hidden layers that get one, ``fnmatch`` patterns allowed.
        skip: names of those that get none.
        scale: what a seen unit is multiplied by, where the place does not say otherwise. 2 keeps the mean of what the next layer sees, so
            that with one masked layer the full network is the average of its halves. sqrt(2) keeps the variance: in a deep network of
            rectifiers half the units times 2 double the variance at every layer, so that the full network, without that factor, is out of
            range (LOG.md has the measurements). Default: 2 for chains and models that name their own places, sqrt(2) for all others.
        places: your own list instead.
        output: name of the output layer, where it is not the last one registered.
        examples: size of the data set; checks that no two examples share a mask.

    Raises:
        UnseenError: no hidden layer, a name that is not there, a net that has masks already, or too few units for ``examples`` different
            masks.
    """
    if any(isinstance(module, TurnOver) for module in net.modules()):
        raise UnseenError("This network has turn-over masks already. Build it anew, or wrap a copy made before attaching.")
    chosen = choose(list(places or places_of(net, output)), only, skip)
    scale = scale or (KEEP_VARIANCE if is_read_by_width(net) else KEEP_MEAN)
    chosen = [replace(place, groups=_groups(place, groups), scale=place.scale or scale) for place in chosen]
    check_capacity(chosen, examples)
    switch = Switch()
    numbers: dict[str, int] = {}
    for place in chosen:
        stream = f"tied {place.groups or place.units}" if tied else place.stream or place.module
        number = numbers.setdefault(stream, len(numbers))
        module = net.get_submodule(place.module)
        module.add_module(CHILD_OF_INPUT if place.input else CHILD, TurnOver(place, seed, number, switch))
        if place.input:
            module.register_forward_pre_hook(_mask_input)
        elif not getattr(module, "masks_itself", False):
            module.register_forward_hook(_mask_output)
    return switch


def _groups(place: Place, groups: int | None) -> int | None:
    """Of a place: its own, but where fewer are asked for that divide them, as of attention's heads."""
    if place.groups and groups and groups <= FEW and place.groups % groups == 0:
        return groups
    return place.groups or groups or None


def _mask_output(module: nn.Module, _: Any, output: Any) -> Any:
    # No closure: a hook that closed over its mask would, in a deep copy, still point at the original's.
    masked = module.get_submodule(CHILD)
    if isinstance(output, Tensor):
        return masked(output)
    if isinstance(output, tuple) and isinstance(output[0], Tensor):  # attention with its weights, a recurrent layer with its state
        return (masked(output[0]), *output[1:])
    raise UnseenError(f"{type(module).__name__} gives a {type(output).__name__}, which cannot be masked. Leave it out: skip=[…].")


def _mask_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module.get_submodule(CHILD_OF_INPUT)(inputs[0]), *inputs[1:])


def checked_index(index: Tensor | None, batch: int, side: str) -> Tensor:
    """The index of a batch. Raises UnseenError: an unknown side, or an index that is missing or not an int64 vector of that length."""
    if side not in (sides := (*Side, *COPIES)):
        raise UnseenError(f"Unknown side {side!r}. The sides are {', '.join(sides)}.")
    if index is None:
        raise UnseenError(f"Side {side!r} needs the examples' index: net(x, index, {side!r}).")
    if index.dtype != torch.int64 or index.dim() != 1 or len(index) != batch:
        raise UnseenError(
            f"The index must be an int64 vector with one entry per example, {batch} here; got {index.dtype} of shape {tuple(index.shape)}."
        )
    return index
