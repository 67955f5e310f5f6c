"""Ask a neural network what it would say about each training example had it never seen it."""

__version__ = "0.1.0"

from unseen.audit import audit, leak_of_a_step
from unseen.bridges import label_quality, subset, to_datalab
from unseen.config import Config
from unseen.data import Examples, load
from unseen.errors import UnseenError
from unseen.indexed import IndexedDataset, with_index
from unseen.masks import HalfMask
from unseen.measure import measure, measure_batches, memorization
from unseen.models import cct, mlp, vgg11
from unseen.norms import convert_batch_norm
from unseen.places import Place
from unseen.recorder import Recorder
from unseen.recurrent import convert_recurrent
from unseen.runs import Run, open_run
from unseen.scoring import score
from unseen.shards import Shards
from unseen.train import train
from unseen.turnover import TurnOver, TurnOverNet, attach

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
    "attach",
    "audit",
    "cct",
    "convert_batch_norm",
    "convert_recurrent",
    "label_quality",
    "leak_of_a_step",
    "load",
    "measure",
    "measure_batches",
    "memorization",
    "mlp",
    "open_run",
    "score",
    "subset",
    "to_datalab",
    "train",
    "vgg11",
    "with_index",
]
