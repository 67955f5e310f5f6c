"""How right the scores are, and how training got there: retraining, evaluation, planted errors, dynamics.

Whatever compares scores with something better than themselves belongs here.
"""

from unseen.judge.dynamics import class_names, run_dynamics, run_gradients, run_subsets, subset_curves
from unseen.judge.evaluation import evaluate, seed_stability, spearman
from unseen.judge.job import write_truth
from unseen.judge.planting import selfcheck
from unseen.judge.retraining import leave_one_out, truth

__all__ = [
    "class_names",
    "evaluate",
    "leave_one_out",
    "run_dynamics",
    "run_gradients",
    "run_subsets",
    "seed_stability",
    "selfcheck",
    "spearman",
    "subset_curves",
    "truth",
    "write_truth",
]
