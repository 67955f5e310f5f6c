"""Which training examples help or hurt which predictions: influence by turn-over dropout (eq. 1 and 5), by members, by gradients.

A way to compute influence is one file; ``job`` runs it over a run's queries and writes the table.
"""

from unseen.attribution.job import run_influence, saved_epochs

__all__ = ["run_influence", "saved_epochs"]
