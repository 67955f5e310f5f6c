"""Anything to ``Examples``: files, folders, frames, arrays, hub and torch data sets, in memory or in shards; label noise, splits, subsets.

Whatever reads or changes the user's data, before any network sees it, belongs here.
"""

from unseen.data.dialect import Dialect, decoded, records, sniff, with_field
from unseen.data.digests import difference, digest, refuse_other
from unseen.data.examples import Examples, joined
from unseen.data.frames import TARGETS, declared_classes
from unseen.data.images import Lazy
from unseen.data.indexed import COLUMN, IndexedDataset, in_order, with_index
from unseen.data.loading import download, load
from unseen.data.noise import Amount, UpTo, asymmetric, count_of, gaussian_inputs, random_labels, random_pixels
from unseen.data.scanning import Sharded, scan
from unseen.data.shards import Shards, find_shards, is_stream
from unseen.data.sources import NAMES, image_folder
from unseen.data.splits import null_mask, trained
from unseen.data.subsets import find_subsets
from unseen.data.text import BUCKETS
