"""How units are cut: into the slots of a layer, the buckets of a holdout and of a split."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import Bucketer, HashVersion, bucketer, require_salt

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import Slots

TOTAL_SLOTS = 10_000
"""The slots of a layer, the buckets of a holdout and the sum of the weights of a split."""

_HASH = {1: HashVersion.FLAGD_V2, 2: HashVersion.FLAGD_V3}
Owns = Callable[[int], bool]
"""Whether a slot is one of some."""


def hash_version(number: int) -> HashVersion:
    """The hash version of touchstone.assignment.v1.HashVersion; ValueError for an unknown one."""
    if number not in _HASH:
        raise ValueError(f"hash version {number} is not known; known are {sorted(_HASH)}")
    return _HASH[number]


@dataclass(frozen=True, slots=True)
class Cut:
    """Cuts the units of one type by the hash of their keys under one salt."""

    version: HashVersion
    salt: str

    def bucketer(self) -> Bucketer:
        """From the bytes of a unit to its slot or bucket, from 0 to 9,999."""
        return bucketer(self.version, self.salt, TOTAL_SLOTS)


def cut_of(version: int, salt: str) -> Cut:
    """By the number of a HashVersion; ValueError for an unknown one or a salt that is none."""
    return Cut(hash_version(version), require_salt(salt))


def first_hash(bucket: int) -> int:
    """The lowest hash of a bucket of 10,000, or one past the highest hash for bucket 10,000.

    A bucket is `(hash * W) >> 32`, so it is at least b exactly where the hash is at least
    `ceil(b * 2**32 / W)`.
    """
    return -(-(bucket << 32) // TOTAL_SLOTS)


def edges_of(slots: Iterable["Slots"]) -> list[int]:
    """Where runs of slots start and end, ascending, with neighbours joined.

    ValueError when a run is empty, out of range or meets another.
    """
    edges: list[int] = []
    for first, end in sorted((run.first, run.end) for run in slots):
        if not 0 <= first < end <= TOTAL_SLOTS or (edges and first < edges[-1]):
            raise ValueError(
                f"the slots [{first}, {end}) are empty, outside 0 to {TOTAL_SLOTS}, or held twice"
            )
        if edges and edges[-1] == first:
            edges[-1] = end
        else:
            edges += (first, end)
    return edges


def owns(edges: Sequence[int]) -> Owns:
    """Whether a slot lies between a start and an end of `edges_of`."""
    if not edges:
        return lambda _slot: False
    if len(edges) == 2:
        first, end = edges
        return lambda slot: first <= slot < end
    return lambda slot: bisect_right(edges, slot) & 1 == 1
