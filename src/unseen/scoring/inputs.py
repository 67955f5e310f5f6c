"""From a configuration to its examples: loaded, corrupted, cut to the subset that is trained on."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unseen.config import Config
from unseen.data import NAMES, Amount, Examples, asymmetric, find_subsets, gaussian_inputs, load, random_labels, random_pixels
from unseen.errors import UnseenError
from unseen.masks import audit
from unseen.runs import Run, open_run, source_of
from unseen.scoring.estimators import new_net

if TYPE_CHECKING:
    import polars as pl


def prepare(data: Any, model: str | nn.Module, data_dir: str | Path | None, config: dict[str, Any]) -> tuple[Config, Examples]:
    """The resolved configuration and the examples with their noise. Raises UnseenError for a field that is not there."""
    settings = settings_of(data, model, config)
    if settings.shards:
        raise UnseenError("These data are read in shards, and this needs them whole in memory. Score a part of the files without --shards.")
    examples = load(data, data_dir=data_dir, **load_options(settings))
    if not isinstance(data, str):
        settings = replace(settings, data=f"{examples.name}-{_content(examples):08x}")
    if isinstance(model, str):  # fail before the folder is made
        masked = settings.estimator != "members"  # members carry no masks
        new_net(settings if masked else replace(settings, estimator="plain"), examples, model, settings.seed)
    examples = add_noise(examples, settings)
    examples = examples.joined() if settings.join_test else examples
    watched_subsets(settings, examples)  # fail before the folder is made
    return settings, held_out(examples, settings)


def settings_of(data: Any, model: str | nn.Module, config: dict[str, Any]) -> Config:
    """The resolved configuration. Raises UnseenError for a field that is not there, or a value out of range."""
    unknown = sorted(set(config) - set(Config.__dataclass_fields__))
    if unknown:
        raise UnseenError(f"Unknown option {', '.join(unknown)}. The options are {', '.join(Config.__dataclass_fields__)}.")
    name = model if isinstance(model, str) else _fingerprint(model)
    return Config(data=data if isinstance(data, str) else "data", model=name, **config).resolved()


def run_examples(run: Run, data: Any = None, model: nn.Module | None = None, data_dir: str | Path | None = None) -> tuple[Config, Examples]:
    """The run's configuration and examples. Raises UnseenError where data or model are not what it was made of."""
    config = run.config
    fields = {name: value for name, value in asdict(config).items() if name not in ("data", "model")}
    settings, examples = prepare(source_of(run, NAMES) if data is None else data, model or config.model, data_dir, fields)
    settings = replace(settings, data=config.data) if data is None else settings
    if settings != config:
        raise UnseenError(f"{run.path} was made of {config.data} and {config.model}, not of {settings.data} and {settings.model}.")
    return config, examples


def load_options(config: Config) -> dict[str, Any]:
    """What of a configuration ``load`` takes."""
    return {key: getattr(config, key) for key in ("limit", "test_limit", "target", "text", "test_fraction", "image_size", "seed")}


def add_noise(examples: Examples, config: Config, amount: Amount | None = None) -> Examples:
    """The examples with the configured label noise and random inputs; ``true_labels`` kept. amount: in place of the configured one."""
    if config.random_inputs == "pixels":
        examples = random_pixels(examples, config.seed)
    elif config.random_inputs == "gaussian":
        examples = gaussian_inputs(examples, config.seed)
    if not config.random_labels:
        return examples
    amount = amount or label_amount(config)
    if config.label_noise == "asymmetric":
        return asymmetric(examples, amount, config.seed)
    return random_labels(examples, amount, config.seed, avoid_true=config.label_noise == "other")


def label_amount(config: Config) -> int | float:
    """How many labels to change: a number, or a share."""
    return config.random_labels if config.random_labels < 1 else round(config.random_labels)


def held_out(examples: Examples, config: Config) -> Examples:
    """The examples as they are trained on: with ``--train-on`` all but that subset are held. Raises UnseenError as ``find_subsets``."""
    if config.train_on is None:
        return examples
    (chosen,) = _subsets([config.train_on], config, examples).values()
    return examples.hold(torch.tensor(chosen))


def watched_subsets(config: Config, examples: Examples) -> dict[str, list[int]]:
    """The index of the members of each watched subset, by name. Raises UnseenError as ``find_subsets``."""
    return _subsets(config.watch, config, examples)


def subset_table(subsets: dict[str, list[int]]) -> "pl.DataFrame":
    """subset, index: a row per member."""
    import polars as pl

    return pl.concat(pl.DataFrame({"subset": [name] * len(index), "index": index}) for name, index in subsets.items())


def _subsets(texts: Sequence[str], config: Config, examples: Examples) -> dict[str, list[int]]:
    if not texts:
        return {}
    scores = None if config.scores is None else open_run(config.scores).scores
    return find_subsets(texts, example_table(examples), scores, examples.classes)


def example_table(examples: Examples) -> "pl.DataFrame":
    """index, id, split, given_label and, where there are any, true_label and text of all examples."""
    import polars as pl

    columns: dict[str, Any] = {"index": examples.index.cpu().numpy(), "id": examples.ids, "split": examples.split}
    columns["given_label"] = examples.labels.cpu().numpy()
    if examples.true_labels is not None:
        columns["true_label"] = examples.true_labels.cpu().numpy()
    if examples.texts is not None:
        columns["text"] = examples.texts
    return pl.DataFrame(columns)


def shared_parameters(config: Config, examples: Examples, model: str | nn.Module, audited: int = 4) -> dict[str, Any]:
    """Which parameters both halves share, with their sizes, by ``audit``; nothing where there are no halves of one network."""
    if config.estimator in ("members", "plain"):
        return {}
    net = new_net(config, examples, model, config.seed)
    leaks = audit(net, *examples.train.batch(torch.arange(min(audited, len(examples.train)))))
    sizes = {name: value.numel() for name, value in net.net.named_parameters()}
    shared = {leak.parameter: sizes[leak.parameter] for leak in leaks if leak.share > 0}
    return {"shared_parameters": shared, "parameters": sum(sizes.values()), "leak_of_step": sum(leak.of_step for leak in leaks)}


def _fingerprint(model: nn.Module) -> str:
    import zlib

    described = repr(model) + repr([(name, tuple(value.shape)) for name, value in model.state_dict().items()])
    weights = float(sum(value.detach().double().sum() for value in model.parameters()))
    return f"{type(model).__name__}-{zlib.crc32(f'{described}{weights!r}'.encode()):08x}"


def _content(examples: Examples) -> int:
    import zlib

    first = examples.batch(torch.arange(min(64, len(examples))))[0]
    return zlib.crc32(first.cpu().numpy().tobytes(), zlib.crc32(examples.labels.cpu().numpy().tobytes()))
