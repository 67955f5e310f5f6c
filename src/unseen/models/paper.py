"""The paper's networks, in plain PyTorch: ``mlp``, ``vgg11`` and ``cct``.

``turn_over_places`` on a model says where its masks go; a model without it is read by ``places.find_places``.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.data import BUCKETS
from unseen.errors import UnseenError
from unseen.masks import Place
from unseen.models.resnet import resnet10


def mlp(inputs: int = 784, hidden: Sequence[int] = (4096,), classes: int = 10, output_bias: bool = True) -> nn.Module:
    """Multi-layer perceptron with ReLU; the paper's is 784-4096-10 (section 4.1).

    Args:
        inputs: features per example (images are flattened).
        hidden: width of each hidden layer.
        classes: how many, the width of the output.
        output_bias: whether the output layer has a bias.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (fan_in, width) in enumerate(zip((inputs, *hidden), hidden, strict=False), 1):
        layers[f"hidden{number}"] = nn.Linear(fan_in, width)
        layers[f"relu{number}"] = nn.ReLU()
    layers["output"] = nn.Linear((inputs, *hidden)[-1], classes, bias=output_bias)
    return nn.Sequential(layers)


def vgg11(channels: int = 3, classes: int = 10, width: float = 1.0, output_bias: bool = True) -> nn.Module:
    """VGG configuration A (Simonyan & Zisserman 2015) for 32x32 images, without batch norm.

    Eight 3x3 convolutions and five poolings leave one pixel of 512 channels; then, as usual for CIFAR, one linear
    layer of 512 in place of the two of 4096. He initialisation (He et al. 2015) as in torchvision's VGG, except
    that the output layer has PyTorch's default. Smaller images are padded to 32x32.

    Args:
        channels: of the input.
        classes: how many, the width of the output.
        width: factor on every number of channels.
        output_bias: whether the output layer has a bias.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(pad=PadTo(32))
    fan_in, number, size = channels, 0, round(512 * width)
    for block, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512)), 1):
        for out in widths:
            number, out = number + 1, round(out * width)
            layers[f"conv{number}"] = nn.Conv2d(fan_in, out, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            fan_in = out
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers |= {"hidden": nn.Linear(size, size), "relu9": nn.ReLU(), "output": nn.Linear(size, classes, bias=output_bias)}
    net = nn.Sequential(layers)
    for module in list(net.modules())[:-1]:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    last: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return last


def cct(channels: int = 3, size: int = 32, classes: int = 10, output_bias: bool = True) -> nn.Module:
    """Compact convolutional transformer CCT-7/3x1 (Hassani et al. 2021): 7 layers, 4 heads, 256 units; ``cct2`` is the small one.

    One 3x3 convolution and an overlapping max-pooling make the tokens ((size / 2)^2 of them); learned positions;
    pre-norm blocks with an MLP of 512; attention over the tokens pools them. Left out: dropout and stochastic
    depth (the masks regularise), and the bias of the pooling attention, which a softmax does not see.

    Masks: one, tied, on all of the residual stream and behind each norm over it; one on the heads of each block; one
    on the units of each MLP.
    """
    return CCT(channels, size, classes, output_bias)


def cct2(channels: int = 3, size: int = 32, classes: int = 10, output_bias: bool = True) -> nn.Module:
    """CCT-2/3x2 (Hassani et al. 2021): 2 layers, 2 heads, 128 units behind two convolutions, (size / 4)^2 tokens; else as ``cct``."""
    return CCT(channels, size, classes, output_bias, dim=128, depth=2, heads=2, convolutions=2, ratio=1)


class PadTo(nn.Module):
    """Pad images with their edge value of zero up to ``size`` in height and width."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, size or more, size or more)."""
        missing_h, missing_w = max(0, self.size - x.shape[-2]), max(0, self.size - x.shape[-1])
        if not missing_h and not missing_w:
            return x
        return F.pad(x, (missing_w // 2, missing_w - missing_w // 2, missing_h // 2, missing_h - missing_h // 2))


class CCT(nn.Module):
    """See ``cct``. convolutions: of the tokenizer, all but the last with 64 channels. ratio: width of the blocks' MLPs over ``dim``."""

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int,
        output_bias: bool,
        dim: int = 256,
        depth: int = 7,
        heads: int = 4,
        convolutions: int = 1,
        ratio: int = 2,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.ratio, self.convolutions = dim, heads, ratio, convolutions
        widths = [channels, *[64] * (convolutions - 1), dim]
        stages: list[nn.Module] = []
        for fan_in, out in pairwise(widths):
            stages += [nn.Conv2d(fan_in, out, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
            size = (size + 1) // 2
        self.tokenizer = nn.Sequential(*stages, nn.Flatten(2))
        self.positions = Positions(size**2, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.pool = nn.Linear(dim, 1, bias=False)
        self.output = nn.Linear(dim, classes, bias=output_bias)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, size, size) to logits (batch, classes)."""
        tokens = self.positions(self.tokenizer(x).transpose(1, 2))  # (batch, tokens, dim)
        tokens = self.norm(self.blocks(tokens))
        weights = self.pool(tokens).softmax(1)  # (batch, tokens, 1)
        logits: Tensor = self.output((weights * tokens).sum(1))
        return logits

    def turn_over_places(self) -> list[Place]:
        """The stream's mask is put on again behind each norm, which fills the zeros with its offset."""
        stream = Place("positions", "positions", self.dim, stream="residual")
        behind_norm = Place("norm", "norm", self.dim, stream="residual", scale=2**0.5)
        places = [Place(f"tokenizer.{3 * stage + 2}", f"tokenizer.{3 * stage}", 64, dim=1) for stage in range(self.convolutions - 1)]
        places.append(stream)
        for number in range(len(self.blocks)):
            name = f"blocks.{number}"
            for module in ("norm1", "norm2"):
                places.append(_at(behind_norm, f"{name}.{module}"))
            for module in ("attention.output", "mlp.2"):
                places.append(_at(stream, f"{name}.{module}"))
            places.append(Place(f"{name}.attention.heads", f"{name}.attention.heads", self.dim, groups=self.heads))
            places.append(Place(f"{name}.mlp.1", f"{name}.mlp", self.ratio * self.dim))
        return [*places, behind_norm]


def _at(place: Place, module: str) -> Place:
    return Place(module, module, place.units, place.dim, place.groups, place.stream, place.scale)


class Positions(nn.Module):
    """Add a learned vector to each token."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, tokens, dim))
        nn.init.trunc_normal_(self.weight, std=0.2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        return tokens + self.weight


class Block(nn.Module):
    """Pre-norm transformer block: attention and an MLP of ``ratio`` times the width, each added to the stream."""

    def __init__(self, dim: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention; ``heads`` yields the heads side by side, before they are mixed by ``output``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = Heads(dim, heads)
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same."""
        mixed: Tensor = self.output(self.heads(tokens))
        return mixed


class Heads(nn.Module):
    """Scaled dot-product attention of each head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.count = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to (batch, tokens, heads * dim / heads)."""
        batch, count, dim = tokens.shape
        parts = self.query_key_value(tokens).view(batch, count, 3, self.count, dim // self.count)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed: Tensor = attention(query, key, value).transpose(1, 2).reshape(batch, count, dim)
        return mixed


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention. In bfloat16 on a CPU plain products take a quarter of the whole step less than PyTorch's own kernel.

    Args:
        query: (batch, heads, tokens, d).
        key: the same.
        value: the same.

    Returns:
        softmax(query key' / sqrt(d)) value, (batch, heads, tokens, d).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        found: Tensor = F.scaled_dot_product_attention(query, key, value)
        return found
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1, dtype=torch.float32)
    mixed: Tensor = weights.to(value.dtype) @ value
    return mixed


def text(classes: int = 2, units: int = 64, output_bias: bool = True) -> nn.Module:
    """Weighted sum of a vector of ``units`` numbers per feature of the text (``text.bags``), and a linear output.

    Linear on purpose: on the 6,920 sentences of SST-2 a hidden layer only learned the noise sooner (LOG.md). One mask, so the full
    network is exactly the average of its halves, and influence has its fast path.
    """
    layers = OrderedDict[str, nn.Module](features=WeightedBag(BUCKETS, units, mode="sum", padding_idx=0))
    layers["output"] = nn.Linear(units, classes, bias=output_bias)
    return nn.Sequential(layers)


class WeightedBag(nn.EmbeddingBag):
    """An embedding bag of features and their weights, in one tensor; starts near 0, so that a feature says what it has learned."""

    def reset_parameters(self) -> None:
        """Small normal numbers."""
        nn.init.normal_(self.weight, std=0.01)
        self._fill_padding_idx_with_zero()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Bags (batch, features, 2) to (batch, units)."""
        summed: Tensor = super().forward(x[..., 0].long(), per_sample_weights=x[..., 1])
        return summed


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "vgg11": vgg11, "cct": cct, "cct2": cct2, "resnet10": resnet10, "text": text}


def build(
    name: str, shape: Sequence[int], classes: int, hidden: Sequence[int] = (4096,), width: float = 1.0, output_bias: bool = True
) -> nn.Module:
    """The named model for examples of ``shape``: (channels, height, width), or (features,) for ``mlp``.

    Raises:
        UnseenError: an unknown name, or a model that cannot take that shape.
    """
    if name not in MODELS:
        raise UnseenError(f"Unknown model {name!r}. The models are {', '.join(MODELS)}; any nn.Module works from Python.")
    if name == "mlp":
        return mlp(int(torch.Size(shape).numel()), hidden, classes, output_bias)
    if name == "text":
        if len(shape) != 2 or shape[1] != 2:
            raise UnseenError(f"Model text needs texts; these examples have shape {tuple(shape)}. Name their column: --text COLUMN.")
        return text(classes, output_bias=output_bias)
    if len(shape) != 3:
        raise UnseenError(f"{name} needs images (channels, height, width); these examples have shape {tuple(shape)}. Use --model mlp.")
    if name in ("vgg11", "resnet10"):
        return MODELS[name](shape[0], classes, width, output_bias)
    return (cct2 if name == "cct2" else cct)(shape[0], max(shape[1:]), classes, output_bias)
