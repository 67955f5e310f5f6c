"""All that a run depends on, in parts that belong together, with the models' defaults and what is allowed.

Flag, key in config.json and name in Python are the same word, and no two parts share one: so the parts are flat on the command line and
in config.json, and ``Config.of(epochs=3, random_labels=0.1)`` takes them flat in Python too.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unseen.errors import UnseenError

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class DataOptions:
    """What is read, and which of it."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name[@revision]"""
    target: str | None = None
    """column of the class in a table"""
    text: str | None = None
    """column of texts in a table, which become the input"""
    id_column: str | None = None
    """column of a table that names each example"""
    image_column: str | None = None
    """column of pictures, or of their paths from the table's folder"""
    split_column: str | None = None
    """column of a table that says train, test, …"""
    drop: tuple[str, ...] = ()
    """columns of a table to leave out"""
    separator: str | None = None
    """what separates the fields of a CSV; default: found from its first lines"""
    encoding: str | None = None
    """encoding of a CSV; default: found from its bytes"""
    skip_damaged: bool = False
    """leave out pictures that cannot be read, and list them"""
    image_size: int | None = None
    """resize images to this height and width"""
    features: str | None = None
    """what is scored in place of the inputs: auto, pixels, patches, gradients, lite0, minilm, tfidf, hf:ID-or-FOLDER, timm:NAME,
    column:NAME, or several with + between them; default: the inputs, or auto with --estimator head"""
    test_fraction: float | None = None
    """share held out where the data has no test split; default: 0.2, or 0 with --estimator head, which scores everything"""
    limit: int | None = None
    """use only the first N training examples"""
    test_limit: int | None = None
    """use only the first N test examples"""
    join_test: bool = False
    """train on the test examples too, with their own labels, so that they get scores"""
    shards: bool = False
    """read parquet or .npz files one at a time, and one large parquet file by its row groups, so that only one must fit in memory"""
    shuffle_buffer: int = 100_000
    """with --shards: how many examples of consecutive shards share their batches; at least one shard is read"""

    @property
    def held_out(self) -> float:
        """``test_fraction``, or its default."""
        return TEST_FRACTION if self.test_fraction is None else self.test_fraction


@dataclass(frozen=True)
class NetworkOptions:
    """The network, where it is one of ours."""

    model: str = "mlp"
    """mlp (text for --text), vgg11, resnet10, cct (CCT-7/3x1) or cct2 (CCT-2/3x2)"""
    hidden: tuple[int, ...] = (4096,)
    """widths of the MLP's hidden layers"""
    width: float = 1.0
    """factor on the numbers of channels of vgg11 and resnet10"""
    output_bias: bool = True
    """the bias of the output layer, which is the one parameter that both halves share"""


@dataclass(frozen=True)
class MaskOptions:
    """Turn-over dropout's masks."""

    groups: int | Literal["auto"] | None = None
    """groups of each layer whose units share a mask; 0: each unit has its own; 8 or fewer: examples share masks too, which deep networks
    need; auto: by the number of examples (vgg11, resnet10: auto)"""
    tied: bool | None = None
    """use the same mask in all layers with the same number of groups (True for vgg11 and resnet10, and with --groups auto)"""
    mask_scale: float | None = None
    """factor on each seen unit: 2 keeps the mean of the next layer's input, sqrt 2 its variance (vgg11, resnet10)"""
    only: tuple[str, ...] | None = None
    """mask only these hidden layers (names or patterns)"""
    skip: tuple[str, ...] | None = None
    """leave these hidden layers without a mask"""


@dataclass(frozen=True)
class NoiseOptions:
    """Labels and inputs that are changed on purpose, and examples that are never trained."""

    random_labels: float = 0
    """number of training labels to replace by random ones, or their share, below 1"""
    label_noise: Literal["uniform", "other", "asymmetric"] = "uniform"
    """which labels are put in: uniform may hit the true class, other never does, asymmetric takes a similar class"""
    random_inputs: Literal["none", "pixels", "gaussian"] = "none"
    """destroy the inputs: permute the pixels of each example on their own, or put Gaussian noise in their place"""
    null_fraction: float = 0.0
    """share of the training examples that are never trained on, for the noise floor"""


