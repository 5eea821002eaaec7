"""Events of a unit that were logged under another of its ids, with this one linked."""

import json

import ibis
import pyarrow as pa
from ibis import ir

from shared.lake.layout import unit_key


def by_unit(events: ir.Table, unit_type: str, columns: tuple[str, ...]) -> ir.Table:
    """The given columns and `unit_key` of all events of units of this type.

    An event belongs to its primary unit when that is of the type, otherwise to its first linked
    unit that is; without either it is left out. The keys of linked units are computed here and
    not by the engine, because no two engines cut a digest into an integer in the same way.
    """
    wanted = ("unit_key", *columns)
    direct = events.filter(events.unit_type == unit_type).select(*wanted)
    elsewhere = events.filter(
        events.unit_type != unit_type, events.linked_units.contains(json.dumps(unit_type))
    )
    texts = elsewhere.select("linked_units").distinct().to_pyarrow()["linked_units"].to_pylist()
    keys = {text: key for text in texts if (key := _linked_key(text, unit_type)) is not None}
    if not keys:
        return direct
    linked = ibis.memtable(
        pa.table({"linked_units": list(keys), "linked_key": pa.array(keys.values(), pa.int64())})
    )
    found = elsewhere.join(linked, "linked_units").select("linked_key", *columns)
    return direct.union(found.rename(unit_key="linked_key"))


def _linked_key(text: str, unit_type: str) -> int | None:
    ids = (unit["id"] for unit in json.loads(text) if unit["type"] == unit_type)
    found = next(ids, None)
    return None if found is None else unit_key(unit_type, found)
