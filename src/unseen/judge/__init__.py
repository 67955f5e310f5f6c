"""How right the scores are, and how training got there: retraining, evaluation, planted errors, dynamics.

Whatever compares scores with something better than themselves belongs here.
"""

from unseen.judge.evaluation import SUSPECT, evaluate, linear_datamodeling_score, seed_stability, spearman
from unseen.judge.handed import calibration_error, evaluate_scores, read_scores, read_truth
from unseen.judge.job import truth
from unseen.judge.learning import class_names, dynamics, learning_times, run_gradients, run_subsets, subset_curves
from unseen.judge.planting import selfcheck
from unseen.judge.retraining import ceiling, leave_one_out, reliability, retrain, subset_truth
