"""Where masks go: on the hidden layers of any module, found by kind and width.

Two rules. A chain (``nn.Sequential`` of layers, activations, poolings and norms) is read in order, and a mask moves to where it
is cheapest. Any other module is read by width:

- every module with parameters of its own, but the output layer, has its output masked. An example's loss then reaches those
  rows of the parameters alone that its half owns, whatever happens behind the mask: attention, gates, additions, norms;
- modules of the same width have the same mask. What is added must be as wide, so each residual stream keeps one mask from end
  to end without being traced, queries and keys meet in the same units, and tied embeddings agree;
- the output layer has its input masked again, for what joins on the way to it or is not 0 at 0 (a sigmoid).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from torch import nn

from unseen.errors import UnseenError
from unseen.masks.half import FEW, capacity

KEEP_MEAN, KEEP_VARIANCE = 2.0, 2**0.5
ENOUGH = 5000  # examples that share a mask, from which on more groups are taken; see ``groups_for``
LEAST = 500  # examples per mask below which an unseen half was measured to know little


@dataclass(frozen=True)
class Place:
    """Where one mask goes: on the output of ``module``.

    Args:
        module: name of the module in the network.
        layer: name of the hidden layer that it belongs to.
        units: width of the output along ``dim`` (1 for feature maps, channels first; -1 for neurons).
        groups: units share a mask in this many equal, contiguous groups; None: every unit its own.
        stream: places of one stream have the same mask, as a residual stream needs.
        scale: what a seen unit is multiplied by; None: ``attach``'s. After a norm over units of which half are zero, a seen unit is sqrt(2)
            too large already, so sqrt(2) does. 1 masks again what was masked before.
        input: on the first input of the module in place of its output.
    """

    module: str
    layer: str
    units: int
    dim: int = -1
    groups: int | None = None
    stream: str | None = None
    scale: float | None = None
    input: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether there are so few groups that examples share masks on purpose (``SharedMask``)."""
        return self.groups is not None and 2 <= self.groups <= FEW


def find_places(net: nn.Module, output: str | None = None) -> list[Place]:
    """Hidden layers of a net in order of registration, and where the mask of each goes.

    Args:
        net: without masks.
        output: name of the output layer; default: the last layer with weights.

    Inside a chain a mask moves behind the activation, the dropout and the pooling that follow, where that is equal and cheaper;
    behind a batch norm that directly follows too. A norm over units (layer, group) would mix the halves, so it gets the
    layer's mask before and behind. Any other module is read by width (see above).

    Raises:
        UnseenError: no hidden layer, no such output layer, or a module whose batch is not its first dimension.
    """
    found = _places_of_chain(net) if is_chain(net) and output is None else _places_by_width(net, output)
    if not found:
        raise UnseenError(
            f"{type(net).__name__} has no hidden layer that can carry a mask (linear, convolution or embedding before the "
            "output layer). Add one, or name your places: attach(net, places=[Place(...)])."
        )
    return found


def is_chain(net: nn.Module) -> bool:
    """Whether the net is a sequence of layers, norms and modules without parameters."""
    leaves = [module for module in net.modules() if not isinstance(module, nn.Sequential)]
    known = all(_units(module) or _is_norm(module) or not list(module.parameters()) for module in leaves)
    return isinstance(net, nn.Sequential) and known and not any(list(module.children()) for module in leaves)


def is_read_by_width(net: nn.Module) -> bool:
    """Whether the second rule holds: then masks multiply by sqrt(2) unless told otherwise, as such nets are deep or full of norms."""
    return not is_chain(net) and not hasattr(net, "turn_over_places")


def choose(places: list[Place], only: Sequence[str] | None, skip: Sequence[str] | None) -> list[Place]:
    """Those of the places whose layer is named.

    Args:
        places: of a network.
        only: patterns of layers to keep; None: all.
        skip: patterns of layers to leave out.

    Raises:
        UnseenError: for a name that is not there, and where none is left.
    """
    names = list(dict.fromkeys(place.layer for place in places))
    for pattern in (*(only or ()), *(skip or ())):
        if not any(fnmatch(name, pattern) for name in names):
            raise UnseenError(f"No hidden layer is called {pattern!r}. The hidden layers are {', '.join(names)}.")
    keep = [name for name in names if only is None or any(fnmatch(name, pattern) for pattern in only)]
    keep = [name for name in keep if not any(fnmatch(name, pattern) for pattern in skip or ())]
    if not keep:
        raise UnseenError(f"No layer is left to mask. The hidden layers are {', '.join(names)}.")
    return [place for place in places if place.layer in keep]


