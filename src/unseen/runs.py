"""A run is a folder: configuration, tables, weights. Files appear whole or not at all, and are never edited."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unseen.columns import describe
from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

INDEPENDENT = {"groups": 0, "tied": False, "mask_scale": 2.0}
DEFAULTS: dict[
    str, dict[str, Any]
] = {  # rates and schedules: Liu et al. 2021, sections 3 and 4; cct's and the masks of vgg11: ours, see LOG.md
    "mlp": {"lr": 0.06, "momentum": 0.0, "schedule": "constant"} | INDEPENDENT,
    "vgg11": {"lr": 0.01, "momentum": 0.9, "schedule": "step", "groups": 32, "tied": True, "mask_scale": 2**0.5},
    "cct": {"lr": 0.01, "momentum": 0.9, "schedule": "cosine"} | INDEPENDENT,
}


@dataclass(frozen=True)
class Config:
    """All that a run depends on. Flag, key in config.json and name in Python are the same word.

    Fields that are None take the model's value (``DEFAULTS``).
    """

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name"""
    model: str = "mlp"
    """mlp, vgg11 or cct"""
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
    weight_decay: float = 0.0
    """L2 penalty"""
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
    estimator: Literal["auto", "turnover", "members"] = "auto"
    """turnover: one network with turn-over dropout, the paper; members: many small networks; auto: what follows retraining best"""
    members: int = 64
    """number of small networks, for --estimator members"""
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
    limit: int | None = None
    """use only the first so many training examples"""
    target: str | None = None
    """column of the class in a table"""
    test_fraction: float = 0.2
    """share held out where the data has no test split"""
    image_size: int | None = None
    """resize images to this height and width"""

    def resolved(self) -> "Config":
        """The same with the model's values in place of None. Raises UnseenError for values out of range."""
        defaults = DEFAULTS.get(self.model, DEFAULTS["mlp"])
        if self.model == "vgg11":
            defaults = defaults | {"groups": min(defaults["groups"], round(64 * self.width))}  # the narrowest layer's channels
        config = replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})
        if config.estimator == "auto":
            config = replace(config, estimator="members" if self.model == "mlp" else "turnover")
        config._check()
        return config

    def _check(self) -> None:
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
            "mask_scale": (lambda v: v > 0, "above 0"),
            "limit": (lambda v: v is None or v >= 2, "at least 2"),
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

    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything the results depend on."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    def folder(self) -> Path:
        """Where the run goes unless told otherwise: runs/<data>-<model>-<digest>."""
        return Path("runs") / f"{Path(self.data).stem.replace(':', '-')}-{self.model}-{self.digest()}"


def _choices(name: str) -> tuple[str, ...]:
    hint = next(field.type for field in fields(Config) if field.name == name)
    arms = [arm for arm in getattr(hint, "__args__", ()) if arm is not type(None)]
    return tuple(getattr(arms[0], "__args__", arms))


