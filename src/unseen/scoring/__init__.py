"""The main job: from a configuration and data to a run's tables, by an estimator; and the recorder of other people's loops.

Whatever computes a column of the score table belongs here.
"""

from unseen.scoring.engine import audit_model, score
from unseen.scoring.estimators import new_net
from unseen.scoring.inputs import load_options, prepare, run_examples
from unseen.scoring.recorder import Recorder
from unseen.scoring.scores import detection, noise_floor, rank_correlation

__all__ = [
    "Recorder",
    "audit_model",
    "detection",
    "load_options",
    "new_net",
    "noise_floor",
    "prepare",
    "rank_correlation",
    "run_examples",
    "score",
]