def mask_count(groups: int) -> int:
    """How many masks there are of so many groups, half of them on.

    >>> mask_count(2), mask_count(4), mask_count(8)
    (2, 6, 70)
    """
    return math.comb(groups, groups // 2)


def places_of(net: nn.Module, output: str | None = None) -> list[Place]:
    """Where the masks of a net go: as it says itself (``turn_over_places``), or as ``find_places`` finds."""
    own = getattr(net, "turn_over_places", None)
    return list(own() if own else find_places(net, output))


def groups_for(net: nn.Module, examples: int, only: Sequence[str] | None = None, skip: Sequence[str] | None = None) -> int:
    """How many groups of units share a mask, so that enough examples train each half as a whole.

    What trains a half as a whole are the examples whose mask is its own, examples / C(groups, groups / 2) of them. The most groups, of 2,
    4, 6 and ``FEW``, that leave ``ENOUGH`` for each mask and divide all widths; 2 where none do: the fewest that halves can be made of.

    Args:
        net: without masks.
        examples: that are trained on.
        only: see ``attach``.
        skip: see ``attach``.

    Raises:
        UnseenError: no hidden layer, or a masked width that is odd.
    """
    widths = [place.groups or place.units for place in choose(places_of(net), only, skip)]
    fitting = [groups for groups in range(2, FEW + 1, 2) if all(width % groups == 0 for width in widths)]
    if not fitting:
        odd = next(width for width in widths if width % 2)
        raise UnseenError(f"--groups is 'auto', and a layer of {odd} units has no two equal groups. Use even widths, or --skip that layer.")
    return max([groups for groups in fitting if examples >= ENOUGH * mask_count(groups)], default=fitting[0])


def check_capacity(places: Sequence[Place], examples: int | None, width: float | None = None) -> None:
    """Refuse places none of which alone gives each example its own mask, unless all of them share masks on purpose.

    Args:
        places: of a network.
        examples: how many; None: nothing is refused.
        width: the option, of a network that has one; the advice then names the value that works.

    Raises:
        UnseenError: where two examples would share a mask.
    """
    if examples is None or not places or all(place.is_shared for place in places):
        return
    widest = max(places, key=lambda place: capacity(place.groups or place.units))
    most = capacity(widest.groups or widest.units)
    if most < examples:
        raise UnseenError(
            f"Two examples would share a mask: the widest masked layer, {widest.layer!r}, has "
            f"{widest.groups or widest.units} independent units, enough for {most:,} examples, and the data set has {examples:,}. "
            f"{_advice(places, widest, examples, width)}"
        )


def _advice(places: Sequence[Place], widest: Place, examples: int, width: float | None) -> str:
    """What makes room: a wider layer; of groups, which must divide every width, a number that does, or widths that some number divides."""
    if not widest.groups:
        return f"Make a hidden layer wider: {_units_for(examples)} units are enough."
    widths = sorted({place.units for place in places})
    common = math.gcd(*widths)
    if enough := [groups for groups in range(2, common + 1, 2) if common % groups == 0 and capacity(groups) >= examples]:
        return f"Use more groups: {enough[0]} divide every width and are enough (--groups {enough[0]})."
    times = -(-_units_for(examples) // common)
    times += common * times % 2
    option = f" (--width {width * times:g} --groups {common * times})" if width else ""
    listed = ", ".join(map(str, widths))
    return (
        f"No number of groups that is enough divides every width ({listed}): make all of them {times} times as wide{option}; "
        f"{common * times} groups then divide them and are enough."
    )


def _units_for(examples: int) -> int:
    return next(units for units in range(2, 97, 2) if capacity(units) >= examples)


def _places_of_chain(net: nn.Module) -> list[Place]:
    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    layers = [i for i, (_, module) in enumerate(leaves) if _units(module)]
    found: list[Place] = []
    for i in layers[:-1]:
        found += _places_of_layer(net, leaves, i)
    return found


def _places_of_layer(net: nn.Module, leaves: list[tuple[str, nn.Module]], i: int) -> list[Place]:
    name, layer = leaves[i]
    parent = _parent(net, name)
    place = Place(name, name, _units(layer), _dim(layer), stream=name)
    found: list[Place] = []
    for follower, module in leaves[i + 1 :]:
        if _parent(net, follower) is not parent:
            break
        if _is_norm(module) and not _is_batch_norm(module):
            found.append(place)
            place = replace(place, module=follower, scale=KEEP_VARIANCE)
        elif _is_batch_norm(module, place.units) or _is_transparent(module):
            place = replace(place, module=follower)
        else:
            break
    return [*found, place]


def _places_by_width(net: nn.Module, output: str | None) -> list[Place]:
    owners = [(name, module) for name, module in net.named_modules() if list(module.parameters(recurse=False))]
    owners = [(name, module) for name, module in owners if not isinstance(_parent(net, name), nn.MultiheadAttention)]
    _refuse_time_first(owners)
    layers = [name for name, module in owners if not _is_norm(module) and not list(module.children())]
    if output is not None and output not in layers:
        raise UnseenError(f"No layer is called {output!r}. The layers with weights are {', '.join(layers)}.")
    last = output or (layers[-1] if layers else "")
    found = []
    for i, (name, module) in enumerate(owners):
        follower_name, follower = owners[i + 1] if i + 1 < len(owners) else ("", None)
        moved = _is_batch_norm(follower, _width(module)) and _parent(net, follower_name) is _parent(net, name)
        if name not in ("", last) and _width(module) > 1 and not moved:  # the net's own output is the logits
            again = _is_norm(module) and not _is_batch_norm(module)
            again = again or any(list(child.parameters()) for child in module.children())  # adds its parameters to what a child gave
            found.append(_by_width(name, _width(module), _dim(module), 1.0 if again else None))
    inputs = _inputs(net.get_submodule(last)) if found else 0
    return [*found, replace(_by_width(last, inputs, scale=1.0), input=True)] if inputs > 1 else found


def _by_width(name: str, units: int, dim: int = -1, scale: float | None = None) -> Place:
    return Place(name, name, units, dim, stream=f"width {units}", scale=scale)


def _refuse_time_first(owners: list[tuple[str, nn.Module]]) -> None:
    for name, module in owners:
        if getattr(module, "batch_first", True) is False:
            raise UnseenError(
                f"{name or type(module).__name__!r} takes (time, batch, units), where a mask would meet the wrong example. "
                "Build it with batch_first=True."
            )


def _units(module: nn.Module) -> int:
    """Number of output units of a layer with weights; 0 for anything else."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding | nn.EmbeddingBag):
        widths = ("out_features", "out_channels", "embedding_dim")
        return next(int(getattr(module, width)) for width in widths if hasattr(module, width))
    return 0


def _width(module: nn.Module) -> int:
    """Number of units that any module with parameters of its own gives out, as far as its kind or its parameters say."""
    if isinstance(module, nn.RNNBase):
        return (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    declared = (getattr(module, name, None) for name in ("mask_units", "embed_dim", "out_channels", "num_features", "num_channels"))
    known = _units(module) or next((int(width) for width in declared if isinstance(width, int)), 0)
    shapes = [parameter.shape for parameter in module.parameters(recurse=False) if parameter.dim()]
    return known or (int(shapes[-1][-1]) if shapes else 0)  # the last dimension of a bias, a position table, a norm's weight


def _inputs(module: nn.Module) -> int:
    """Number of input units of an output layer; 0 where its kind does not say."""
    return int(getattr(module, "in_features", 0))


def _dim(module: nn.Module) -> int:
    channels_first = _is_batch_norm(module) or isinstance(module, nn.GroupNorm | nn.modules.conv._ConvNd)
    return 1 if channels_first else -1


def _parent(net: nn.Module, name: str) -> nn.Module:
    return net.get_submodule(name.rpartition(".")[0])


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm) or _is_batch_norm(module) or "Norm" in type(module).__name__


def _is_batch_norm(module: nn.Module | None, units: int | None = None) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.num_features == (units or module.num_features)


def _is_transparent(module: nn.Module) -> bool:
    """Whether masking behind the module equals masking before it, or is what is wanted (behind an activation)."""
    kinds = ("activation", "dropout", "pooling")
    return isinstance(module, nn.Identity) or type(module).__module__ in {f"torch.nn.modules.{kind}" for kind in kinds}
