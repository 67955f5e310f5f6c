"""ResNet-18 for small images, in torchvision's layout."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def resnet18(channels: int = 3, classes: int = 10, width: float = 1.0, output_bias: bool = True) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the stem that is usual for CIFAR: a 3x3 convolution and no pooling.

    Its batch norms are plain ones: ``unseen.convert_batch_norm(net)`` before masks are attached keeps the halves apart.

    Args:
        channels: of the input.
        width: factor on every number of channels (64, 128, 256, 512).
    """
    return ResNet18(channels, classes, width, output_bias)


class ResNet18(nn.Module):
    """See ``resnet18``."""

    def __init__(self, channels: int, classes: int, width: float, output_bias: bool) -> None:
        super().__init__()
        widths = [round(base * width) for base in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages = [
            nn.Sequential(BasicBlock(fan_in, out, stride), BasicBlock(out, out, 1))
            for fan_in, out, stride in zip([widths[0], *widths], widths, (1, 2, 2, 2), strict=False)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(widths[-1], classes, bias=output_bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to logits (batch, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
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
