"""Turn-over dropout: every example trains one half of the network and never touches the other half.

Kobayashi et al., *Efficient Estimation of Influence of a Training Instance* (2020); Liu, Lin, Jaggi,
*Understanding Memorization from the Perspective of Optimization via Efficient Influence Estimation* (2021).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError
from unseen.masks import HalfMask, capacity

SIDES = ("seen", "unseen", "full", "both", "all")
COPIES = {"both": 2, "all": 3}  # how many sides come out of one forward
CHILD = "turn_over"  # the name under which a layer carries its TurnOver module


@dataclass(frozen=True)
class Place:
    """Where one mask goes: on the output of ``module``.

    Args:
        module: name of the module in the network. layer: name of the hidden layer that it belongs to.
        units: width of the output along ``dim`` (1 for feature maps, channels first; -1 for neurons).
        groups: units share a mask in this many equal, contiguous groups; None: every unit its own.
        stream: places of one stream have the same mask, as a residual stream needs.
        scale: what a seen unit is multiplied by; None: ``attach``'s. After a norm over units of which half are
            zero, a seen unit is sqrt(2) too large already, so sqrt(2) does.
    """

    module: str
    layer: str
    units: int
    dim: int = -1
    groups: int | None = None
    stream: str | None = None
    scale: float | None = None


class Switch:
    """Which half is active, and of which examples: set for one forward, shared by all masks of a network."""

    def __init__(self) -> None:
        self.index: Tensor | None = None
        self.side = "full"

    @contextmanager
    def turned(self, index: Tensor, side: str) -> Iterator[None]:
        """Turn the network to one side for the length of a forward; cleared whatever happens."""
        self.index, self.side = index, side
        try:
            yield
        finally:
            self.index, self.side = None, "full"


class TurnOver(nn.Module):
    r"""Mask the units of one layer: :math:`s\,m(z) \odot h` on the seen side, :math:`s\,(1 - m(z)) \odot h` on the unseen.

    Has no parameters and no state that is saved. Does nothing unless its ``TurnOverNet`` is in a forward.

    Args:
        place: see ``Place``. seed, layer: what the masks are a function of, beside the index.
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
        self.mask = HalfMask(groups, seed, layer)

    def forward(self, h: Tensor) -> Tensor:
        """Mask ``h`` for the side and the examples that the switch names."""
        index, side = self.switch.index, self.switch.side
        if index is None or side == "full":
            return h
        mask = self.mask(index)  # bytes as long as possible: what is large is slow
        if side == "unseen":
            mask = 2 - mask
        if side not in COPIES:
            return h * self._shape(self._scaled(mask, h.dtype), h)
        sides = self._scaled(torch.stack((mask, 2 - mask)), h.dtype)
        if side == "all":
            sides = torch.cat((sides, torch.ones_like(sides[:1])))
        if h.shape[0] == len(index):  # the first mask: fork here
            return (h * self._shape(sides, h)).flatten(0, 1)
        return h * self._shape(sides.flatten(0, 1), h)

    def _scaled(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        mask, scale = mask.to(dtype), self.place.scale or 2.0
        return mask if scale == 2.0 else mask * (scale / 2)

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


class TurnOverNet(nn.Module):
    """A network that can be asked for either half: ``net(x, index, side)``.

    Masks are attached to ``net`` itself (``attach``), so an optimiser over ``net.parameters()`` stays valid and
    the keys of ``net.state_dict()`` stay as they were.

    Args:
        net: any feed-forward module, with ``attach``'s options: seed, groups, tied, only, skip, scale, places, examples.
        fork: on sides "both" and "all", run what comes before the first mask once. Turn off for a network in which
            something from before the first mask joins again behind it.

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

    def __init__(self, net: nn.Module, fork: bool = True, **options: Any) -> None:
        super().__init__()
        self.net, self.fork = net, fork
        self.switch = attach(net, **options)

    def forward(self, x: Tensor, index: Tensor | None = None, side: str | None = None) -> Any:
        """Logits of one side, or of both.

        Args:
            x: inputs (batch, ...). index: int64 (batch,), the examples' positions in the data set.
            side: "seen", "unseen", "full" (no masks), "both" or "all"; default: seen with an index, full without.

        Returns the net's output; for "both" the pair (seen, unseen) and for "all" the triple (seen, unseen, full), with
        one common pass up to the first mask.

        Raises UnseenError: an unknown side, or an index that is missing or not an int64 vector of the batch's length.
        """
        side = side or ("full" if index is None else "seen")
        if side == "full":
            return self.net(x)
        index = _checked(index, len(x), side)
        if side == "all" and self.is_average_of_halves:
            seen, unseen = self.forward(x, index, "both")
            return seen, unseen, (seen + unseen) / 2
        copies = COPIES.get(side, 1)
        if copies > 1 and not self.fork:
            x = torch.cat([x] * copies)
        with self.switch.turned(index, side):
            out = self.net(x)
        return out if copies == 1 else out.unflatten(0, (copies, len(index))).unbind(0)

    @property
    def is_average_of_halves(self) -> bool:
        """Whether full = (seen + unseen) / 2 exactly: one mask, and behind it nothing but linear layers in a sequence."""
        masked = [name for name, module in self.net.named_children() if hasattr(module, CHILD)]
        places = self.masked_layers()
        if not isinstance(self.net, nn.Sequential) or not masked or [place.scale for place in places] != [2.0]:
            return False
        names = [name for name, _ in self.net.named_children()]
        behind = list(self.net.children())[names.index(masked[0]) + 1 :]
        return all(isinstance(module, nn.Linear | nn.Identity) for module in behind)

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
    scale: float = 2.0,
    places: Sequence[Place] | None = None,
    examples: int | None = None,
) -> Switch:
    """Put a ``TurnOver`` mask after every hidden layer of ``net``, in place, and return their common switch.

    Args:
        net: any module. Its method ``turn_over_places()`` is asked where masks go if it has one, ``find_places`` if not.
        seed: seed of the masks.
        groups: units share a mask in this many groups per layer (each width must divide); None or 0: none share.
        tied: all layers with the same number of groups have the same masks.
        only, skip: names of hidden layers, ``fnmatch`` patterns allowed.
        scale: what a seen unit is multiplied by, where the place does not say otherwise. 2 keeps the mean of what the next
            layer sees, so that with one masked layer the full network is the average of its halves. sqrt(2) keeps the
            variance: in a deep network of rectifiers half the units times 2 double the variance at every layer, so that
            the full network, without that factor, is out of range (LOG.md has the measurements).
        places: your own list instead.
        examples: size of the data set; checks that no two examples share a mask.

    Raises UnseenError: no hidden layer, a name that is not there, a net that has masks already, or too few units for
    ``examples`` different masks.
    """
    if any(isinstance(module, TurnOver) for module in net.modules()):
        raise UnseenError("This network has turn-over masks already. Build it anew, or wrap a copy made before attaching.")
    own = getattr(net, "turn_over_places", None)
    chosen = _chosen(list(places or (own() if own else find_places(net))), only, skip)
    chosen = [replace(place, groups=place.groups or groups or None, scale=place.scale or scale) for place in chosen]
    check_capacity(chosen, examples)
    switch = Switch()
    numbers: dict[str, int] = {}
    for place in chosen:
        stream = f"tied {place.groups or place.units}" if tied else place.stream or place.module
        number = numbers.setdefault(stream, len(numbers))
        module = net.get_submodule(place.module)
        module.add_module(CHILD, TurnOver(place, seed, number, switch))
        module.register_forward_hook(_mask_output)
    return switch


def find_places(net: nn.Module) -> list[Place]:
    """Hidden layers of a feed-forward net in order of registration, and where the mask of each goes.

    The last layer with weights is the output. Inside an ``nn.Sequential`` a mask moves behind the activation, the
    dropout and the pooling that follow, where that is equal and cheaper; behind a batch norm that directly follows
    too. A norm over units (layer, group) would mix the halves, so it gets the layer's mask before and behind.
    Elsewhere the mask stands on the layer's own output, right for activations with f(0) = 0.

    Raises UnseenError where there is no hidden layer.
    """
    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    layers = [i for i, (_, module) in enumerate(leaves) if _units(module)]
    found: list[Place] = []
    for i in layers[:-1]:
        found += _places_of_layer(net, leaves, i)
    if not found:
        raise UnseenError(
            f"{type(net).__name__} has no hidden layer that can carry a mask (linear, convolution or embedding before the "
            "output layer). Add one, or name your places: attach(net, places=[Place(...)])."
        )
    return found


def check_capacity(places: Sequence[Place], examples: int | None) -> None:
    """Raise UnseenError unless one of the places alone gives each of ``examples`` examples its own mask."""
    if examples is None or not places:
        return
    widest = max(places, key=lambda place: capacity(place.groups or place.units))
    most = capacity(widest.groups or widest.units)
    if most < examples:
        raise UnseenError(
            f"Two examples would share a mask: the widest masked layer, {widest.layer!r}, has "
            f"{widest.groups or widest.units} independent units, enough for {most:,} examples, and the data set has {examples:,}. "
            f"Make a hidden layer wider or use more groups: {_units_for(examples)} are enough."
        )


def _units_for(examples: int) -> int:
    return next(units for units in range(2, 97, 2) if capacity(units) >= examples)


def _mask_output(module: nn.Module, _: Any, output: Tensor) -> Tensor:
    # No closure: a hook that closed over its mask would, in a deep copy, still point at the original's.
    masked: Tensor = module.get_submodule(CHILD)(output)
    return masked


def _checked(index: Tensor | None, batch: int, side: str) -> Tensor:
    if side not in SIDES:
        raise UnseenError(f"Unknown side {side!r}. The sides are {', '.join(SIDES)}.")
    if index is None:
        raise UnseenError(f"Side {side!r} needs the examples' index: net(x, index, {side!r}).")
    if index.dtype != torch.int64 or index.dim() != 1 or len(index) != batch:
        raise UnseenError(
            f"The index must be an int64 vector with one entry per example, {batch} here; got {index.dtype} of shape {tuple(index.shape)}."
        )
    return index


def _chosen(places: list[Place], only: Sequence[str] | None, skip: Sequence[str] | None) -> list[Place]:
    names = list(dict.fromkeys(place.layer for place in places))
    for pattern in (*(only or ()), *(skip or ())):
        if not any(fnmatch(name, pattern) for name in names):
            raise UnseenError(f"No hidden layer is called {pattern!r}. The hidden layers are {', '.join(names)}.")
    keep = [name for name in names if only is None or any(fnmatch(name, pattern) for pattern in only)]
    keep = [name for name in keep if not any(fnmatch(name, pattern) for pattern in skip or ())]
    if not keep:
        raise UnseenError(f"No layer is left to mask. The hidden layers are {', '.join(names)}.")
    return [place for place in places if place.layer in keep]


def _units(module: nn.Module) -> int:
    """Number of output units of a layer with weights; 0 for anything else."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding | nn.EmbeddingBag):
        widths = ("out_features", "out_channels", "embedding_dim")
        return next(int(getattr(module, width)) for width in widths if hasattr(module, width))
    return 0


def _places_of_layer(net: nn.Module, leaves: list[tuple[str, nn.Module]], i: int) -> list[Place]:
    name, layer = leaves[i]
    parent = net.get_submodule(name.rpartition(".")[0])
    place = Place(name, name, _units(layer), 1 if "Conv" in type(layer).__name__ else -1, stream=name)
    found: list[Place] = []
    for follower, module in leaves[i + 1 :]:
        if net.get_submodule(follower.rpartition(".")[0]) is not parent:
            break
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            found.append(place)
            place = replace(place, module=follower, scale=2**0.5)
        elif _is_batch_norm(module, place.units) or (isinstance(parent, nn.Sequential) and _is_transparent(module)):
            place = replace(place, module=follower)
        else:
            break
    return [*found, place]


def _is_batch_norm(module: nn.Module, units: int) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.num_features == units


def _is_transparent(module: nn.Module) -> bool:
    """Whether masking behind the module equals masking before it, or is what is wanted (behind an activation)."""
    kinds = ("activation", "dropout", "pooling")
    return isinstance(module, nn.Identity) or type(module).__module__ in {f"torch.nn.modules.{kind}" for kind in kinds}
