"""Architectures that turn-over dropout is tried on: small, with fresh weights. ``benchmarks/architectures.py`` makes their table."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unseen
from unseen.models.resnet import resnet18

TOKENS, WORDS, CLASSES = 9, 50, 3
LEAKY_STATE = [f"{kind}_l{layer}" for kind in ("weight_hh", "bias_ih", "bias_hh") for layer in (0, 1)] + ["weight_ih_l1"]


@dataclass(frozen=True)
class Architecture:
    """build: makes the net. inputs: a batch of n. shared: parameters that both halves may share. leaky: batch statistics leak too."""

    name: str
    build: Any
    inputs: Any
    shared: tuple[str, ...] = ()
    leaky: bool = False
    loss: Any = F.cross_entropy
    options: dict[str, Any] = field(default_factory=dict)


def features(n: int) -> Tensor:
    return torch.randn(n, 12)


def images(n: int, size: int = 16) -> Tensor:
    return torch.randn(n, 3, size, size)


def words(n: int) -> Tensor:
    return torch.randint(1, WORDS, (n, TOKENS))


def sentences(n: int) -> dict[str, Tensor]:
    mask = torch.ones(n, TOKENS, dtype=torch.int64)
    mask[: n // 2, -2:] = 0
    return {"input_ids": words(n), "attention_mask": mask}


def next_word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Every row predicts one and the same word at all places: a loss as good as another."""
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))


def vgg_batch_norm(to: str | None = None) -> nn.Module:
    layers = []
    for module in unseen.vgg11(width=0.125):
        layers.append(module)
        if isinstance(module, nn.Conv2d):
            layers.append(nn.BatchNorm2d(module.out_channels))
    net = nn.Sequential(*layers)
    return unseen.convert_batch_norm(net, to) if to else net


def resnet(to: str | None = None) -> nn.Module:
    net = resnet18(classes=CLASSES, width=0.125)
    return unseen.convert_batch_norm(net, to) if to else net


class RecurrentClassifier(nn.Module):
    """Embedding, two recurrent layers, the last time's output."""

    def __init__(self, kind: type[nn.RNNBase], bidirectional: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 32)
        self.recurrent = kind(32, 16 if bidirectional else 32, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.output = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.recurrent(self.embedding(x))[0][:, -1])


def recurrent(kind: type[nn.RNNBase], masked: bool, **options: Any) -> nn.Module:
    net = RecurrentClassifier(kind, **options)
    return unseen.convert_recurrent(net) if masked else net


class BagClassifier(nn.Module):
    """The mean of the words' vectors, a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 32)
        self.hidden, self.output = nn.Linear(32, 32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden(torch.sigmoid(self.words(x)))))


class TorchTransformer(nn.Module):
    """PyTorch's own encoder layer, whose attention is one module with bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.output = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layer(self.words(x)).mean(1))


def bert(**options: Any) -> nn.Module:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 16}
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=WORDS, num_labels=CLASSES, **sizes, **options))


def distilbert() -> nn.Module:
    import transformers

    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 16}
    config = transformers.DistilBertConfig(vocab_size=WORDS, num_labels=CLASSES, **sizes)
    return transformers.DistilBertForSequenceClassification(config)


def gpt2() -> nn.Module:
    import transformers

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=WORDS, **sizes))


def llama() -> nn.Module:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    config = transformers.LlamaConfig(vocab_size=WORDS, max_position_embeddings=16, bos_token_id=0, eos_token_id=0, **sizes)
    return transformers.LlamaForCausalLM(config)


def vit() -> nn.Module:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=CLASSES, **sizes)
    return transformers.ViTForImageClassification(config)


CATALOGUE = [
    Architecture("MLP", lambda: unseen.mlp(12, (32, 64), CLASSES), features, ("output.bias",)),
    Architecture("VGG-11", lambda: unseen.vgg11(width=0.125), partial(images, size=32), ("output.bias",)),
    Architecture("VGG-11 with batch norm", vgg_batch_norm, partial(images, size=32), ("34.bias",), leaky=True),
    Architecture("VGG-11, group norm", partial(vgg_batch_norm, "group"), partial(images, size=32), ("34.bias",)),
    Architecture("ResNet-18 with batch norm", resnet, images, ("fc.bias",), leaky=True),
    Architecture("ResNet-18, group norm", partial(resnet, "group"), images, ("fc.bias",)),
    Architecture("ResNet-18, frozen batch norm", partial(resnet, "frozen"), images, ("fc.bias",)),
    Architecture("ViT", vit, images, ("classifier.bias",)),
    Architecture("CCT", lambda: unseen.models.paper.CCT(3, 8, CLASSES, True, dim=32, depth=2), partial(images, size=8), ("output.bias",)),
    Architecture("BERT classifier", bert, sentences, ("classifier.bias",)),
    Architecture("DistilBERT classifier", distilbert, sentences, ("classifier.bias",)),
    Architecture("GPT-2", gpt2, words, (), loss=next_word_loss),
    Architecture("Llama", llama, words, (), loss=next_word_loss),
    Architecture("nn.TransformerEncoderLayer", TorchTransformer, words, ("layer.self_attn.in_proj_bias", "output.bias")),
    Architecture(
        "LSTM, mask on its output",
        partial(recurrent, nn.LSTM, False),
        words,
        (*(f"recurrent.{kind}" for kind in LEAKY_STATE), "output.bias"),
    ),
    Architecture("LSTM, converted", partial(recurrent, nn.LSTM, True), words, ("output.bias",)),
    Architecture("GRU, converted", partial(recurrent, nn.GRU, True), words, ("output.bias",)),
    Architecture("bidirectional LSTM, converted", partial(recurrent, nn.LSTM, True, bidirectional=True), words, ("output.bias",)),
    Architecture("Embedding bag", BagClassifier, words, ("output.bias",)),
]  # fmt: skip
