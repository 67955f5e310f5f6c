"""Keep the halves apart: half masks, where they go in a network, turn-over dropout, and the audit of what both halves share.

Whatever decides which units an example trains belongs here; what is learned does not.
"""

from unseen.masks.half import FEW, HalfMask, SharedMask
from unseen.masks.leaks import Leak, advice, audit, leak_of_a_step
from unseen.masks.norms import convert_batch_norm
from unseen.masks.outputs import (
    check_weights,
    classifier,
    evaluating,
    first_rows,
    gives_other_than_computed,
    logits_of,
    two_logits,
    warn_of_probabilities,
)
from unseen.masks.places import LEAST, Place, check_capacity, groups_for, mask_count
from unseen.masks.recurrent import convert_recurrent
from unseen.masks.turnover import CHILD, IN_THREADS, Inputs, Side, TurnOver, TurnOverNet, attach
