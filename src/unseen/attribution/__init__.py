"""Which training examples help or hurt which predictions: influence by turn-over dropout (eq. 1 and 5), by members, by gradients.

A way to compute influence is one file; ``job`` runs it over a run's queries and writes the table.
"""

from unseen.attribution.job import influence
from unseen.attribution.queries import Queries, parse_queries
from unseen.attribution.turnover import influence_tile, top_influence
