"""Ask a neural network what it would say about each training example had it never seen it."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unseen.runs import Run

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unseen.attribution import influence
    from unseen.config import Config
    from unseen.curate import apply, duplicates, easy, export, label_quality, leaks, outliers, prune, rare, subset, suspects, to_datalab
    from unseen.data import Examples, IndexedDataset, Shards, load, with_index
    from unseen.errors import UnseenError
    from unseen.gradients import contributions, cosine_similarity, gradient_statistics
    from unseen.judge import dynamics, evaluate, selfcheck, truth
    from unseen.masks import (
        HalfMask,
        Place,
        TurnOver,
        TurnOverNet,
        attach,
        audit,
        convert_batch_norm,
        convert_recurrent,
        leak_of_a_step,
    )
    from unseen.models import cct, mlp, vgg11
    from unseen.page import report
    from unseen.privacy import privacy_risk, risky
    from unseen.runs import open_run
    from unseen.scoring import Recorder, score
    from unseen.training import measure, measure_batches, memorization, train

__all__ = [
    "Config",
    "Examples",
    "HalfMask",
    "IndexedDataset",
    "Place",
    "Recorder",
    "Run",
    "Shards",
    "TurnOver",
    "TurnOverNet",
    "UnseenError",
    "apply",
    "attach",
    "audit",
    "cct",
    "contributions",
    "convert_batch_norm",
    "convert_recurrent",
    "cosine_similarity",
    "duplicates",
    "dynamics",
    "easy",
    "evaluate",
    "export",
    "gradient_statistics",
    "influence",
    "label_quality",
    "leak_of_a_step",
    "leaks",
    "load",
    "measure",
    "measure_batches",
    "memorization",
    "mlp",
    "open_run",
    "outliers",
    "privacy_risk",
    "prune",
    "rare",
    "report",
    "risky",
    "score",
    "selfcheck",
    "subset",
    "suspects",
    "to_datalab",
    "train",
    "truth",
    "vgg11",
    "with_index",
]

_ROOMS = (
    "errors",
    "config",
    "runs",
    "masks",
    "data",
    "models",
    "training",
    "gradients",
    "scoring",
    "attribution",
    "curate",
    "judge",
    "privacy",
    "page",
)


def __getattr__(name: str) -> Any:
    """Import a public name, or a room, when it is first asked for: so ``unseen --help`` waits for no tensor library."""
    if name in __all__:
        for room in _ROOMS:
            value = vars(import_module(f"unseen.{room}")).get(name)
            if value is not None and not isinstance(value, ModuleType):  # masks has a file called leaks
                globals()[name] = value
                return value
    if name in (*_ROOMS, "hashing", "integrations", "recipes", "plots", "language"):
        return import_module(f"unseen.{name}")
    raise AttributeError(f"module 'unseen' has no attribute {name!r}")


def _in_notebooks(run: Run) -> str:
    return str(import_module("unseen.page").gallery(run))


Run.in_notebooks = _in_notebooks


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
