"""Convolutions and group norms on a CPU in bfloat16, where PyTorch's own are slow.

oneDNN's backward pass of a 3x3 convolution falls far below what matrix products reach where there are few pixels and many channels: the
deep layers of VGG-11. There the patches are gathered, and forward pass, gradient of the weights and gradient of the input are one product
each. Which layers those are is a rule of shapes and of the processor, not a timing, so that a run that goes on takes the same path.
PyTorch's group norm takes 3 to 6 times as long in bfloat16 as in float32, so it is computed in float32 and rounded.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

PIXELS = 16  # of the output, at most: 4 x 4
CHANNELS = 256  # in and out, at least
CHANNELS_WITH_TILES = 128  # where the processor multiplies tiles (AMX), oneDNN's backward falls behind sooner


class FastLayers(TorchFunctionMode):
    """Within it, any network's 3x3 convolutions of few pixels and many channels are matrix products, where gradients are wanted, and its
    group norms are computed in float32; all else is as it was.

    Example:
        >>> import torch
        >>> net = torch.nn.Conv2d(256, 256, 3, padding=1).bfloat16()
        >>> with FastLayers():
        ...     net(torch.ones(1, 256, 4, 4, dtype=torch.bfloat16)).shape
        torch.Size([1, 256, 4, 4])
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Take the place of ``F.conv2d`` and ``F.group_norm`` where that is faster."""
        if function is F.conv2d and not kwargs and torch.is_grad_enabled() and suits(*args):
            return convolution(*args[:3])
        if function is F.group_norm and args[0].device.type == "cpu" and args[0].dtype == torch.bfloat16:
            return function(args[0].float(), *args[1:], **(kwargs or {})).to(args[0].dtype)
        return function(*args, **(kwargs or {}))


def suits(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether products are faster: arguments of ``F.conv2d``."""
    same = weight.shape[2:] == (3, 3) and groups == 1 and (stride, padding, dilation) in (((1, 1),) * 3, (1, 1, 1))
    if not same or x.dim() != 4 or x.shape[2] * x.shape[3] > PIXELS or x.device.type != "cpu":
        return False
    return _precision(x) == torch.bfloat16 and min(weight.shape[:2]) >= (CHANNELS_WITH_TILES if _has_tiles() else CHANNELS)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3x3 convolution with a border of zeros, in the precision that autocast gives ``F.conv2d``.

    Args:
        x: (batch, in, height, width).
        weight: (out, in, 3, 3).
        bias: (out,).

    Returns:
        (batch, out, height, width), its channels last in memory.
    """
    kind = _precision(x)
    out: Tensor = _Convolution.apply(x.to(kind), weight.to(kind))  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.to(kind)[:, None, None]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        patches, rows = _patches(x), weight.permute(0, 2, 3, 1).flatten(1)
        ctx.save_for_backward(patches, rows)
        ctx.size = x.shape
        return _pictures(patches @ rows.T, x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        patches, rows = ctx.saved_tensors
        kernel = rows.unflatten(1, (3, 3, -1))  # (out, 3, 3, in)
        of_weight = gradient.permute(0, 2, 3, 1).flatten(0, 2).T @ patches
        turned = kernel.flip(1, 2).permute(1, 2, 0, 3).flatten(0, 2)  # the input's gradient is a convolution with the kernel turned round
        return _pictures(_patches(gradient) @ turned, ctx.size), of_weight.view_as(kernel).permute(0, 3, 1, 2)


def _patches(x: Tensor) -> Tensor:
    """(batch, channels, height, width) to (batch * height * width, 9 * channels): what lies around each pixel."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    return padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).reshape(-1, 9 * x.shape[1])


def _pictures(rows: Tensor, size: Sequence[int]) -> Tensor:
    """(batch * height * width, channels) to (batch, channels, height, width), channels last in memory."""
    return rows.view(size[0], size[2], size[3], -1).permute(0, 3, 1, 2)


def _precision(x: Tensor) -> torch.dtype:
    """What ``F.conv2d`` computes in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


@cache
def _has_tiles() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
