"""What a network gives out, as one thing: logits, (examples, classes). A network of one's own is checked at its first batch."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError

ROWS = 16  # examples of the first batch
SUMS_TO_ONE = 1e-3  # how far rows of probabilities may be from it, in bf16 too


def classifier(net: nn.Module, x: Tensor, classes: int) -> nn.Module:
    """The same network, in place, as one that gives logits (examples, classes), after a look at its first batch.

    A tuple or list gives its first element, a mapping or an object its ``logits``. One logit z for two classes becomes the two logits
    (0, z): the probability of the second class is sigmoid(z), and cross entropy is that of the one logit. A network that gives plain logits
    is left as it is.

    Args:
        net: a network of the user's own; called as ``net(x)``, in evaluation, once.
        x: the first examples (n, ...), of another number than there are classes, where there are enough (``first_rows``).
        classes: how many there are, at least 2.

    Returns:
        ``net``.

    Raises:
        UnseenError: weights that cannot be trained (see ``check_weights``), a network that cannot be called with a batch alone, and an
            output of another type, shape or number of classes, or one that no gradient can come back from.
    """
    check_weights(net)
    out = _first_output(net, x)
    logits = logits_of(out)
    _check_shape(logits, len(x), classes)
    _check_values(net, logits)
    if logits is not out or logits.dim() == 1 or logits.shape[1] == 1:
        net.register_forward_hook(_give_logits)
    return net


def first_rows(examples: int, classes: int) -> Tensor:
    """Positions of the examples of the first batch: not as many as classes, so that a transposed output shows."""
    rows = min(ROWS, examples)
    return torch.arange(rows - 1 if rows == classes and rows > 1 else rows)


def logits_of(out: Any) -> Tensor:
    """The logits in what a network gives. Raises UnseenError where there are none."""
    named = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    found = named if named is not None else out[0] if isinstance(out, tuple | list) and out else out
    if isinstance(found, Tensor):
        return found
    inside = f" with {', '.join(map(str, out))}" if isinstance(out, Mapping) else ""
    raise UnseenError(
        f"The network gives a {type(out).__name__}{inside}, in which no logits are found. "
        'Allowed: a tensor (examples, classes), a tuple that begins with it, or {"logits": it}. Wrap the network so that it returns that.'
    )


def two_logits(logits: Tensor) -> Tensor:
    """Logits (n, classes) as they are; one logit z per example, (n,) or (n, 1), as the two logits (0, z) of two classes."""
    if logits.dim() == 1:
        logits = logits[:, None]
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.dim() == 2 and logits.shape[1] == 1 else logits


def gives_other_than_computed(net: nn.Module) -> bool:
    """Whether hooks change what the layers of a network give, so that it is not what its layers alone compute."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for the length of a block; every module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_weights(net: nn.Module) -> None:
    """Raise UnseenError for weights that cannot be trained: compiled ones, none yet, other types than float32, all frozen."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise UnseenError(
            "The network is a TorchScript module, which can be neither copied nor masked. Give the module that it was made from."
        )
    named = dict(net.named_parameters())
    if lazy := [name for name, value in named.items() if nn.parameter.is_lazy(value)]:
        raise UnseenError(f"{lazy[0]} has no shape yet: its layer is lazy. Call the network once with a batch first: net(x).")
    if other := [f"{name} is {value.dtype}" for name, value in named.items() if value.is_floating_point() and value.dtype != torch.float32]:
        raise UnseenError(
            f"{other[0]}. Allowed: torch.float32 weights. Call net.float(); the option precision says what products are made in."
        )
    if not any(value.requires_grad for value in named.values()):
        what = f"All {len(named)} parameters of the network are frozen" if named else "The network has no parameters"
        raise UnseenError(
            f"{what}, so there is nothing to train. Set requires_grad_(True) on those that are to be trained, at least the head."
        )


def _give_logits(module: nn.Module, inputs: Any, output: Any) -> Tensor:
    return two_logits(logits_of(output))  # no closure: a deep copy takes its hooks along


def _first_output(net: nn.Module, x: Tensor) -> Any:
    """What the network gives in evaluation; its modes are left as they were."""
    device = next(net.parameters()).device
    try:
        with evaluating(net), torch.enable_grad():
            return net(x.to(device))
    except UnseenError:
        raise
    except Exception as error:
        kind, line = f"called as net(x) with {x.dtype} {tuple(x.shape)}", str(error).strip().partition("\n")[0]
        raise UnseenError(
            f"The network fails at its first batch, {kind}: {type(error).__name__}: {line} "
            "Let its first layer fit these inputs, give other arguments a default, or wrap it."
        ) from error


def _check_shape(logits: Tensor, rows: int, classes: int) -> None:
    shape = tuple(logits.shape)
    if shape in ((rows, classes), *([(rows,), (rows, 1)] if classes == 2 else [])):
        return
    if shape in ((rows,), (rows, 1)) or (logits.dim() == 2 and shape[0] == rows):
        remedy = f"Let its last layer have {classes} outputs, one for each class" + (", or one." if classes == 2 else ".")
    elif shape == (classes, rows):
        remedy = "It is transposed: return its .T."
    else:
        remedy = "Return one row of logits for each example, one column for each class."
    raise UnseenError(f"The network gives {shape} for {rows} examples of {classes} classes. Allowed: ({rows}, {classes}). {remedy}")


def _check_values(net: nn.Module, logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise UnseenError(
            f"The network gives {logits.dtype}. Allowed: logits, floating point. Return what goes into argmax, not what it says."
        )
    if not logits.requires_grad:
        raise UnseenError(
            f"No gradient comes back from the output of {type(net).__name__} to its weights. Leave out detach(), no_grad() and .data in "
            "its forward, and unfreeze a layer that the output depends on."
        )
    bad = (~logits.isfinite()).nonzero()
    if len(bad):
        raise UnseenError(
            f"The network gives {logits[tuple(bad[0])].item()} for example {int(bad[0][0])} of its first batch, before any training. "
            "Look at that input, and at the network's weights."
        )


def warn_of_probabilities(net: nn.Module, x: Tensor) -> None:
    """Warn where a network gives probabilities in place of logits, of which cross entropy learns little. Args: x: as for ``classifier``."""
    outputs = logits_of(_first_output(net, x)).detach().float()
    if outputs.dim() == 2 and bool((outputs[:, 0] == 0).all()):  # one logit, as (0, z)
        outputs = outputs[:, 1:]
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    if inside and outputs.dim() == 2 and outputs.shape[1] > 1 and bool(((outputs.sum(1) - 1).abs() < SUMS_TO_ONE).all()):
        kind = "its rows lie in [0, 1] and sum to 1, as behind a softmax"
    elif inside and bool(((outputs > 0) & (outputs < 1)).all()):
        kind = "all of them lie between 0 and 1, as behind a sigmoid"
    else:
        return
    warnings.warn(
        f"The network seems to give probabilities, not logits: {kind}. Cross entropy applies its own softmax to them, so the network "
        "learns little and the scores say little. Leave out the last Softmax or Sigmoid.",
        stacklevel=7,  # whoever called score
    )
