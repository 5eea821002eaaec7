"""Build event rows from Python values: for small writers and for tests, not for the ingest path."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from shared.lake.layout import TABLES, unit_key


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of one table, with every column that can be derived filled in.

    A row needs event_id, project, event_time, unit_id and the required columns of its own kind.
    Given defaults: unit_type "user", receive_time = event_time, position 1, digest 0, null
    otherwise. `properties` and `linked_units` may be given as Python values.
    """
    schema = TABLES[name].schema
    return pa.Table.from_pylist([_complete(row) for row in rows], schema=schema)


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    time: datetime = row["event_time"]
    unit_type = row.get("unit_type", "user")
    derived = {
        "day": time.astimezone(UTC).date(),
        "receive_time": time,
        "unit_type": unit_type,
        "unit_key": unit_key(unit_type, row["unit_id"]),
        "position": 1,
        "content_digest": 0,
    }
    given = {
        key: json.dumps(value) if isinstance(value, (dict, list)) else value
        for key, value in row.items()
    }
    return derived | given
