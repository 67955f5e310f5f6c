"""What an example looks like to a network that never saw its label: descriptions without labels, frozen networks, own arrays.

Whatever turns inputs into rows of numbers without labels, and keeps them in files, belongs here.
"""

from unseen.features.extracting import Features, extract
from unseen.features.kernel import LANDMARKS, Landmarks
from unseen.features.kinds import KINDS, Extractor, make_extractor, missing_weights, parse_kind
