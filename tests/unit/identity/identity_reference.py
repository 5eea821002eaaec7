"""Identities computed the slow and plain way: sets of units, one link at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.identity.graph import NO_TYPE, Edges, EdgeState, Units


@dataclass(frozen=True)
class Entry:
    first: int
    second: int
    time_us: int = 0
    unlink: bool = False

    @property
    def pair(self) -> frozenset[int]:
        return frozenset((self.first, self.second))


def columns(entries: Sequence[Entry]) -> Edges:
    """The entries as the fold takes them."""
    return Edges(
        np.array([e.first for e in entries], dtype=np.int64),
        np.array([e.second for e in entries], dtype=np.int64),
        np.array([e.time_us for e in entries], dtype=np.int64),
        np.array([e.unlink for e in entries], dtype=np.bool_),
    )


@dataclass(frozen=True)
class Slow:
    """What the reference found."""

    states: list[EdgeState]
    full_types: list[int]
    parts: set[frozenset[int]]


def slow_fold(entries: Sequence[Entry], units: Units) -> Slow:
    parts = {frozenset([unit]) for unit in range(len(units))}
    states, full_types = [], []
    for place, entry in enumerate(entries):
        state, full = judge(entries, place, parts, units)
        states.append(state)
        full_types.append(full)
        if state is EdgeState.ACTIVE:
            one, other = part_of(parts, entry.first), part_of(parts, entry.second)
            parts = (parts - {one, other}) | {one | other}
    return Slow(states, full_types, parts)


def judge(
    entries: Sequence[Entry], place: int, parts: set[frozenset[int]], units: Units
) -> tuple[EdgeState, int]:
    entry = entries[place]
    if entry.unlink:
        return EdgeState.UNLINK, NO_TYPE
    if any(later.unlink and later.pair == entry.pair for later in entries[place + 1 :]):
        return EdgeState.UNLINKED, NO_TYPE
    if entry.first == entry.second:
        return EdgeState.REFUSED_SAME_UNIT, NO_TYPE
    if units.blocked[entry.first] or units.blocked[entry.second]:
        return EdgeState.REFUSED_BLOCKED_ID, NO_TYPE
    whole = part_of(parts, entry.first) | part_of(parts, entry.second)
    held = np.bincount(units.types[list(whole)], minlength=len(units.limits))
    # Types that only one of the two holds cannot be the cause.
    if part_of(parts, entry.first) != part_of(parts, entry.second):
        over = np.flatnonzero(held > units.limits)
        if len(over):
            return EdgeState.REFUSED_LIMIT, int(over[0])
    return EdgeState.ACTIVE, NO_TYPE


def part_of(parts: set[frozenset[int]], unit: int) -> frozenset[int]:
    return next(part for part in parts if unit in part)


def slow_owner(
    entries: Sequence[Entry], states: Sequence[EdgeState], units: Units, unit: int, time_us: int
) -> set[int]:
    """All units that the unit is linked to by then, itself among them."""
    reached, grown = {unit}, True
    while grown:
        grown = False
        for entry, state in zip(entries, states, strict=True):
            counts = state == EdgeState.ACTIVE and entry.time_us <= time_us
            if counts and len(entry.pair & reached) == 1:
                reached |= entry.pair
                grown = True
    return reached
