"""Statistics of per-example gradients: cosine similarity (eq. 3), contributions (eq. 4), norms, coherence.

Formulas per layer live in ``ghost`` and ``layers``; what is watched during a run in ``watch``.
"""

from unseen.gradients.ghost import SMALLEST_NORM, Formed, Outer, Rows
from unseen.gradients.layers import find_pieces, recorded
from unseen.gradients.losses import example_losses, loss_of_one
from unseen.gradients.statistics import (
    GradientStatistics,
    contributions,
    cosine_matrix,
    cosine_similarity,
    gradient_norms,
    gradient_statistics,
)
from unseen.gradients.watch import coming_steps, gradient_rows, gradient_table
