"""What is on the disk: a run is a folder of tables, weights and JSON, written whole or not at all.

Knows nothing of networks or data; whatever reads or writes a file of a run belongs here.
"""

from unseen.runs.facts import full_is_readable, has_halves, has_many_networks, require_halves
from unseen.runs.files import whole
from unseen.runs.run import Run, list_runs, open_run, shard_name, start_run
