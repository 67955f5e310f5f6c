"""Ask a neural network what it would say about each training example had it never seen it."""

__version__ = "0.1.0"

from unseen.audit import audit
from unseen.config import Config
from unseen.data import Examples, load
from unseen.errors import UnseenError
from unseen.masks import HalfMask
from unseen.measure import measure, memorization
from unseen.models import cct, mlp, vgg11
from unseen.runs import Run, open_run
from unseen.scoring import score
from unseen.train import train
from unseen.turnover import Place, TurnOver, TurnOverNet, attach

__all__ = [
    "Config",
    "Examples",
    "HalfMask",
    "Place",
    "Run",
    "TurnOver",
    "TurnOverNet",
    "UnseenError",
    "attach",
    "audit",
    "cct",
    "load",
    "measure",
    "memorization",
    "mlp",
    "open_run",
    "score",
    "train",
    "vgg11",
]
