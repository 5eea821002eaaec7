"""Do two salts cut the units independently of each other, and does one cut them evenly?

Every analysis takes it for granted that what a unit gets in one experiment says nothing of what it
gets in another. Distinct salts under a good hash make it so; this tests it on synthetic units by
Pearson's chi-square, of one row of counts (uniformity) or of a two-way table (independence):
Pearson (1900), "On the criterion that a given system of deviations...", Philosophical Magazine 50;
degrees of freedom of the two-way table by Fisher (1922), "On the interpretation of chi-square from
contingency tables", Journal of the Royal Statistical Society 85.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy  # its statistics load when they are first used: they take most of a second
from touchstone_assignment.bucketing import HashVersion, require_salt
from touchstone_assignment.bulk.murmur import Hasher, Words, beginning

UNITS: Final = 20_000
CELLS: Final = 20
"""Ranges of buckets that are told apart: at 20,000 units 50 are expected in each pair of them."""
ALPHA: Final = 1e-9
"""How improbable a table must be by chance before a salt is called dependent on another."""

_ID_BYTES = 8
Cells = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Salt:
    """A salt with the hash that it is used with."""

    salt: str
    hash_version: HashVersion


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's statistic, and how probable one as large is by chance."""

    statistic: float
    p_value: float


def unit_ids(units: int = UNITS) -> list[str]:
    """The synthetic units: consecutive numbers of eight digits, which ask much of a hash."""
    return [f"{number:0{_ID_BYTES}d}" for number in range(units)]


def cells(salt: Salt, units: int = UNITS, width: int = CELLS) -> Cells:
    """Which of `width` equal ranges of hashes each of `unit_ids(units)` falls into.

    It is the bucket that `bucketer` gives, computed for all units at once.
    """
    hashes = _hashes(salt, units).astype(np.uint64)
    return ((hashes * np.uint64(width)) >> np.uint64(32)).astype(np.int64)


def uniformity(found: Cells, width: int = CELLS) -> ChiSquare:
    """Whether the units are spread evenly over the cells; width - 1 degrees of freedom."""
    observed = np.bincount(found, minlength=width).astype(np.float64)
    expected = len(found) / width
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return ChiSquare(statistic, float(scipy.stats.chi2.sf(statistic, width - 1)))


def independence(first: Cells, second: Cells, width: int = CELLS) -> ChiSquare:
    """Whether the cells of the same units under two salts are independent of each other.

    The two-way table with the margins that were found; (width - 1) squared degrees of freedom.
    """
    table = np.bincount(first * width + second, minlength=width * width).reshape(width, width)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(first)
    # A margin of 0 has no units: it takes no part.
    counted = expected > 0
    terms = (table[counted] - expected[counted]) ** 2 / expected[counted]
    statistic = float(terms.sum())
    return ChiSquare(statistic, float(scipy.stats.chi2.sf(statistic, (width - 1) ** 2)))


def dependent_on(new: Salt, others: Sequence[Salt]) -> Salt | None:
    """The first of the others that the new salt is equal to or not independent of, or None."""
    equal = next((other for other in others if other.salt == new.salt), None)
    if equal is not None:
        return equal
    mine = cells(new)
    for other in others:
        if independence(mine, cells(other)).p_value < ALPHA:
            return other
    return None


def _hashes(salt: Salt, units: int) -> Words:
    before = beginning(salt.hash_version, require_salt(salt.salt), _ID_BYTES)
    return Hasher.of(before, _ID_BYTES, _ID_BYTES, units).hash(_words(units))


@lru_cache(maxsize=4)
def _words(units: int) -> Words:
    """The synthetic units as `Hasher` takes them."""
    numbers = np.arange(units, dtype=np.int64)
    digits = numbers[:, None] // 10 ** np.arange(_ID_BYTES - 1, -1, -1) % 10 + ord("0")
    written = digits.astype(np.uint8).view("<u4").astype(np.uint32)
    return np.ascontiguousarray(written.T)