@dataclass(frozen=True)
class Run:
    """A run folder, and the ways to read and write it.

    Attributes: path. Tables are read on use: ``scores``, ``history``, ``examples`` (Polars frames),
    ``probabilities()`` (NumPy), ``config``, ``summary``.
    """

    path: Path

    @property
    def config(self) -> Config:
        """The resolved configuration. Raises UnseenError where the folder holds no run, or a foreign one."""
        values = self.read_json("config.json")
        known = {field.name for field in fields(Config)}
        if not isinstance(values, dict) or set(values) - known:
            raise UnseenError(f"{self.path / 'config.json'} is not a configuration of this version of unseen.")
        read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return Config(**read)

    @property
    def scores(self) -> "pl.DataFrame":
        """One row per training example; see ``columns.py``."""
        return self.table("scores")

    @property
    def history(self) -> "pl.DataFrame":
        """One row per seed, epoch and example: loss, margin and correctness of the halves."""
        return self.table("history")

    @property
    def examples(self) -> "pl.DataFrame":
        """One row per example, train and test: index, id, split, given and true label."""
        return self.table("examples")

    @property
    def summary(self) -> Any:
        """What the run says of itself: accuracies, AUROC, seed correlation, noise floor."""
        return self.read_json("summary.json")

    @property
    def finished(self) -> bool:
        """Whether all tables of the scores are there; the summary is written last."""
        return (self.path / "summary.json").exists()

    def probabilities(self) -> Any:
        """Out-of-sample class probabilities of the training examples: float32 array (examples, classes)."""
        return self.table("unseen_probabilities").drop("index").to_numpy()

    def table(self, name: str) -> "pl.DataFrame":
        """Read NAME.parquet. Raises UnseenError where it is missing or is not a Parquet file."""
        import polars as pl

        path = self.path / f"{name}.parquet"
        if not path.exists():
            raise UnseenError(f"{path} is not there. {_what_writes(name)}")
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UnseenError(f"{path} cannot be read as Parquet ({error}). Delete it and run the command that writes it again.") from error

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run. Raises UnseenError where it is missing or broken."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UnseenError(f"{path} is not there. {_what_writes(name)}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UnseenError(f"{path} is not JSON ({error}). Restore it, or start the run again with --force.") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file whole or not at all."""
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def write_table(self, name: str, frame: "pl.DataFrame", **notes: str) -> None:
        """Write NAME.parquet with the meaning of each column, and the notes, in its metadata."""
        from unseen import __version__

        with self.writing(f"{name}.parquet") as path:
            frame.write_parquet(path, metadata=describe(frame.columns) | {"unseen_version": __version__} | notes)

    def write_tensors(self, name: str, tensors: "dict[str, Tensor]", **notes: str) -> None:
        """Write a safetensors file under weights/."""
        from safetensors.torch import save_file

        with self.writing(f"weights/{name}.safetensors") as path:
            save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=notes)

    def read_tensors(self, name: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
        """Tensors and notes of a file under weights/. Raises UnseenError where it is missing or broken."""
        from safetensors import SafetensorError, safe_open

        path = self.path / "weights" / f"{name}.safetensors"
        if not path.exists():
            raise UnseenError(f"{path} is not there. {_what_writes(name)}")
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118, not a dict
        except SafetensorError as error:
            raise UnseenError(f"{path} is not a safetensors file ({error}). Delete it; training starts again.") from error

    def clear(self) -> None:
        """Delete what a run has written here, and nothing else. Raises UnseenError where the configuration is not a run's."""
        _ = self.config
        for folder, pattern in (
            (".", "*.parquet"),
            ("parts", "*.parquet"),
            ("weights", "*.safetensors"),
            (".", "*.json"),
            (".", "report.html"),
        ):
            for path in (self.path / folder).glob(pattern):
                path.unlink()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path that becomes ``name`` at the end. A full disk or a read-only folder is an UnseenError."""
        final = self.path / name
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, final)
        except OSError as error:
            raise UnseenError(_disk_error(final, error)) from error
        except Exception as error:  # Polars and safetensors wrap the operating system's errors in their own
            if "os error 28" in str(error).lower() or "no space left" in str(error).lower():
                raise UnseenError(_disk_error(final, OSError(errno.ENOSPC, "No space left on device"))) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def _repr_html_(self) -> str:
        return f"<code>{self.path}</code>" + self.scores.sort("memorization", descending=True).head(10)._repr_html_()


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading. Raises UnseenError where there is none."""
    run = Run(Path(path))
    if not (run.path / "config.json").exists():
        raise UnseenError(f"{run.path} is not a run: it has no config.json. `unseen runs` lists the runs below ./runs.")
    return run


def start_run(path: Path, config: Config, resume: bool = False, force: bool = False) -> Run:
    """Make the folder of a run, or find it.

    Raises UnseenError: a run of another configuration is there; an unfinished one is there and ``resume`` is not given.
    """
    run = Run(path)
    replaced = force and (path / "config.json").exists()
    if replaced:
        run.clear()
    if not (path / "config.json").exists():
        if path.is_dir() and any(path.iterdir()) and not replaced:
            raise UnseenError(f"{path} holds other files. Choose an empty folder, or one that is not there yet.")
        run.write_json("config.json", asdict(config))
        return run
    difference = _difference(run.config, config)
    if difference:
        raise UnseenError(f"{path} holds a run of another configuration ({difference}). Choose another --out, or --force to replace it.")
    if not run.finished and not resume:
        raise UnseenError(f"{path} holds an unfinished run of this configuration. Add --resume to go on, or --force to start again.")
    return run


def list_runs(root: Path) -> list[Run]:
    """All runs below a folder, newest last."""
    found = sorted(root.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return [Run(path.parent) for path in found]


def _difference(old: Config, new: Config) -> str:
    before, after = asdict(old), asdict(new)
    return ", ".join(f"{name}: {before[name]!r} there, {after[name]!r} asked" for name in before if before[name] != after[name])


def _what_writes(name: str) -> str:
    writers = {"truth": "unseen truth", "truth.json": "unseen truth", "influence": "unseen influence", "metrics.json": "unseen evaluate"}
    return f"`{writers.get(name, 'unseen score')}` writes {name}; a run that was stopped goes on with --resume."


def _disk_error(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full: {path} could not be written. What was finished is safe; free some space, then --resume."
    return f"{path} could not be written ({error.strerror or error}). Choose another --out, then go on with --resume."
