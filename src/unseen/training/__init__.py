"""The training loops and what they are made of: one network or many members, measuring, processes, cost, progress.

Training is a generator and measuring a function; neither knows of tables or run folders.
"""

from unseen.training.blocks import blocks_at, blocks_of, orders_of, train_blocks
from unseen.training.convolutions import FastLayers
from unseen.training.cost import Laps, cost_facts, machine, plain_seconds
from unseen.training.expected import FEWEST_EXAMPLES, FEWEST_MEMBERS, expected_rank
from unseen.training.head import Head, Predictions, fit_head, fit_in_chunks, relabelled
from unseen.training.hidden import HEAD_SCORES, NO_LINEAR, Hidden, Layers, Output, find_output, first_batch, gives, head_scores
from unseen.training.loop import (
    Epoch,
    channels_last,
    checked_losses,
    epoch_order,
    get_state,
    learning_rate,
    load_state,
    make_optimizer,
    take_steps,
    train,
)
from unseen.training.measuring import measure, measure_batches, memorization, statistics
from unseen.training.members import DEEP, Pass, members_at, members_losses, membership, new_members, small, train_members
from unseen.training.networks import Members, Ordinary, look_at, new_network
from unseen.training.processes import bf16_gains, first, holding, launch, make_fabric, share
from unseen.training.progress import Bar, counter
from unseen.training.samples import LOST, moderated_samples, two_samples
from unseen.training.sums import Sums
