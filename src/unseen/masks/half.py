"""Half masks and the one hash: every random choice is a function of (seed, purpose, …, index).

A layer's units are cut into words of 16. There are C(16, 8) = 12,870 words with exactly half of their
units on; a mask is one such word per 16 units.

No two examples share a mask, by construction. Write the index in ``bits`` bits, scramble it by a
bijection (xor with a key, xor-shift by at least half the width, product with an odd number: each can be
undone), and spell the result in base 12,870: the first words of the mask are its digits. A number below
the product of the bases is determined by its digits, so two indices below ``2**bits`` differ in a digit,
and different digits are different words. The last digit spelled is turned by a hash of the digits
before it, which keeps the spelling one to one and lets it reach every word. Five words, 80 units, hold
every index below 2**62; narrower layers hold ``capacity(units)`` examples. The words that are not needed
for the spelling are picked by multiply-shift hashing (Dietzfelbinger et al. 1997) of the scrambled index.

Only integer arithmetic modulo 2**64 is used, so masks are the same bits on every device, in every dtype,
batch, order and process.
"""

import itertools
import math
from functools import cache

import torch
from torch import Tensor, nn

from unseen.errors import UnseenError
from unseen.hashing import INDEX_BITS, hash64, key, shift_right

WORD = 16
FEW = 8  # groups at most whose masks are shared on purpose: C(8, 4) = 70 masks


def capacity(units: int) -> int:
    """How many examples have masks of their own in a layer of that many units: indices below this.

    >>> capacity(16), capacity(64), capacity(4096) == 2**62
    (8192, 18014398509481984, True)
    """
    return int(2 ** _bits(units))


