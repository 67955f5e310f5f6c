"""Anything to ``Examples``: files, folders, frames, arrays, hub and torch data sets, in memory or in shards; label noise, splits, subsets.

Whatever reads or changes the user's data, before any network sees it, belongs here.
"""

from unseen.data.csvs import TARGETS
from unseen.data.dialect import find_dialect, is_csv
from unseen.data.digests import content, difference, digest, mark_of, outline, refuse_other
from unseen.data.examples import Examples, joined
from unseen.data.folders import image_folder, is_picture
from unseen.data.frames import declared_classes
from unseen.data.hub import pinned
from unseen.data.images import Lazy
from unseen.data.indexed import COLUMN, IndexedDataset, in_order, with_index
from unseen.data.inspecting import inspect
from unseen.data.loading import download, load
from unseen.data.noise import Amount, UpTo, asymmetric, count_of, gaussian_inputs, random_labels, random_pixels
from unseen.data.opening import opened, sample
from unseen.data.raw import Columns, Raw
from unseen.data.reading import Reading, Skipped
from unseen.data.scanning import Sharded, scan
from unseen.data.shards import Shards, find_shards, is_stream
from unseen.data.sources import NAMES, data_folder
from unseen.data.splits import is_trained, null_mask, trained
from unseen.data.subsets import find_subsets
from unseen.data.text import BUCKETS
from unseen.data.verbatim import decoded, records, with_field
