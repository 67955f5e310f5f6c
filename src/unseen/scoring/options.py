"""The options of ``Config`` as typed keywords, which ``help()``, completion and type checkers see."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar

from unseen.config import HINTS, Config

Function = TypeVar("Function", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """Flat, as on the command line; a test holds them to ``Config``'s."""

    estimator: str
    seed: int
    seeds: int
    target: str | None
    text: str | None
    id_column: str | None
    image_column: str | None
    split_column: str | None
    drop: tuple[str, ...]
    separator: str | None
    encoding: str | None
    skip_damaged: bool
    image_size: int | None
    features: str | None
    test_fraction: float | None
    limit: int | None
    test_limit: int | None
    join_test: bool
    shards: bool
    shuffle_buffer: int
    hidden: tuple[int, ...]
    width: float
    output_bias: bool
    epochs: int
    lr: float | None
    momentum: float | None
    weight_decay: float | None
    batch_size: int
    schedule: Literal["constant", "step", "cosine", "onecycle"] | None
    milestones: tuple[int, ...]
    optimizer: Literal["sgd", "adam"]
    augment: bool
    average: int
    save_every: int
    train_on: str | None
    precision: Literal["auto", "bf16", "32"]
    groups: int | Literal["auto"] | None
    tied: bool | None
    mask_scale: float | None
    only: tuple[str, ...] | None
    skip: tuple[str, ...] | None
    random_labels: float
    label_noise: Literal["uniform", "other", "asymmetric"]
    random_inputs: Literal["none", "pixels", "gaussian"]
    null_fraction: float
    history_every: int
    watch: tuple[str, ...]
    scores: str | None
    gradients_every: int
    gradient_examples: int
    members: int
    fraction: float


def with_options(function: Function) -> Function:
    """Show the options in the function's signature, in place of ``**options``."""
    signature, standard = inspect.signature(function), Config().flat()
    own = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(name, kind, default=standard[name], annotation=HINTS[name]) for name in Options.__annotations__]
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return function
