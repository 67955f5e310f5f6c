"""What is on the disk: a run is a folder of tables, weights and JSON, written whole or not at all.

Knows nothing of networks or data; whatever reads or writes a file of a run belongs here.
"""

from unseen.runs.facts import full_is_readable, has_halves, has_many_networks, not_fitted, require_halves
from unseen.runs.files import inside, open_below, open_folder, open_regular, read_regular, regular, whole, whole_folder
from unseen.runs.memory import free_memory, refuse_large
from unseen.runs.origin import home_of, source_of
from unseen.runs.outputs import list_runs, writing_out
from unseen.runs.run import Run, open_run, shard_name, start_run
