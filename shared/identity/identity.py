"""The identities of a project: one cut of the edge log under one version of the policy."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from shared.identity.belonging import Belonging, Stitching, belonging
from shared.identity.few import Few
from shared.identity.graph import Identities, Integers, fold
from shared.identity.log import EdgeLog, UnitId, empty_log
from shared.identity.policy import StoredPolicy
from shared.lake.layout import unit_key

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_INSTANT = pa.timestamp("us", tz="UTC")
MOST_TYPES = 4
"""For how many types the owners are kept: a project seldom asks about more than one or two."""


@dataclass(frozen=True, slots=True)
class Member:
    """A unit of an identity; `first_seen` is the event time of its first entry, if it has one."""

    unit: UnitId
    first_seen: dt.datetime | None


@dataclass(frozen=True, slots=True)
class ResolvedIdentity:
    """The unit that stands for all, and all of them in the order of their first entries."""

    canonical: UnitId
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of owners: units of other types, or those of the same that stand behind another;
    the owners as ids, or as the keys that the event tables join by.
    """

    same_type: bool = False
    as_key: bool = False


class Identity:
    """See the module. Safe to use from several threads; what is derived is computed once."""

    def __init__(self, log: EdgeLog, stored: StoredPolicy) -> None:
        self.log = log
        self.stored = stored
        self.graph: Identities = fold(log.edges, log.units(stored.policy))
        self._belonging: Few[tuple[str, Stitching], Belonging] = Few(MOST_TYPES)
        self._tables: Few[tuple[str, Stitching, Wanted], pa.Table] = Few(2 * MOST_TYPES)
        self._first_seen: Few[None, Integers] = Few(1)

    @property
    def version(self) -> str:
        """Names the policy and the links; equal texts are equal identities. Empty without links."""
        if not len(self.log):
            return ""
        return f"p{self.stored.version}-e{self.log.position}-{self.log.digest:016x}"

    def resolve(
        self, units: Sequence[UnitId], as_of_us: int | None = None
    ) -> list[ResolvedIdentity]:
        """The identity of each unit, by the links up to a time. An unknown unit is its own."""
        graph = self.graph if as_of_us is None else self.graph.as_of(as_of_us)
        codes = self.log.codes(units)
        return [self._resolved(graph, unit, codes.get(unit)) for unit in units]

    def entries(self, unit: UnitId, after: int = -1) -> list[int]:
        """The rows of the log that name a unit, ascending, behind a row."""
        code = self.log.codes([unit]).get(unit)
        if code is None:
            return []
        edges = self.log.edges
        rows = np.flatnonzero((edges.first == code) | (edges.second == code))
        found: list[int] = rows[rows > after].tolist()
        return found

    def owners(self, id_type: str, stitching: Stitching) -> Belonging:
        """See `belonging`; no rows where no unit of the type was ever linked."""
        names = self.log.type_names
        number = names.index(id_type) if id_type in names else len(names)
        make = partial(belonging, self.graph, number, stitching)
        return self._belonging.of((id_type, stitching), make)

    def table(self, id_type: str, stitching: Stitching, wanted: Wanted) -> pa.Table:
        """The owners of a type as rows for a query.

        Columns: unit_type, unit_id, owner (an id, or a unit_key), several, from_time, until_time.
        """
        make = partial(self._table, self.owners(id_type, stitching), id_type, wanted)
        return self._tables.of((id_type, stitching, wanted), make)

    def _table(self, rows: Belonging, id_type: str, wanted: Wanted) -> pa.Table:
        types, names = self.graph.units.types, self.log.type_names
        same = types[rows.units] == types[rows.owners]
        standing = same & (rows.units != rows.owners) if wanted.same_type else ~same
        chosen = np.flatnonzero(standing)
        units, owners = rows.units[chosen], rows.owners[chosen]
        type_codes = pa.array(types[units].astype(np.int32))
        of_types = pa.DictionaryArray.from_arrays(type_codes, pa.array(names, pa.string()))
        return pa.table(
            {
                "unit_type": of_types.cast(pa.string()),
                "unit_id": self.log.unit_ids.take(pa.array(units)).cast(pa.string()),
                "owner": self._owners(owners, id_type, wanted.as_key),
                "several": pa.array(rows.several[chosen]),
                "from_time": _times(rows.from_us[chosen]),
                "until_time": _times(rows.until_us[chosen]),
            }
        )

    def _owners(self, owners: Integers, id_type: str, as_key: bool) -> pa.Array:
        distinct, places = np.unique(owners, return_inverse=True)
        ids = self.log.unit_ids.take(pa.array(distinct)).cast(pa.string())
        if as_key:
            ids = pa.array([unit_key(id_type, one) for one in ids.to_pylist()], pa.int64())
        return ids.take(pa.array(places))

    def _resolved(self, graph: Identities, unit: UnitId, code: int | None) -> ResolvedIdentity:
        if code is None:
            return ResolvedIdentity(unit, (Member(unit, None),))
        members = tuple(
            Member(self.log.unit(member), self._seen(member))
            for member in graph.members(code).tolist()
        )
        return ResolvedIdentity(self.log.unit(int(graph.canonical[code])), members)

    def _seen(self, code: int) -> dt.datetime:
        first = self._first_seen.of(None, partial(_first_entries, self.log))
        return instant(int(self.log.edges.times_us[first[code]]))


def instant(time_us: int) -> dt.datetime:
    """A time in microseconds since 1970 UTC."""
    return _EPOCH + dt.timedelta(microseconds=time_us)


def no_identity() -> Identity:
    """That of a project without links."""
    return Identity(empty_log(), StoredPolicy())


def _first_entries(log: EdgeLog) -> Integers:
    """The first row that names each unit."""
    rows = np.arange(len(log), dtype=np.int64)
    first = np.full(len(log.types), len(log), dtype=np.int64)
    np.minimum.at(first, log.edges.first, rows)
    np.minimum.at(first, log.edges.second, rows)
    return first


def _times(microseconds: Integers) -> pa.Array:
    return pa.array(microseconds).cast(_INSTANT)
