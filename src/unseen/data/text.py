"""Texts as numbers: hashed bags of words, pairs of words and pieces of words, weighted by how rare they are."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from unseen.errors import UnseenError

BUCKETS = 2**16
LONGEST = 1024  # features of one text; of more, the rarest are kept
PIECES = (3, 4, 5)


def bags(texts: Sequence[str]) -> Tensor:
    """Texts as bags of features: float32 (texts, features, 2), of each feature its bucket (0: padding) and its weight.

    Features: words and signs in lower case, pairs of neighbours, and pieces of 3 to 5 letters of each word with its ends. The weight of
    one that occurs t times, in d of n texts, is (1 + ln t) (1 + ln((1 + n) / (1 + d))), and each text's weights have norm 1, as
    scikit-learn's TF-IDF.
    Hashing by CRC-32 needs no vocabulary to keep. Buckets are whole numbers below 2^16, exact in float32.

    Raises:
        UnseenError: for an empty text, by its row.
    """
    counts = []
    for row, text in enumerate(texts):
        found = features(text)
        if not found:
            raise UnseenError(f"The text in row {row} is empty. Allowed: at least one letter or sign. Fill it in or drop the row.")
        counts.append(Counter(1 + zlib.crc32(feature.encode()) % (BUCKETS - 1) for feature in found))
    frequency = Counter(bucket for count in counts for bucket in count)
    rarity = {bucket: 1 + math.log((1 + len(texts)) / (1 + times)) for bucket, times in frequency.items()}
    longest = min(LONGEST, max(map(len, counts), default=1))  # a table without rows is refused later
    table = np.zeros((len(texts), longest, 2), np.float32)
    for row, count in enumerate(counts):
        weights = {bucket: (1 + math.log(times)) * rarity[bucket] for bucket, times in count.items()}
        kept = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:longest]
        table[row, : len(kept)] = kept
        table[row, :, 1] /= np.linalg.norm(table[row, :, 1])
    return torch.from_numpy(table)


def features(text: str) -> list[str]:
    """Words and signs, pairs of neighbours, pieces of words.

    >>> features("Bad!")
    ['bad', '!', 'bad !', '#<ba', '#bad', '#ad>', '#<bad', '#bad>', '#<bad>']
    """
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    ends = [f"<{word}>" for word in words if word[0].isalnum()]
    pieces = [f"#{word[start : start + size]}" for word in ends for size in PIECES for start in range(len(word) - size + 1)]
    return [*words, *pairs, *pieces]
