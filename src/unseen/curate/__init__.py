"""Acting on a run: lists, neighbours, pruning, cleaned copies, other tools' formats.

Reads tables and writes what people act on; trains nothing, but for the curve of pruning.
"""

from unseen.curate.bridges import export, label_quality, subset, to_datalab
from unseen.curate.confusions import right_probability
from unseen.curate.copying import apply
from unseen.curate.doubles import Pairs, directions, exact_pairs, groups, near_pairs, projected, strangeness
from unseen.curate.lists import (
    LISTS,
    difficulty,
    easy,
    judged,
    ranked_by,
    rare,
    suspects,
    trust_of,
    trust_sentence,
    trustworthy,
    with_paths,
)
from unseen.curate.neighbours import find_neighbours
from unseen.curate.oddities import duplicates, find_oddities, leaks, odd_lists, outliers
from unseen.curate.pruning import Order, curve, prune
from unseen.curate.rates import ErrorRate, error_rate
from unseen.curate.spreadsheet import neutral_frame
from unseen.curate.trust import FEWEST, Trust, trust_in
from unseen.curate.witness import find_witness, witnessed
