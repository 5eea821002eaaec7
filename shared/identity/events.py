"""The events of units of one type, whatever id they were logged under.

An event belongs to

1. its own unit, when that is of the type;
2. otherwise to its first linked unit of the type: what the event itself says comes first;
3. otherwise to the unit of the type in the identity of its own unit, then of its linked units in
   their order: the first of these identities that holds one.

Linked units are links for their own event alone: they are no entries of the edge log.
"""

from dataclasses import dataclass

import ibis
import pyarrow as pa
from ibis import ir

from shared.identity.belonging import Stitching
from shared.identity.identity import Wanted
from shared.identity.linked import linked_units, owners_of_others
from shared.identity.ownership import Ownership


@dataclass(frozen=True, slots=True)
class OwnedEvents:
    """The rows whose unit is known, and how many events could be of several units."""

    rows: ir.Table
    ambiguous: int = 0


def owned_events(events: ir.Table, columns: tuple[str, ...], ownership: Ownership) -> OwnedEvents:
    """The given columns of all events of units of the type, and the column that names the unit.

    `event_time` is among the columns. Keys of units are computed here and not by the engine,
    because no two engines cut a digest into an integer in the same way.
    """
    kept = (ownership.column, *columns)
    own = events.unit_type == ownership.unit_type
    direct, elsewhere = events.filter(own).select(*kept), events.filter(~own)
    if len(ownership.identity.log):
        return _by_identity(direct, elsewhere, columns, ownership)
    named = linked_units(elsewhere, ownership).named
    if not named.num_rows:
        return OwnedEvents(direct)
    found = elsewhere.join(ibis.memtable(named), "linked_units").select("owner", *columns)
    return OwnedEvents(direct.union(found.rename({ownership.column: "owner"}).select(*kept)))


def _by_identity(
    direct: ir.Table, elsewhere: ir.Table, columns: tuple[str, ...], ownership: Ownership
) -> OwnedEvents:
    if not elsewhere.limit(1).count().to_pyarrow().as_py():
        return OwnedEvents(_merged(direct, ownership))
    found = _stored(_with_owner(elsewhere, ownership).select("owner", *columns))
    known = found.filter(found.owner.notnull()).rename({ownership.column: "owner"})
    ambiguous = found.owner.isnull().sum().to_pyarrow().as_py()
    rows = direct.union(known.select(*direct.columns))
    return OwnedEvents(_merged(rows, ownership), ambiguous or 0)


def _with_owner(elsewhere: ir.Table, ownership: Ownership) -> ir.Table:
    """Events of other units with their owner, null for those that could be of several."""
    said = linked_units(elsewhere, ownership)
    table = ownership.identity.table
    own = table(ownership.unit_type, ownership.stitching, Wanted(as_key=ownership.as_key))
    always = {"several": pa.repeat(pa.scalar(False), said.named.num_rows)}
    named = pa.table({**dict(zip(said.named.column_names, said.named, strict=True)), **always})
    others = owners_of_others(said.others, ownership)
    rows = _joined(elsewhere, named, "named", ("linked_units",))
    rows = _joined(rows, own, "own", ("unit_type", "unit_id"), ownership)
    rows = _joined(rows, others, "others", ("linked_units",), ownership)
    owner = ibis.coalesce(rows.named_owner, rows.own_owner, rows.others_owner)
    several = ibis.coalesce(rows.own_several, rows.others_several, ibis.literal(value=False))
    return rows.mutate(owner=owner).filter(owner.notnull() | several)


def _joined(
    rows: ir.Table,
    owners: pa.Table,
    prefix: str,
    on: tuple[str, ...],
    ownership: Ownership | None = None,
) -> ir.Table:
    """The rows with the owner that a table has for them, at their time where `ownership` is given.

    The owner is null where the table has none, and where it has several that stay apart.
    """
    table = ibis.memtable(owners.rename_columns([f"{prefix}_{n}" for n in owners.column_names]))
    match = [rows[name] == table[f"{prefix}_{name}"] for name in on]
    if ownership is not None and not ownership.merged:
        owner = table[f"{prefix}_owner"]
        alone = table[f"{prefix}_several"].ifelse(ibis.null(owner.type()), owner)
        table = table.mutate({f"{prefix}_owner": alone})
        match = [rows[name] == table[f"{prefix}_{name}"] for name in on]
    if ownership is not None and ownership.stitching is Stitching.POINT_IN_TIME:
        match.append(rows.event_time >= table[f"{prefix}_from_time"])
        match.append(rows.event_time < table[f"{prefix}_until_time"])
    return rows.left_join(table, match)


def _merged(rows: ir.Table, ownership: Ownership) -> ir.Table:
    """The rows with each unit replaced by the one that its identity counts as."""
    if not ownership.merged:
        return rows
    wanted = Wanted(same_type=True)
    behind = ownership.identity.table(ownership.unit_type, ownership.stitching, wanted)
    if not behind.num_rows:
        return rows
    found = _joined(rows, behind, "first", ("unit_id",), ownership)
    found = found.mutate(unit_id=ibis.coalesce(found.first_owner, found.unit_id))
    return found.select(*rows.columns)


def _stored(expression: ir.Table) -> ir.Table:
    """Computed once for several questions; it goes when the snapshot is closed."""
    name = ibis.util.gen_name("owned")
    return expression.get_backend().create_table(name, expression, temp=True)
