"""All that a run depends on, with the models' defaults and what is allowed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from unseen.errors import UnseenError

INDEPENDENT = {"groups": 0, "tied": False, "mask_scale": 2.0}
DEFAULTS: dict[
    str, dict[str, Any]
] = {  # rates and schedules: Liu et al. 2021, sections 3 and 4; cct's and the masks of vgg11: ours, see LOG.md
    "mlp": {"lr": 0.06, "momentum": 0.0, "schedule": "constant"} | INDEPENDENT,
    "vgg11": {"lr": 0.01, "momentum": 0.9, "schedule": "step", "groups": 32, "tied": True, "mask_scale": 2**0.5},
    "cct": {"lr": 0.01, "momentum": 0.9, "schedule": "cosine"} | INDEPENDENT,
    "cct2": {"lr": 0.01, "momentum": 0.9, "schedule": "cosine"} | INDEPENDENT,
    "text": {"lr": 0.2, "momentum": 0.9, "schedule": "constant", "weight_decay": 0.001} | INDEPENDENT,
}
MEMBERS = {"mlp": 64, "vgg11": 8}  # of the models for which they follow retraining best at their cost; see LOG.md


@dataclass(frozen=True)
class Config:
    """All that a run depends on. Flag, key in config.json and name in Python are the same word.

    Fields that are None take the model's value (``DEFAULTS``).
    """

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name"""
    model: str = "mlp"
    """mlp (text for --text), vgg11, cct (CCT-7/3x1) or cct2 (CCT-2/3x2)"""
    hidden: tuple[int, ...] = (4096,)
    """widths of the MLP's hidden layers"""
    width: float = 1.0
    """factor on VGG-11's numbers of channels"""
    output_bias: bool = True
    """the output layer's bias, the one parameter that both halves share"""
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
    schedule: Literal["constant", "step", "cosine"] | None = None
    """learning rate over the epochs; step divides by 10 at the milestones"""
    milestones: tuple[int, ...] = (100, 150)
    """epochs at which the step schedule divides the learning rate"""
    average: int = 1
    """score the mean of the weights of the last so many epochs; 1: the last epoch's"""
    save_every: int = 0
    """keep the weights of every so many epochs, for influence by gradients; 0: of the last alone"""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum, or Adam"""
    augment: bool = False
    """random crops and flips of images, a function of (seed, epoch, index)"""
    groups: int | None = None
    """units share a mask in this many groups per layer; 0: every unit its own (vgg11: 32)"""
    tied: bool | None = None
    """the same mask in all layers with the same number of groups (vgg11: yes)"""
    mask_scale: float | None = None
    """what a seen unit is multiplied by: 2 keeps the mean of the next layer's input, sqrt 2 its variance (vgg11)"""
    only: tuple[str, ...] | None = None
    """mask only these hidden layers (names or patterns)"""
    skip: tuple[str, ...] | None = None
    """leave these hidden layers without a mask"""
    random_labels: float = 0
    """number (or share, below 1) of training labels replaced by uniformly random ones"""
    label_noise: Literal["uniform", "other", "asymmetric"] = "uniform"
    """uniform may hit the true class, other never does, asymmetric goes to a similar class"""
    random_inputs: Literal["none", "pixels", "gaussian"] = "none"
    """destroy the inputs: an own permutation of the pixels each, or Gaussian noise"""
    null_fraction: float = 0.0
    """share of the training examples that keep a mask and are never trained: the noise floor"""
    estimator: Literal["auto", "turnover", "members", "plain"] = "auto"
    """turnover: one network with turn-over dropout; members: many small networks; auto: members for mlp and vgg11, unless an option that
    only turn-over dropout has is set, else turnover; plain: one ordinary network, which has the free scores but no memorization"""
    members: int = 0
    """number of small networks, for --estimator members; 0: 64 (vgg11: 8)"""
    fraction: float = 0.7
    """share of these that an example trains"""
    seed: int = 0
    """of masks, initial weights, order, noise"""
    seeds: int = 1
    """number of runs to average"""
    history_every: int = 1
    """measure both halves every so many epochs (the last always)"""
    precision: Literal["auto", "bf16", "32"] = "auto"
    """auto: bf16 where the hardware gains from it"""
    shards: bool = False
    """read a folder of .parquet or .npz files one file at a time: memory for one of them, whatever the size of the whole"""
    limit: int | None = None
    """use only the first so many training examples"""
    test_limit: int | None = None
    """use only the first so many test examples"""
    join_test: bool = False
    """train on the test examples too, with their own labels, so that they get scores"""
    train_on: str | None = None
    """train on this subset alone, easy:0.2 or the like (``subsets.py``); the others are measured, never trained on"""
    watch: tuple[str, ...] = ()
    """subsets to follow: easy:0.2, difficult:0.2, wrong, right, class:cat, test/easy:0.2, NAME=high:COLUMN:0.1, index:3,17,99"""
    scores: str | None = None
    """the run whose scores say what is easy and what is difficult, for --train-on and --watch"""
    gradients_every: int = 0
    """measure the gradients of the watched subsets after every so many epochs; 0: never"""
    gradient_examples: int = 1000
    """examples of each watched subset whose gradients are measured"""
    text: str | None = None
    """column of texts in a table, which become the input"""
    target: str | None = None
    """column of the class in a table"""
    test_fraction: float = 0.2
    """share held out where the data has no test split"""
    image_size: int | None = None
    """resize images to this height and width"""

    def resolved(self) -> "Config":
        """The same with the model's values in place of None. Raises UnseenError for values out of range."""
        if self.text is not None and self.model == "mlp":
            return replace(self, model="text").resolved()
        defaults = DEFAULTS.get(self.model, DEFAULTS["mlp"] | {"mask_scale": None})  # a module of one's own: ``attach`` decides
        if self.model == "vgg11":
            defaults = defaults | {"groups": min(defaults["groups"], round(64 * self.width))}  # the narrowest layer's channels
        defaults = {"weight_decay": 0.0} | defaults
        config = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        config = replace(config, members=self.members or MEMBERS.get(self.model, MEMBERS["mlp"]))
        if config.estimator == "auto":
            config = replace(config, estimator="members" if self.model in MEMBERS and not self._asks_for_one_network() else "turnover")
        if config.text is not None and config.precision == "auto":
            config = replace(config, precision="32")  # bf16 would round the numbers of the features
        config._check()
        return config

    def _asks_for_one_network(self) -> bool:
        """Whether an option is set that members do not have."""
        masks = any(getattr(self, name) is not None for name in ("groups", "tied", "mask_scale", "only", "skip"))
        return masks or self.shards or self.average > 1 or bool(self.save_every or self.gradients_every or self.watch)

    def _check(self) -> None:
        if self.text is not None and self.random_inputs != "none":
            raise UnseenError(
                f"--random-inputs is {self.random_inputs!r}, and texts have neither pixels nor numbers. With --text leave it out."
            )
        if self.text is not None and self.precision == "bf16":
            raise UnseenError("--precision is 'bf16', which cannot hold the numbers of a text's features. With --text use 32.")
        rules: dict[str, tuple[Callable[[Any], bool], str]] = {
            "epochs": (lambda v: v >= 1, "at least 1"),
            "lr": (lambda v: v > 0, "above 0"),
            "momentum": (lambda v: 0 <= v < 1, "from 0 to below 1"),
            "weight_decay": (lambda v: v >= 0, "at least 0"),
            "members": (lambda v: v >= 2, "at least 2"),
            "fraction": (lambda v: 0 < v < 1, "above 0 and below 1"),
            "save_every": (lambda v: v >= 0, "at least 0"),
            "average": (lambda v: 1 <= v <= self.epochs, "from 1 to the number of epochs"),
            "batch_size": (lambda v: v >= 1, "at least 1"),
            "seeds": (lambda v: v >= 1, "at least 1"),
            "history_every": (lambda v: v >= 1, "at least 1"),
            "null_fraction": (lambda v: 0 <= v < 1, "from 0 to below 1"),
            "random_labels": (lambda v: v >= 0, "a count, or a share below 1"),
            "width": (lambda v: v > 0, "above 0"),
            "groups": (lambda v: v == 0 or v >= 2, "0 or at least 2"),
            "mask_scale": (lambda v: v is None or v > 0, "above 0"),
            "limit": (lambda v: v is None or v >= 2, "at least 2"),
            "gradients_every": (lambda v: v >= 0, "at least 0"),
            "gradient_examples": (lambda v: v >= 2, "at least 2"),
            "hidden": (lambda v: len(v) > 0 and all(w >= 2 for w in v), "one width or more, each at least 2"),
        }
        for name, (holds, allowed) in rules.items():
            value = getattr(self, name)
            if not holds(value):
                raise UnseenError(f"--{name.replace('_', '-')} is {value!r}; it must be {allowed}.")
        for name in ("schedule", "optimizer", "label_noise", "random_inputs", "precision", "estimator"):
            allowed_values = _choices(name)
            if getattr(self, name) not in allowed_values:
                raise UnseenError(f"--{name.replace('_', '-')} is {getattr(self, name)!r}; it must be one of {', '.join(allowed_values)}.")

        if self.gradients_every and (not self.watch or self.estimator == "members"):
            raise UnseenError(
                f"--gradients-every {self.gradients_every} needs subsets to look at (--watch wrong right, or easy:0.2 "
                "difficult:0.2) and one network (--estimator turnover)."
            )

    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything the results depend on, and stay when a version adds an option."""
        standard = asdict(Config())
        chosen = {name: value for name, value in asdict(self).items() if value != standard[name]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]

    def folder(self) -> Path:
        """Where the run goes unless told otherwise: runs/<data>-<model>-<digest>."""
        return Path("runs") / f"{Path(self.data).stem.replace(':', '-')}-{self.model}-{self.digest()}"


def _choices(name: str) -> tuple[str, ...]:
    hint = next(field.type for field in fields(Config) if field.name == name)
    arms = [arm for arm in getattr(hint, "__args__", ()) if arm is not type(None)]
    return tuple(getattr(arms[0], "__args__", arms))
