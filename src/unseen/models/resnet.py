"""Residual networks for small images, in torchvision's layout."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.masks import convert_batch_norm

WIDTHS = (64, 128, 256, 512)


def resnet18(channels: int = 3, classes: int = 10, width: float = 1.0, output_bias: bool = True) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the stem that is usual for CIFAR: a 3x3 convolution and no pooling.

    Its batch norms are plain ones: ``unseen.convert_batch_norm(net)`` before masks are attached keeps the halves apart.

    Args:
        channels: of the input.
        classes: how many, the width of the output.
        width: factor on every number of channels (64, 128, 256, 512).
        output_bias: whether the output layer has a bias.
    """
    return ResNet(channels, classes, [round(base * width) for base in WIDTHS], blocks=2, stride=1, output_bias=output_bias)


def resnet10(channels: int = 3, classes: int = 10, width: float = 1.0, output_bias: bool = True) -> nn.Module:
    """ResNet-10: one block in each of the four stages, a stem of stride 2, and group norms in place of batch norms.

    At a quarter of its widths an epoch of 5,000 images of 32 x 32 takes 1.7 s of one thread, and 20 of them fit every label.

    Args:
        channels: of the input.
        classes: how many, the width of the output.
        width: factor on every number of channels (64, 128, 256, 512).
        output_bias: whether the output layer has a bias.
    """
    net = ResNet(channels, classes, [round(base * width) for base in WIDTHS], blocks=1, stride=2, output_bias=output_bias)
    return convert_batch_norm(net)


class ResNet(nn.Module):
    """See ``resnet18`` and ``resnet10``.

    Args:
        channels: of the input.
        classes: how many, the width of the output.
        widths: channels of each stage; from the second on a stage halves height and width.
        blocks: in each stage.
        stride: of the first convolution.
        output_bias: whether the output layer has a bias.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: int, stride: int, output_bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        for number, (fan_in, out) in enumerate(zip([widths[0], *widths], widths, strict=False), 1):
            first = BasicBlock(fan_in, out, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, *(BasicBlock(out, out, 1) for _ in range(blocks - 1))))
        self.fc = nn.Linear(widths[-1], classes, bias=output_bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to logits (batch, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name, module in self.named_children():
            if name.startswith("layer"):
                x = module(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the stream."""

    def __init__(self, fan_in: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or fan_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(fan_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, out, height / stride, width / stride)."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return torch.relu(h + self.downsample(x))
