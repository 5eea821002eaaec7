"""Poisson(1) weights that depend on the unit, the replicate and the seed, and on nothing else.

So every shard, thread and day gives a unit the same weights, and weighted statistics merge by `+`.
The generator is counter-based (Salmon, Moraes, Dror, Shaw 2011): the finaliser of splitmix64
(Steele, Lea, Flood 2014) over unit and counter gives 64 bits, which are four weights of 16 bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.unit_keys import GOLDEN, Keys, mixed
from shared.errors import invalid

MAX_REPLICATES = 10_000
MAX_SEED = 2**63 - 1
WEIGHTS_PER_WORD = 4

Weights = NDArray[np.uint8]

# 65,536 times P(X <= k) for X ~ Poisson(1), k = 0, 1, ...: rounded so, the mean is 1 exactly and
# the variance .99997.
_AT_MOST = (24_109, 48_219, 60_273, 64_292, 65_296, 65_497, 65_531, 65_535, 65_536)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How many replicates, from which seed, and the level of the intervals."""

    replicates: int = 200
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 2 <= self.replicates <= MAX_REPLICATES:
            raise invalid("bootstrap.replicates", self.replicates, f"2 to {MAX_REPLICATES}")
        if not 0 <= self.seed <= MAX_SEED:
            raise invalid("bootstrap.seed", self.seed, f"0 to {MAX_SEED}")
        if not 0 < self.level < 1:
            raise invalid("bootstrap.level", self.level, "a level above 0 and below 1")


def unit_weights(keys: Keys, seed: int, begin: int, end: int) -> Weights:
    """Return the weights of replicates [begin, end) of each key, of shape (len(keys), end - begin).

    `begin` is a multiple of `WEIGHTS_PER_WORD`.
    """
    counters = np.arange(begin // WEIGHTS_PER_WORD, -(-end // WEIGHTS_PER_WORD), dtype=np.uint64)
    streams = mixed((counters + np.uint64(1)) * GOLDEN ^ mixed(np.array([seed], np.uint64)))
    words = mixed(keys[:, None] ^ streams[None, :]).astype("<u8", copy=False)
    weights: Weights = _table()[words.view("<u2")[:, : end - begin]]
    return weights


def _table() -> Weights:
    widths = np.diff(np.array((0, *_AT_MOST)))
    return np.repeat(np.arange(len(_AT_MOST), dtype=np.uint8), widths)
