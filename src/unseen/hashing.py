"""The one hash: every random choice is a function of (seed, purpose, …, index), the same bits on every device and version."""

import hashlib

from torch import Tensor

INDEX_BITS = 62
LARGEST_INDEX = 2**INDEX_BITS - 1


def key(*parts: int | str) -> int:
    """A 63-bit number that depends on all parts (BLAKE2b), the same on every machine and version.

    >>> key(0, "order") == key(0, "order"), key(0, "order") == key(1, "order")
    (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def hash64(index: Tensor, *parts: int | str) -> Tensor:
    """Hash every index under the key of ``parts``; a bijection of int64 for fixed parts.

    SplitMix64 (Steele et al. 2014) on ``index`` plus the key.

    Args:
        index: int64 of any shape.
        *parts: numbers and texts that the key is made of, such as a seed and a purpose.

    Returns:
        int64 of the same shape, uniform over all 64-bit values.
    """
    x = index + key(*parts)
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ shift_right(x, shift)) * factor
    return x ^ shift_right(x, 31)


def uniform(index: Tensor, *parts: int | str) -> Tensor:
    """Uniform numbers in [0, 1) from ``hash64``: float64 of the shape of ``index``."""
    return shift_right(hash64(index, *parts), 11).double() * 2.0**-53


def shift_right(x: Tensor, by: int) -> Tensor:
    """Logical shift: PyTorch shifts int64 with the sign."""
    shifted: Tensor = (x >> by) & (2 ** (64 - by) - 1)
    return shifted