@dataclass(frozen=True)
class TrainingOptions:
    """The recipe of one training run. What is left out takes the value that suits the model."""

    epochs: int = 20
    """passes over the data (the paper: 200)"""
    lr: float | None = None
    """learning rate"""
    momentum: float | None = None
    """momentum of SGD"""
    weight_decay: float | None = None
    """L2 penalty (text: 0.001, else 0)"""
    batch_size: int = 256
    """examples per step"""
    schedule: Literal["constant", "step", "cosine", "onecycle"] | None = None
    """learning rate over the epochs; step divides it by 10 at the milestones; onecycle rises, then falls to 0"""
    milestones: tuple[int, ...] = (100, 150)
    """epochs at which the step schedule divides the learning rate"""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum, or Adam"""
    augment: bool = False
    """crop and flip images at random, as a function of (seed, epoch, index)"""
    average: int = 1
    """number of last epochs whose mean weights are scored; 1: the last epoch alone"""
    save_every: int = 0
    """keep the weights after every N epochs, for influence by gradients; 0: after the last alone"""
    train_on: str | None = None
    """train on this subset alone, for example easy:0.2; the others are measured, but never trained on"""
    precision: Literal["auto", "bf16", "32"] = "auto"
    """numbers of the network: auto takes bf16 where the hardware gains from it"""


@dataclass(frozen=True)
class MeasuringOptions:
    """What is looked at while training, and how often."""

    history_every: int = 1
    """measure both halves after every N epochs, and always after the last"""
    watch: tuple[str, ...] = ()
    """subsets to follow: easy:0.2, difficult:0.2, wrong, right, class:cat, test/easy:0.2, NAME=high:COLUMN:0.1, index:3,17,99"""
    scores: str | None = None
    """the run whose scores say what is easy and what is difficult, for --train-on and --watch"""
    gradients_every: int = 0
    """measure the gradients of the watched subsets after every N epochs; 0: never"""
    gradient_examples: int = 1000
    """examples of each watched subset whose gradients are measured"""


@dataclass(frozen=True)
class MemberOptions:
    """Many small networks in place of one."""

    members: int = 0
    """number of small networks, for --estimator members; 0: 64 (vgg11, resnet10: 8)"""
    fraction: float = 0.7
    """share of the members that each example trains"""


@dataclass(frozen=True)
class Config:
    """All that a run depends on.

    Example:
        >>> Config.of(epochs=3, hidden=(64,)).training.epochs
        3
    """

    estimator: str = "auto"
    """what computes the scores. head: a ridge head on features that never saw a label. members: many small networks. turnover: one network
    with turn-over dropout, as in the paper. plain: one ordinary network, without memorization. auto, the default: head for colour pictures
    and texts, members for mlp, vgg11 and resnet10, turnover for other networks and where a flag is given that only turnover has"""
    seed: int = 0
    """seed of masks, initial weights, order and noise"""
    seeds: int = 1
    """number of runs to average"""
    data: DataOptions = field(default_factory=DataOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    measuring: MeasuringOptions = field(default_factory=MeasuringOptions)
    members: MemberOptions = field(default_factory=MemberOptions)

    @classmethod
    def of(cls, **options: Any) -> "Config":
        """From flat options. Raises UnseenError for a name that is not there, with the nearest that is."""
        return Config().change(**options)

    def change(self, **options: Any) -> "Config":
        """The same with some flat options changed. Raises UnseenError as ``of``."""
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise UnseenError(f"Unknown option {unknown[0]!r}. {nearest(unknown[0], OPTIONS)}")
        parts = {
            part: replace(getattr(self, part), **{name: value for name, value in options.items() if PART_OF[name] == part})
            for part in PARTS
        }
        return replace(self, **parts, **{name: value for name, value in options.items() if not PART_OF[name]})

    def flat(self) -> dict[str, Any]:
        """All options by name, as config.json has them."""
        values = asdict(self)
        parts = [values.pop(part) for part in PARTS]
        return values | {name: value for part in parts for name, value in part.items()}

    def resolved(self) -> "Config":
        """The same with the model's values in place of None. Raises UnseenError for values out of range."""
        if self.data.text is not None and self.network.model == "mlp" and self.data.features is None:
            return self.change(model="text").resolved()
        flat, model = self.flat(), self.network.model
        defaults = DEFAULTS.get(model, DEFAULTS["mlp"] | {"mask_scale": None})  # a module of one's own: ``attach`` decides
        if flat["groups"] == "auto":
            defaults = defaults | {"tied": True}
        config = self.change(**{name: value for name, value in ({"weight_decay": 0.0} | defaults).items() if flat[name] is None})
        config = config.change(members=flat["members"] or MEMBERS.get(model, MEMBERS["mlp"]))
        if self.data.text is not None and self.training.precision == "auto":
            config = config.change(precision="32")  # bf16 would round the numbers of the features
        config.check()
        return config

    def check(self) -> None:
        """Raise UnseenError for the first value that is out of range, naming its flag."""
        if self.data.text is not None and self.noise.random_inputs != "none":
            raise UnseenError(
                f"--random-inputs is {self.noise.random_inputs!r}, and texts have neither pixels nor numbers. With --text leave it out."
            )
        if self.data.text is not None and self.training.precision == "bf16":
            raise UnseenError("--precision is 'bf16', which cannot hold the numbers of a text's features. With --text use 32.")
        flat = self.flat()
        for name, (holds, allowed) in (
            RULES | {"average": (lambda v: 1 <= v <= self.training.epochs, "from 1 to the number of epochs")}
        ).items():
            if not holds(flat[name]):
                raise UnseenError(f"--{name.replace('_', '-')} is {flat[name]!r}; it must be {allowed}.")
        for name, choices in CHOICES.items():
            if flat[name] not in choices:
                raise UnseenError(f"--{name.replace('_', '-')} is {flat[name]!r}; it must be one of {', '.join(choices)}.")
        if self.measuring.gradients_every and not self.measuring.watch:
            raise UnseenError(GRADIENTS_NEED.format(self.measuring.gradients_every))

    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything the results depend on, and stay when a version adds an option."""
        standard = Config().flat() | {"test_fraction": TEST_FRACTION}
        chosen = {name: value for name, value in self.flat().items() if value != standard[name]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]

    def folder(self) -> Path:
        """Where the run goes unless told otherwise: runs/<data>-<model>-<digest>."""
        data = self.data.data
        name = Path(data.partition("@")[0] if data.startswith("hf:") else data).stem.replace(":", "-")
        return Path("runs") / f"{name}-{self.network.model}-{self.digest()}"


PARTS = tuple(part.name for part in fields(Config) if part.name not in ("estimator", "seed", "seeds"))
PART_OF = {"estimator": "", "seed": "", "seeds": ""} | {option: part for part in PARTS for option in asdict(getattr(Config(), part))}
"""The part that each option is in."""
OPTIONS = tuple(PART_OF)
"""The flat names of all options."""
HINTS: dict[str, Any] = {
    name: hint for kind in (Config, *(type(getattr(Config(), part)) for part in PARTS)) for name, hint in get_type_hints(kind).items()
}
HINTS = {name: int if name == "members" else HINTS[name] for name in OPTIONS} | {"data": str}
"""The type of each."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence for a name that is not there: the nearest that is, or all of them."""
    names = list(names)
    found = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {found[0]!r}?" if found else f"The options are {', '.join(names)}."


