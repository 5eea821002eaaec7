"""A 64-bit key of each unit, from which everything that is drawn by unit is computed.

So a draw depends on the unit and a seed and on nothing else: not on shards, threads or order.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.arrays import Integers

Keys = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys_of_names(names: Sequence[str]) -> Keys:
    """Return a key for each unit id: the same wherever and whenever the id is seen."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def keys_of_numbers(units: Integers) -> Keys:
    """Return a key for each unit number; shards agree where they number units alike."""
    return mixed(units.astype(np.uint64) + GOLDEN)


def mixed(words: Keys) -> Keys:
    """Scramble 64 bits: the finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Keys = words ^ (words >> np.uint64(31))
    return scrambled
