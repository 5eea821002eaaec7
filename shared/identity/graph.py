"""Fold the edge log into identities: components of the links that count, none above a limit.

* A link counts unless a later unlink of the same two units took it back, one of the units is a
  placeholder, or it was refused.
* Links are judged in log order. One that would put more units of a type into an identity than the
  limit of the type allows is refused, and stays refused until the log or the policy changes.
* An unlink takes part by what it takes back: the log is judged as if those links had never been.

A component that is within the limits with all its links needs no order: only the others are
walked link by link (Tarjan 1975, union by size with path halving).
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
States = NDArray[np.int8]

NO_TYPE = -1


class EdgeState(enum.IntEnum):
    """What became of an entry of the edge log."""

    ACTIVE = 1
    UNLINKED = 2
    REFUSED_LIMIT = 3
    REFUSED_BLOCKED_ID = 4
    REFUSED_SAME_UNIT = 5
    UNLINK = 6


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The edge log in columns, in log order.

    Entry i links units `first[i]` and `second[i]`, or takes earlier links back where `unlinks[i]`.
    Units are numbered from 0 in the order in which the log first names them. `times_us` are event
    times in microseconds since 1970 UTC.
    """

    first: Integers
    second: Integers
    times_us: Integers
    unlinks: Flags

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of a log: the number of each one's type, and whether its id is a placeholder.

    `limits` and `ranks` have one entry a type.
    """

    types: Integers
    blocked: Flags
    limits: Integers
    ranks: Integers

    def __len__(self) -> int:
        return len(self.types)


@dataclass(frozen=True, slots=True, eq=False)
class Identities:
    """What a log and a policy say. Units with one `canonical` unit are one identity.

    `states` has one entry an entry of the log, and so has `full_types`: the type whose limit
    refused a link, otherwise NO_TYPE.
    """

    edges: Edges
    units: Units
    states: States
    full_types: Integers
    canonical: Integers
    _order: dict[str, Integers] = field(default_factory=dict)

    @property
    def counting(self) -> Integers:
        """The rows of the links that count, ascending."""
        return np.flatnonzero(self.states == EdgeState.ACTIVE)

    def members(self, unit: int) -> Integers:
        """The units of one identity, ascending: in the order in which the log first named them."""
        if "sorted" not in self._order:
            self._order["sorted"] = np.argsort(self.canonical, kind="stable")
        order, owner = self._order["sorted"], self.canonical[unit]
        begin, end = np.searchsorted(self.canonical, [owner, owner + 1], sorter=order)
        return order[begin:end]

    def as_of(self, time_us: int) -> "Identities":
        """The identities by the links that count and happened up to a time.

        Which links count is not judged anew: it is decided once, in log order.
        """
        rows = self.counting
        rows = rows[self.edges.times_us[rows] <= time_us]
        canonical = _canonical(self.units, _components(self.units, self.edges, rows))
        return Identities(self.edges, self.units, self.states, self.full_types, canonical)


def fold(edges: Edges, units: Units) -> Identities:
    """Judge every entry of a log and join what is linked."""
    states = _states(edges, units)
    full_types = np.full(len(edges), NO_TYPE, dtype=np.int64)
    rows = np.flatnonzero(states == EdgeState.ACTIVE)
    labels = _components(units, edges, rows)
    crowded = _crowded(units, labels)
    if crowded.any():
        doubtful = rows[crowded[labels[edges.first[rows]]]]
        full_types[doubtful] = _walk(edges, units, doubtful)
        states[full_types != NO_TYPE] = EdgeState.REFUSED_LIMIT
        labels = _components(units, edges, np.flatnonzero(states == EdgeState.ACTIVE))
    return Identities(edges, units, states, full_types, _canonical(units, labels))


def _states(edges: Edges, units: Units) -> States:
    states = np.full(len(edges), EdgeState.ACTIVE, dtype=np.int8)
    states[units.blocked[edges.first] | units.blocked[edges.second]] = EdgeState.REFUSED_BLOCKED_ID
    states[edges.first == edges.second] = EdgeState.REFUSED_SAME_UNIT
    _take_back(edges, len(units), states)
    states[edges.unlinks] = EdgeState.UNLINK
    return states


def _take_back(edges: Edges, units: int, states: States) -> None:
    """Mark the links that a later unlink of the same two units took back."""
    unlinks = np.flatnonzero(edges.unlinks)[::-1]
    if not len(unlinks):
        return
    low, high = np.minimum(edges.first, edges.second), np.maximum(edges.first, edges.second)
    pairs = low * units + high
    # Newest first, so that the first one found of each pair is its last unlink.
    unlinked, newest = np.unique(pairs[unlinks], return_index=True)
    places = np.searchsorted(unlinked, pairs)
    places[places == len(unlinked)] = 0
    later = unlinks[newest][places] > np.arange(len(edges))
    states[(unlinked[places] == pairs) & later] = EdgeState.UNLINKED


def _components(units: Units, edges: Edges, rows: Integers) -> Integers:
    """The component of each unit under these links."""
    size = len(units)
    if not len(rows):
        return np.arange(size, dtype=np.int64)
    ends = (edges.first[rows], edges.second[rows])
    # Repeated links are added up: in 32 bits the sum of a log that fits into memory is not 0.
    links = sparse.coo_matrix((np.ones(len(rows), dtype=np.int32), ends), shape=(size, size))
    _, labels = csgraph.connected_components(links, directed=False)
    numbered: Integers = labels.astype(np.int64)
    return numbered


def _crowded(units: Units, labels: Integers) -> Flags:
    """Whether each component holds more units of a type than its limit."""
    types = len(units.limits)
    found, counts = np.unique(labels * types + units.types, return_counts=True)
    crowded: Flags = np.zeros(len(units), dtype=np.bool_)
    crowded[found[counts > units.limits[found % types]] // types] = True
    return crowded


def _canonical(units: Units, labels: Integers) -> Integers:
    """For each unit the one that stands for its component: highest rank, then first seen."""
    size = len(units)
    if not size:
        return np.zeros(0, dtype=np.int64)
    keys = (units.ranks.max() - units.ranks[units.types]) * size + np.arange(size)
    best = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(best, labels, keys)
    standing: Integers = best[labels] % size
    return standing


def _walk(edges: Edges, units: Units, rows: Integers) -> list[int]:
    """Join link by link; for each row the type whose limit refused it, or NO_TYPE."""
    limits: Sequence[int] = units.limits.tolist()
    firsts, seconds = edges.first[rows].tolist(), edges.second[rows].tolist()
    types: Sequence[int] = units.types.tolist()
    parents: dict[int, int] = {}
    held: dict[int, dict[int, int]] = {}

    def root(unit: int) -> int:
        if unit not in parents:
            parents[unit], held[unit] = unit, {types[unit]: 1}
            return unit
        while parents[unit] != unit:
            parents[unit] = parents[parents[unit]]
            unit = parents[unit]
        return unit

    refusals: list[int] = []
    for first, second in zip(firsts, seconds, strict=True):
        small, large = root(first), root(second)
        full = NO_TYPE
        if small != large:
            if len(held[small]) > len(held[large]):
                small, large = large, small
            full = _first_full(held[small], held[large], limits)
            if full == NO_TYPE:
                parents[small] = large
                for id_type, count in held.pop(small).items():
                    held[large][id_type] = held[large].get(id_type, 0) + count
        refusals.append(full)
    return refusals


def _first_full(one: dict[int, int], other: dict[int, int], limits: Sequence[int]) -> int:
    """The lowest type of which both together hold too many, or NO_TYPE."""
    full = [t for t, count in one.items() if count + other.get(t, 0) > limits[t]]
    return min(full, default=NO_TYPE)