def _choices(hint: Any) -> tuple[str, ...]:
    """What a field of a ``Literal`` allows, or of one and None; nothing for any other type."""
    arms = [hint] if get_origin(hint) is Literal else [arm for arm in get_args(hint) if arm is not type(None)]
    return get_args(arms[0]) if len(arms) == 1 and get_origin(arms[0]) is Literal else ()


CHOICES = {name: choices for name, hint in HINTS.items() if (choices := _choices(hint))}
GRADIENTS_NEED = (
    "--gradients-every {} needs subsets to look at (--watch wrong right, or easy:0.2 difficult:0.2) and one network (--estimator turnover)."
)
INDEPENDENT = {"groups": 0, "tied": False, "mask_scale": 2.0}
FEW_GROUPS = {"groups": "auto", "tied": True, "mask_scale": 2**0.5}
DEFAULTS: dict[
    str, dict[str, Any]
] = {  # rates and schedules: Liu et al. 2021, sections 3 and 4; those of cct and resnet10 and the masks of vgg11: ours, see LOG.md
    "mlp": {"lr": 0.06, "momentum": 0.0, "schedule": "constant"} | INDEPENDENT,
    "vgg11": {"lr": 0.01, "momentum": 0.9, "schedule": "step"} | FEW_GROUPS,
    "resnet10": {"lr": 0.05, "momentum": 0.9, "schedule": "cosine", "weight_decay": 5e-4} | FEW_GROUPS,
    "cct": {"lr": 0.01, "momentum": 0.9, "schedule": "cosine"} | INDEPENDENT,
    "cct2": {"lr": 0.01, "momentum": 0.9, "schedule": "cosine"} | INDEPENDENT,
    "text": {"lr": 0.2, "momentum": 0.9, "schedule": "constant", "weight_decay": 0.001} | INDEPENDENT,
}
MEMBERS = {"mlp": 64, "vgg11": 8, "resnet10": 8}  # of the models for which they follow retraining best at their cost; see LOG.md
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda v: v >= 1, "at least 1"),
    "lr": (lambda v: v is None or v > 0, "above 0"),
    "momentum": (lambda v: v is None or 0 <= v < 1, "from 0 to below 1"),
    "weight_decay": (lambda v: v is None or v >= 0, "at least 0"),
    "members": (lambda v: v >= 2, "at least 2"),
    "fraction": (lambda v: 0 < v < 1, "above 0 and below 1"),
    "save_every": (lambda v: v >= 0, "at least 0"),
    "batch_size": (lambda v: v >= 1, "at least 1"),
    "seeds": (lambda v: v >= 1, "at least 1"),
    "history_every": (lambda v: v >= 1, "at least 1"),
    "null_fraction": (lambda v: 0 <= v < 1, "from 0 to below 1"),
    "random_labels": (lambda v: v >= 0, "a count, or a share below 1"),
    "width": (lambda v: v > 0, "above 0"),
    "groups": (lambda v: v in (None, 0, "auto") or (isinstance(v, int) and v >= 2), "auto, 0 or at least 2"),
    "mask_scale": (lambda v: v is None or v > 0, "above 0"),
    "limit": (lambda v: v is None or v >= 2, "at least 2"),
    "gradients_every": (lambda v: v >= 0, "at least 0"),
    "gradient_examples": (lambda v: v >= 2, "at least 2"),
    "hidden": (lambda v: len(v) > 0 and all(w >= 2 for w in v), "one width or more, each at least 2"),
    "test_fraction": (lambda v: v is None or 0 <= v < 1, "from 0 to below 1"),
    "shuffle_buffer": (lambda v: v >= 1, "at least 1"),
}
"""What each number must be."""