class HalfMask(nn.Module):
    """The half mask of every example for one layer: ``mask(index)`` is 2 on the seen half, 0 elsewhere.

    The unseen half is ``2 - mask``. The factor 2 makes the network without masks the usual dropout
    average. An even number of units has exactly half of them on in each example; an odd number has one
    more or one less, each equally often.

    Args:
        units: width of the layer (or number of groups of units that share a fate), at least 2.
        seed: any integer.
        layer: number of the layer; the same number ties the masks of two layers.

    State does not grow with the number of examples: a table of words and a multiplier per word, neither
    of them in the ``state_dict``.
    """

    words: Tensor
    last_words: Tensor
    bases: Tensor
    places: Tensor
    multipliers: Tensor

    def __init__(self, units: int, seed: int = 0, layer: int = 0) -> None:
        super().__init__()
        if units < 2:
            raise UnseenError(f"A half mask needs at least 2 units, got {units}. Skip this layer, or make it wider.")
        self.units, self.bits = units, _bits(units)
        widths = _word_widths(units)
        bases = [len(_balanced_words(width)) for width in widths]
        places = [math.prod(bases[:w]) for w in range(_spelled(units))]
        self.purpose = key("mask", seed, layer)
        multipliers = [2 * key("word", seed, layer, w) + 1 for w in range(len(widths))]
        buffers = {"bases": bases, "places": places, "multipliers": [_signed(m) for m in multipliers]}
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.register_buffer("words", _balanced_words(WORD), persistent=False)
        self.register_buffer("last_words", _balanced_words(widths[-1]), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Masks of the examples.

        Args:
            index: int64 (...).

        Returns:
            uint8 (..., units) of 0 and 2.
        """
        picks = self._picks(index)
        whole = self.units // WORD
        parts = []
        if whole:
            parts.append(_look_up(self.words, picks[..., :whole]))
        if self.units % WORD:
            parts.append(_look_up(self.last_words, picks[..., whole:]))
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

    def _picks(self, index: Tensor) -> Tensor:
        """The number of the word at each place: int64 (..., words)."""
        scrambled = _scramble(index, self.bits, self.purpose)
        spelled = len(self.places)
        digits = torch.div(scrambled[..., None], self.places, rounding_mode="floor") % self.bases[:spelled]
        turn = shift_right((scrambled % self.places[-1]) * -0x61C8864680B583EB, 32)
        last = (digits[..., -1] + turn) % self.bases[spelled - 1]
        picks = torch.cat((digits[..., :-1], last[..., None]), -1)
        if len(self.multipliers) == spelled:
            return picks
        hashed = scrambled[..., None] * self.multipliers
        hashed = hashed.bitwise_right_shift_(32).bitwise_and_(2**32 - 1)  # in place: these are the large tensors
        hashed = hashed.mul_(self.bases).bitwise_right_shift_(32)
        hashed[..., :spelled] = picks
        return hashed


class SharedMask(nn.Module):
    """Half masks of few groups, which many examples share: ``mask(index)`` is 2 on the seen half, 0 elsewhere.

    Each example has one of the C(groups, groups / 2) masks by a hash of (seed, layer, index), all equally likely. The examples that share
    a mask train the same half as a whole, so the half that they never touch knows something; see ``HalfMask`` for masks of one's own.

    Args:
        groups: of units that share a fate, 2 to ``FEW``.
        seed: any integer.
        layer: number of the layer; the same number ties the masks of two layers.
    """

    words: Tensor

    def __init__(self, groups: int, seed: int = 0, layer: int = 0) -> None:
        super().__init__()
        if not 2 <= groups <= FEW:
            raise UnseenError(f"Masks are shared among 2 to {FEW} groups, got {groups}. Take more groups for masks of one's own.")
        self.units, self.purpose = groups, ("shared mask", seed, layer)
        self.register_buffer("words", _balanced_words(groups), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Masks of the examples, uint8 (..., groups) of 0 and 2, for int64 (...)."""
        return self.words[self.number(index)]

    def number(self, index: Tensor) -> Tensor:
        """Which of the masks each example has: int64 (...)."""
        return shift_right(hash64(index, *self.purpose), 33) % len(self.words)


def _word_widths(units: int) -> list[int]:
    return [WORD] * (units // WORD) + ([units % WORD] if units % WORD else [])


@cache
def _balanced_words(width: int) -> Tensor:
    """All words of ``width`` units with half of them on, times 2, in pairs of complements, well mixed.

    Pairs make every even prefix of the table exactly fair to every unit. An odd width has the words
    with one unit less than half and those with one more.
    """
    half = [set(on) for on in itertools.combinations(range(width), width // 2)]
    firsts = [on for on in half if width % 2 or 0 in on]  # the complement of each is its partner
    order = sorted(range(len(firsts)), key=lambda i: key("word order", i))
    rows = [[2 * ((unit in firsts[i]) ^ flip) for unit in range(width)] for i in order for flip in (False, True)]
    return torch.tensor(rows, dtype=torch.uint8)


def _spelled(units: int) -> int:
    """How many words spell the index: enough for 62 bits, or all there are."""
    product = 1
    widths = _word_widths(units)
    for count, width in enumerate(widths, 1):
        product *= len(_balanced_words(width))
        if product >= 2**INDEX_BITS:
            return count
    return len(widths)


@cache
def _bits(units: int) -> int:
    product = math.prod(len(_balanced_words(width)) for width in _word_widths(units)[: _spelled(units)])
    return min(INDEX_BITS, product.bit_length() - 1)


def _scramble(index: Tensor, bits: int, key: int) -> Tensor:
    """A keyed bijection of [0, 2**bits); larger indices are folded into it first."""
    mask, shift = 2**bits - 1, (bits + 1) // 2
    x: Tensor = (index ^ (index >> bits) * 0x2545F4914F6CDD1D ^ key) & mask
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, key | 1):
        x = ((x ^ x >> shift) * factor) & mask
    return x ^ x >> shift


def _look_up(table: Tensor, picks: Tensor) -> Tensor:
    rows = table.index_select(0, picks.flatten())
    return rows.view(*picks.shape[:-1], picks.shape[-1] * table.shape[1])


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
