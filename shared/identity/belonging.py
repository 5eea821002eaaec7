"""To which unit of one type the events of other units belong, and from when on."""

import enum
from dataclasses import dataclass, field

import numpy as np

from shared.identity.graph import Flags, Identities, Integers

ALWAYS_US = -(2**62)
FOREVER_US = 2**62
NOBODY = -1

Answer = tuple[int, bool]


class Stitching(enum.Enum):
    """From when on a link counts: for events of any time, or for those from its event time on."""

    RETROACTIVE = "retroactive"
    POINT_IN_TIME = "point in time"


@dataclass(frozen=True, slots=True, eq=False)
class Belonging:
    """Rows in columns: from `from_us` on and before `until_us` the events of `units` belong to
    `owners`, the first seen of the wanted type; `several` where the identity held more of that
    type. Rows ascend by unit, then time, and those of one unit do not overlap. Units of which no
    time has an owner have no row.
    """

    units: Integers
    owners: Integers
    several: Flags
    from_us: Integers
    until_us: Integers

    def __len__(self) -> int:
        return len(self.units)


def belonging(identities: Identities, id_type: int, stitching: Stitching) -> Belonging:
    """The owners of a type. A unit of the type itself belongs to the first seen of its identity."""
    if stitching is Stitching.POINT_IN_TIME:
        return _in_time(identities, id_type)
    count, first = _held(identities, id_type)
    units = np.flatnonzero(count[identities.canonical] > 0)
    standing = identities.canonical[units]
    always = np.full(len(units), ALWAYS_US)
    forever = np.full(len(units), FOREVER_US)
    return Belonging(units, first[standing], count[standing] > 1, always, forever)


def _held(identities: Identities, id_type: int) -> tuple[Integers, Integers]:
    """How many units of a type each identity holds and which is the first, by canonical unit."""
    size = len(identities.canonical)
    of_type = np.flatnonzero(identities.units.types == id_type)
    owners = identities.canonical[of_type]
    first = np.full(size, size, dtype=np.int64)
    np.minimum.at(first, owners, of_type)
    return np.bincount(owners, minlength=size).astype(np.int64), first


def _in_time(identities: Identities, id_type: int) -> Belonging:
    count, first = _held(identities, id_type)
    held = count[identities.canonical]
    single = _with_one_owner(identities, first, held == 1)
    if not (held > 1).any():
        return single
    several = _with_owners(identities, id_type, held > 1)
    units = np.concatenate([single.units, several.units])
    from_us = np.concatenate([single.from_us, several.from_us])
    order = np.lexsort((from_us, units))
    return Belonging(
        units[order],
        np.concatenate([single.owners, several.owners])[order],
        np.concatenate([single.several, several.several])[order],
        from_us[order],
        np.concatenate([single.until_us, several.until_us])[order],
    )


def _with_one_owner(identities: Identities, first: Integers, wanted: Flags) -> Belonging:
    """Of identities with one unit of the type: from when on each unit was linked to it.

    That is the least, over all paths to it, of the latest link of the path: found by letting
    earlier times spread along the links until none gets earlier.
    """
    edges, rows = identities.edges, identities.counting
    rows = rows[wanted[edges.first[rows]]]
    begin = np.concatenate([edges.first[rows], edges.second[rows]])
    end = np.concatenate([edges.second[rows], edges.first[rows]])
    times = np.concatenate([edges.times_us[rows]] * 2)
    units = np.flatnonzero(wanted)
    owners = first[identities.canonical[units]]
    since = np.full(len(wanted), FOREVER_US)
    since[owners] = ALWAYS_US
    fresh = np.zeros(len(wanted), dtype=np.bool_)
    fresh[owners] = True
    while fresh.any():
        spreading = np.flatnonzero(fresh[begin])
        reached = np.maximum(since[begin[spreading]], times[spreading])
        earlier = reached < since[end[spreading]]
        fresh[:] = False
        fresh[end[spreading[earlier]]] = True
        np.minimum.at(since, end[spreading[earlier]], reached[earlier])
    never = np.zeros(len(units), dtype=np.bool_)
    return Belonging(units, owners, never, since[units], np.full(len(units), FOREVER_US))


def _with_owners(identities: Identities, id_type: int, wanted: Flags) -> Belonging:
    """Of identities with more units of the type: link by link, in the order of time."""
    edges, rows = identities.edges, identities.counting
    rows = rows[wanted[edges.first[rows]]]
    rows = rows[np.argsort(edges.times_us[rows], kind="stable")]
    units = np.flatnonzero(wanted)
    of_type = identities.units.types[units] == id_type
    history = _History()
    history.start(units.tolist(), of_type.tolist())
    ends = (edges.first[rows].tolist(), edges.second[rows].tolist(), edges.times_us[rows].tolist())
    for one, other, time_us in zip(*ends, strict=True):
        history.join(one, other, time_us)
    return history.finish()


@dataclass(slots=True)
class _History:
    """Components as links join them in time, and the owner that each unit had meanwhile.

    A unit is written down only when its owner changes, so the cost is that of union-find and of
    the rows that come out.
    """

    parents: dict[int, int] = field(default_factory=dict)
    members: dict[int, list[int]] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    rows: list[tuple[int, int, bool, int, int]] = field(default_factory=list)

    def start(self, units: list[int], of_type: list[bool]) -> None:
        """Every unit alone."""
        for unit, owns_itself in zip(units, of_type, strict=True):
            self.parents[unit], self.members[unit] = unit, [unit]
            self.answers[unit] = (unit if owns_itself else NOBODY, False)
            self.since[unit] = ALWAYS_US

    def join(self, first: int, second: int, time_us: int) -> None:
        """A link that counts from a time on; times ascend."""
        small, large = self._root(first), self._root(second)
        if small == large:
            return
        if len(self.members[small]) > len(self.members[large]):
            small, large = large, small
        answer = _together(self.answers[small], self.answers[large])
        for part in (small, large):
            if self.answers[part] != answer:
                self._write(part, time_us)
        self.parents[small] = large
        self.members[large] += self.members.pop(small)
        self.answers[large] = answer

    def finish(self) -> Belonging:
        """All that was written down."""
        for part in self.members:
            self._write(part, FOREVER_US)
        table = np.array(self.rows, dtype=np.int64).reshape(-1, 5)
        units, owners, several, from_us, until_us = table.T
        return Belonging(units, owners, several.astype(np.bool_), from_us, until_us)

    def _write(self, part: int, time_us: int) -> None:
        owner, several = self.answers[part]
        for unit in self.members[part]:
            if owner != NOBODY and self.since[unit] < time_us:
                self.rows.append((unit, owner, several, self.since[unit], time_us))
            self.since[unit] = time_us

    def _root(self, unit: int) -> int:
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit


def _together(one: Answer, other: Answer) -> Answer:
    owners = [owner for owner, _ in (one, other) if owner != NOBODY]
    if not owners:
        return (NOBODY, False)
    return (min(owners), one[1] or other[1] or len(owners) > 1)
