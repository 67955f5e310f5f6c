"""Slow, obvious twins of the fast paths, in plain Python or one example at a time."""

import itertools

import torch
from torch.nn import functional as F

from unseen.hashing import key
from unseen.masks.half import HalfMask

WRAP = 2**64


def mask_of(index: int, units: int, seed: int, layer: int) -> list[int]:
    """The half mask of one example, in Python integers, from the description in masks.py."""
    fast = HalfMask(units, seed, layer)
    widths = [16] * (units // 16) + ([units % 16] if units % 16 else [])
    bases = [table_size(width) for width in widths]
    spelled, product = 0, 1
    while spelled < len(widths) and product < 2**62:
        product *= bases[spelled]
        spelled += 1
    bits = min(62, product.bit_length() - 1)
    number = scramble(index, bits, key("mask", seed, layer))
    picks, rest, places = [], number, 1
    for base in bases[:spelled]:
        picks.append(rest % base)
        rest //= base
    for base in bases[: spelled - 1]:
        places *= base
    turn = (number % places) * -0x61C8864680B583EB % WRAP >> 32
    picks[-1] = (picks[-1] + turn) % bases[spelled - 1]
    for word in range(spelled, len(widths)):
        multiplier = 2 * key("word", seed, layer, word) + 1
        picks.append((number * multiplier % WRAP >> 32) * bases[word] >> 32)
    mask = []
    for width, pick in zip(widths, picks, strict=True):
        mask += (fast.words if width == 16 else fast.last_words)[pick].tolist()
    return mask


def scramble(index: int, bits: int, scramble_key: int) -> int:
    keep, shift = 2**bits - 1, (bits + 1) // 2
    x = (index ^ (index >> bits) * 0x2545F4914F6CDD1D ^ scramble_key) & keep
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, scramble_key | 1):
        x = ((x ^ x >> shift) * factor) & keep
    return x ^ x >> shift


def table_size(width: int) -> int:
    counts = {width // 2, (width + 1) // 2}
    return sum(len(list(itertools.combinations(range(width), count))) for count in counts)


def memorization_one_by_one(net, x, labels, index):
    """Equation 6, one example and one half at a time."""
    gaps = []
    for i in range(len(x)):
        losses = [F.cross_entropy(net(x[i : i + 1], index[i : i + 1], side), labels[i : i + 1]) for side in ("unseen", "seen")]
        gaps.append((losses[0] - losses[1]).item())
    return torch.tensor(gaps)
