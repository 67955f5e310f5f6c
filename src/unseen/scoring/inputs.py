"""From what the user gave to what is trained: the configuration, the examples with their noise, in one shard or many."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unseen.config import Config
from unseen.data import (
    NAMES,
    Amount,
    Examples,
    Sharded,
    Shards,
    UpTo,
    asymmetric,
    count_of,
    find_shards,
    find_subsets,
    gaussian_inputs,
    is_stream,
    is_trained,
    load,
    opened,
    pinned,
    random_labels,
    random_pixels,
    sample,
    scan,
)
from unseen.errors import UnseenError
from unseen.features import parse_kind
from unseen.masks import check_weights, groups_for
from unseen.runs import Run, open_run, source_of
from unseen.scoring.described import Described, with_features
from unseen.scoring.estimators import completed, estimator_of, resolved
from unseen.scoring.ranks import kth_smallest
from unseen.scoring.sameness import refuse_other_data, unchanged
from unseen.training import new_network

if TYPE_CHECKING:
    import polars as pl

LOADED = (
    "limit",
    "test_limit",
    "target",
    "text",
    "id_column",
    "image_column",
    "split_column",
    "drop",
    "separator",
    "encoding",
    "skip_damaged",
    "image_size",
)
"""Options that ``load`` takes."""
COLUMNS = ("target", "text", "id_column", "image_column", "split_column", "drop", "separator", "encoding")
"""Those of them that ``opened`` takes."""
FEATURE_SIZE = 128  # pixels a side that features of photographs are computed from
WHOLE = ("limit", "test_limit", "train_on", "watch", "gradients_every", "text")
"""Options that need all examples at once, or a pass of their own."""


def settings_of(data: Any, model: str | nn.Module, options: dict[str, Any]) -> Config:
    """The resolved configuration; as it was asked for, where the estimator depends on the data.

    Raises:
        UnseenError: for an option that is not there, or a value out of range.
    """
    name = model if isinstance(model, str) else _fingerprint(model)
    in_shards = bool(options.get("shards")) or isinstance(data, Shards) or is_stream(data)
    config = resolved(Config.of(**options | {"data": data if isinstance(data, str) else "data", "model": name, "shards": in_shards}))
    return completed(config) if in_shards else config  # shards are not looked at before the choice


def prepare(
    data: Any, model: str | nn.Module, data_dir: str | Path | None, settings: Config, say: Callable[[str], None] | None = None
) -> tuple[Config, Sharded]:
    """The configuration, with the data's content in its name where that has none, and the examples with their noise. say: see ``load``.

    Raises:
        UnseenError: data that cannot be read, a model that cannot take them, an option that needs them whole. No folder is made before.
    """
    if settings.data.shards:
        return _prepare_shards(data, model, data_dir, settings)
    settings, examples = prepare_whole(data, model, data_dir, settings, say=say)
    return settings, Sharded.of(examples, settings.noise.null_fraction, settings.seed)


def prepare_whole(
    data: Any,
    model: str | nn.Module,
    data_dir: str | Path | None,
    settings: Config,
    as_scored: bool = True,
    say: Callable[[str], None] | None = None,
) -> tuple[Config, Examples]:
    """As ``prepare``, of data in memory.

    Args:
        data: what ``load`` takes.
        model: a name, or a network of your own.
        data_dir: where mnist/, cifar10/ … lie.
        settings: the configuration as it is asked for.
        as_scored: with features in place of the inputs, where the configuration has them.
        say: see ``load``.

    Raises:
        UnseenError: as ``prepare``, and for data in shards.
    """
    if settings.data.shards:
        raise UnseenError("These data are read in shards, and this needs them whole in memory. Score a part of the files without --shards.")
    settings, examples = _read(data, data_dir, settings, say)
    _refuse_a_class_per_row(examples)
    if isinstance(data, str):
        settings = settings.change(data=pinned(data, examples.reading.revision))
    else:
        settings = settings.change(data=f"{examples.name}-{_content(examples):08x}")
    if settings.data.features is not None:
        settings = settings.change(features="+".join(parse_kind(settings.data.features, examples)[0]))  # auto by name
    if settings.data.features is not None and as_scored:
        is_table = isinstance(data, str | Path) or hasattr(data, "columns")
        examples = with_features(examples, settings.data.features, data if is_table else None)
    with_noise = add_noise(examples, settings)
    with_noise = with_noise.joined() if settings.data.join_test else with_noise
    watched_subsets(settings, with_noise)  # fail before the folder is made
    ready = held_out(with_noise, settings)
    count = int(is_trained(ready, settings.noise.null_fraction, settings.seed).sum())
    estimator_of(settings).check_network(settings, examples, model)
    return with_groups(settings, examples, count, model), ready


def with_groups(settings: Config, examples: Examples, count: int, model: str | nn.Module) -> Config:
    """The configuration with a number in place of ``--groups auto``. count: of the trained examples."""
    if settings.masks.groups != "auto":
        return settings
    bare = new_network(settings.network, examples, settings.seed, None if isinstance(model, str) else model)
    return settings.change(groups=groups_for(bare, count, settings.masks.only, settings.masks.skip))


def _read(data: Any, data_dir: str | Path | None, asked: Config, say: Callable[[str], None] | None) -> tuple[Config, Examples]:
    """The completed configuration and the examples; pictures are read once, at the size that the estimator wants."""
    source = opened(data, data_dir, **{name: value for name, value in load_options(asked).items() if name in COLUMNS})
    settings = chosen(asked, sample(source, image_size=asked.data.image_size))
    examples = load(source, **load_options(settings), say=say)
    if completed(asked, examples).estimator != settings.estimator:  # the first colour picture lay behind those that were looked at
        settings = chosen(asked, load(source, **load_options(asked)))
        examples = load(source, **load_options(settings))
    return settings, examples


def chosen(asked: Config, some: Examples) -> Config:
    """The configuration with what the data decide: the estimator, and the size of pictures. some: examples at the size asked for."""
    settings = completed(asked, some)
    if settings.data.features is not None and settings.data.image_size is None and _is_shrunk(some):
        return settings.change(image_size=FEATURE_SIZE)
    return settings


def _refuse_a_class_per_row(examples: Examples) -> None:
    kept = examples.train.labels
    if len(kept) > 2 and len(kept.unique()) == len(kept):
        names = ", ".join(examples.classes[int(label)] for label in kept[:3])
        raise UnseenError(
            f"Each of the {len(kept):,} training examples has a class of its own ({names}, …), so none can be learned from others. "
            "Choose a column of classes as the target; numbers that are measured, and ids, are none."
        )


def _is_shrunk(examples: Examples) -> bool:
    """Whether pictures were larger than what was read of them."""
    sides = [int(side) for size in examples.reading.sizes for side in re.findall(r"\d+", size)]
    return len(examples.shape) == 3 and max(sides, default=0) > max(examples.shape[1:])


def _prepare_shards(data: Any, model: str | nn.Module, data_dir: str | Path | None, config: Config) -> tuple[Config, Sharded]:
    """After one pass over the data."""
    check_shards(config)
    found = scan(find_shards(data, data_dir), config)
    sharded = found.sharded()
    describe = None
    if config.data.features is not None:
        number = next(number for number, count in enumerate(found.trains) if count)
        names = parse_kind(config.data.features, sharded[number])[0]
        config = config.change(features="+".join(names))
        describe = Described(config.data.features, partial(sharded.read, number)) if names != ["pixels"] else None  # type: ignore[arg-type]
    if not isinstance(data, str):
        config = config.change(data=f"{sharded.name}-{found.print:08x}")
    amount = None
    if config.noise.random_labels:
        labels = sum(int(of_train.sum()) for _, of_train in map(sharded.index, range(len(sharded))))
        count = count_of(label_amount(config), labels)
        amount = UpTo(kth_smallest(partial(sharded.draws, config.seed, "pick", train_only=True), count) if count else -1.0)
    sharded = found.sharded(partial(_changed, config, amount, describe))
    config = with_groups(config, sharded[len(sharded) - 1], sum(sharded.trains), model)
    estimator_of(config).check_network(config, sharded[len(sharded) - 1], model)
    return config, sharded


def _changed(config: Config, amount: UpTo | None, describe: Described | None, examples: Examples) -> Examples:
    examples = describe(examples) if describe else examples
    examples = add_noise(examples, config, amount)
    return examples.joined() if config.data.join_test else examples


def check_shards(config: Config) -> None:
    """Raise UnseenError for an option that needs the data whole in memory."""
    standard, asked = Config().flat(), config.flat()
    for name in WHOLE:
        if asked[name] != standard[name]:
            flag = name.replace("_", "-")
            raise UnseenError(f"--{flag} is {asked[name]!r}, which needs the data whole in memory. With shards leave it out.")
    if (config.data.features or "").startswith("column:"):
        raise UnseenError(f"--features is {config.data.features!r}, which needs the data whole in memory. With shards leave it out.")
    if not estimator_of(config).takes_shards:
        raise UnseenError(
            f"--estimator is {config.estimator!r}, which needs the data whole in memory. With shards use turnover, head or plain."
        )
    if config.noise.label_noise == "asymmetric" and config.noise.random_labels:
        raise UnseenError("--label-noise is 'asymmetric', which needs all labels at once. With shards use uniform or other.")


def run_examples(
    run: Run, data: Any = None, model: nn.Module | None = None, data_dir: str | Path | None = None, as_scored: bool = True
) -> tuple[Config, Examples]:
    """The run's configuration and examples. as_scored: with features in place of inputs, where it scored those.

    Raises:
        UnseenError: where data or model are not what it was made of.
    """
    config = run.config
    name = model or config.network.model
    source = source_of(run, NAMES) if data is None else data
    settings = settings_of(source, name, {key: value for key, value in config.flat().items() if key not in ("data", "model", "shards")})
    with unchanged(source, data_dir):
        refuse_other_data(run, source, data_dir)
        settings, examples = prepare_whole(source, name, data_dir, settings.change(shards=config.data.shards), as_scored)
    settings = settings.change(data=config.data.data) if data is None else settings
    if settings != config:
        made, given = ((each.data.data, each.network.model) for each in (config, settings))
        raise UnseenError(f"{run.path} was made of {made[0]} and {made[1]}, not of {given[0]} and {given[1]}.")
    return config, examples


def load_options(config: Config) -> dict[str, Any]:
    """What of a configuration ``load`` takes."""
    values = asdict(config.data)
    return {name: values[name] for name in LOADED} | {"test_fraction": config.data.held_out, "seed": config.seed}


def add_noise(examples: Examples, config: Config, amount: Amount | None = None) -> Examples:
    """The examples with the configured label noise and random inputs; ``true_labels`` kept.

    Args:
        examples: as loaded.
        config: with the noise.
        amount: of labels to change, in place of the configured one.
    """
    noise = config.noise
    if noise.random_inputs == "pixels":
        examples = random_pixels(examples, config.seed)
    elif noise.random_inputs == "gaussian":
        examples = gaussian_inputs(examples, config.seed)
    if not noise.random_labels:
        return examples
    amount = amount or label_amount(config)
    if noise.label_noise == "asymmetric":
        return asymmetric(examples, amount, config.seed)
    return random_labels(examples, amount, config.seed, avoid_true=noise.label_noise == "other")


def label_amount(config: Config) -> int | float:
    """How many labels to change: a number, or a share."""
    amount = config.noise.random_labels
    return amount if amount < 1 else round(amount)


def held_out(examples: Examples, config: Config) -> Examples:
    """The examples as they are trained on: with ``--train-on`` all but that subset are held. Raises UnseenError as ``find_subsets``."""
    if config.training.train_on is None:
        return examples
    (chosen,) = _subsets([config.training.train_on], config, examples).values()
    return examples.hold(torch.tensor(chosen))


def watched_subsets(config: Config, examples: Examples) -> dict[str, list[int]]:
    """The index of the members of each watched subset, by name. Raises UnseenError as ``find_subsets``."""
    return _subsets(config.measuring.watch, config, examples)


def subset_table(subsets: dict[str, list[int]]) -> "pl.DataFrame":
    """subset, index: a row per member."""
    import polars as pl

    return pl.concat(pl.DataFrame({"subset": [name] * len(index), "index": index}) for name, index in subsets.items())


def _subsets(texts: Sequence[str], config: Config, examples: Examples) -> dict[str, list[int]]:
    if not texts:
        return {}
    scores = None if config.measuring.scores is None else open_run(config.measuring.scores).scores
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


def _fingerprint(model: nn.Module) -> str:
    check_weights(model)
    described = repr(model) + repr([(name, tuple(value.shape)) for name, value in model.state_dict().items()])
    weights = float(sum(value.detach().double().sum() for value in model.parameters()))
    return f"{type(model).__name__}-{zlib.crc32(f'{described}{weights!r}'.encode()):08x}"


def _content(examples: Examples) -> int:
    first = examples.batch(torch.arange(min(64, len(examples))))[0]
    return zlib.crc32(first.cpu().numpy().tobytes(), zlib.crc32(examples.labels.cpu().numpy().tobytes()))
