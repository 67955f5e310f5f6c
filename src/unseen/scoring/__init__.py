"""The main job: from a configuration and data to a run's tables, by an estimator; and the recorder of other people's loops.

Whatever computes a column of the score table belongs here.
"""

from unseen.scoring.at_once import begin, train_one
from unseen.scoring.described import cache_folder
from unseen.scoring.engine import audit_model, score
from unseen.scoring.estimating import Estimate, estimate
from unseen.scoring.estimators import ESTIMATORS, Estimator
from unseen.scoring.floor import floor_lines, noise_floor
from unseen.scoring.inputs import chosen, load_options, prepare_whole, run_examples, settings_of
from unseen.scoring.recorder import Recorder
from unseen.scoring.sameness import noted_mark, refuse_other_data, refuse_other_scores
from unseen.scoring.scores import detection, rank_correlation
from unseen.scoring.weights import saved_epochs, saved_network
