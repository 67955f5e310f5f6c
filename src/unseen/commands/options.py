"""The flags that commands share, in groups."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from unseen.config import (
    PARTS,
    Config,
    DataOptions,
    MaskOptions,
    MeasuringOptions,
    MemberOptions,
    NetworkOptions,
    NoiseOptions,
    TrainingOptions,
)
from unseen.errors import UnseenError


@dataclass(frozen=True)
class Source(DataOptions):
    """What is read, and which of it."""

    data: Positional[str] = "digits"
    """digits, mnist, fashion-mnist, cifar10, a folder, CSV, parquet, .npz, or hf:owner/name[@revision]"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""


@dataclass(frozen=True)
class Listing:
    """The flags of a list."""

    run: Positional[Path]
    """a run folder"""
    top: int = 20
    """number of examples; 0: all"""
    json: bool = False
    """print JSON: what is known of the list, and its rows"""
    csv: bool = False
    """print CSV"""
    data_dir: Path | None = None
    """folder of mnist/, fashion-mnist/ and cifar10/; default: $UNSEEN_DATA"""
    trust_paths: bool = False
    """read data outside of the run's folder, or on the hub, though the run was made elsewhere"""

    def form(self) -> str:
        """table, json or csv. Raises UnseenError for flags that contradict each other, or a negative number."""
        if self.json and self.csv:
            raise UnseenError("--json and --csv are both given. Choose one.")
        if self.top < 0:
            raise UnseenError(f"--top is {self.top}; it must be at least 0 (0: all).")
        return "json" if self.json else "csv" if self.csv else "table"


@dataclass(frozen=True)
class Output:
    """Where the run goes, and how it is made."""

    out: Path | None = None
    """the run's folder; default: runs/<data>-<model>-<hash of the configuration>"""
    devices: int = 1
    """number of processes, or of GPUs"""
    resume: bool = False
    """go on with a run that was stopped"""
    force: bool = False
    """train again, though the run is there already"""
    report: bool = False
    """also write report.html, one page that shows the run"""
    logger: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ()
    """loggers that are given the accuracies and losses of every epoch too"""


@dataclass(frozen=True)
class Run:
    """Everything that a run depends on, and where it goes."""

    data: Source = field(default_factory=Source)
    output: Output = field(default_factory=Output)
    estimator: str = "auto"
    """what computes the scores. head: a ridge head on features that never saw a label. members: many small networks. turnover: one network
    with turn-over dropout, as in the paper. plain: one ordinary network, without memorization. auto, the default: head for colour pictures
    and texts, members for mlp, vgg11 and resnet10, turnover for other networks and where a flag is given that only turnover has"""
    seed: int = 0
    """seed of masks, initial weights, order and noise"""
    seeds: int = 1
    """number of runs to average"""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    members: MemberOptions = field(default_factory=MemberOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    measuring: MeasuringOptions = field(default_factory=MeasuringOptions)

    def keywords(self) -> dict[str, Any]:
        """What ``unseen.score`` takes beside data and model."""
        output = asdict(self.output)
        del output["report"]
        output["loggers"] = output.pop("logger")
        return options_of(self) | output | {"data_dir": self.data.data_dir, "progress": True}


def options_of(command: Any) -> dict[str, Any]:
    """The options of ``Config`` that a command has, flat, but for data and model."""
    found = {name: getattr(command, name) for name in ("estimator", "seed", "seeds") if hasattr(command, name)}
    for part in PARTS:
        if hasattr(command, part):
            kept = {option.name for option in fields(getattr(Config(), part))} - {"data", "model"}
            found |= {name: getattr(getattr(command, part), name) for name in kept}
    return found
