"""The bytes that an import sends mean the same as messages that are built one by one."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from touchstone.events.v1.event_pb2 import (
    IDENTIFY_ACTION_LINK,
    IDENTIFY_ACTION_UNLINK,
    Event,
)
from touchstone.events.v1.events_service_pb2 import LogEventsRequest

from services.cli.commands.import_events import EventKind
from services.cli.importing.bulk.encoding import (
    MAX_BODY_BYTES,
    MAX_EVENTS,
    EventEncoder,
    bodies,
)
from services.cli.importing.bulk.fields import SERVICE_COLUMNS, Form, Kind, kind_of
from services.cli.importing.bulk.importing import EventImport, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.bulk.parts import Part, Parts
from shared.lake.layout import TABLES

Row = Mapping[str, Any]
KINDS = tuple(TABLES)
TYPES = {
    Form.TEXT: pa.string(),
    Form.NUMBER: pa.float64(),
    Form.INTEGER: pa.int64(),
    Form.INSTANT: pa.timestamp("us", tz="UTC"),
    Form.ACTION: pa.string(),
    Form.UNITS: pa.string(),
    Form.OBJECT: pa.string(),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ids = st.text(string.ascii_letters + string.digits + "-üß東😀", min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
instants = st.integers(0, 7_000_000_000_000_000).map(
    lambda us: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
CELLS: Mapping[Form, st.SearchStrategy[Any]] = {
    Form.TEXT: texts,
    Form.NUMBER: numbers,
    Form.INTEGER: st.integers(0, 2**63 - 1),
    Form.INSTANT: instants,
    Form.ACTION: st.sampled_from(["link", "unlink"]),
    Form.UNITS: st.lists(st.fixed_dictionaries({"type": ids, "id": ids}), min_size=1, max_size=3),
    Form.OBJECT: st.dictionaries(texts, json_values, max_size=3),
}


def rows_of(kind: Kind) -> st.SearchStrategy[list[Row]]:
    cells = {
        field.name: CELLS[field.form]
        if field.required or field.name == "event_id"
        else st.none() | CELLS[field.form]
        for field in kind.fields
    }
    return st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=12)


def message(kind: Kind, row: Row) -> Event:
    """The event of a row, field by field, by the contract."""
    event = Event(event_id=row["event_id"], source=row["source"] or "")
    event.event_time.FromDatetime(row["event_time"])
    event.unit.type, event.unit.id = row["unit_type"], row["unit_id"]
    for unit in row["linked_units"] or ():
        event.linked_units.add(**unit)
    if row["properties"] is not None:
        event.properties.SetInParent()
        event.properties.update(row["properties"])
    payload = getattr(event, kind.payload)
    payload.SetInParent()
    if kind.payload == "identify":
        payload.other_unit.type, payload.other_unit.id = (
            row["other_unit_type"],
            row["other_unit_id"],
        )
        codes = {"link": IDENTIFY_ACTION_LINK, "unlink": IDENTIFY_ACTION_UNLINK}
        payload.action = codes.get(row["action"], 0)
        return event
    for field in kind.fields:
        path, _, name = field.path.partition(".")
        if path == kind.payload and row[field.name] is not None:
            setattr(payload, name, row[field.name])
    return event


def cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    writer.writerows([cell_text(row[name]) for name in rows[0]] for row in rows)
    path.write_bytes(out.getvalue().encode())


def write_ndjson(path: Path, rows: Sequence[Row]) -> None:
    lines = []
    for row in rows:
        cells = {name: value for name, value in row.items() if value is not None}
        cells["event_time"] = cell_text(cells["event_time"])
        lines.append(json.dumps(cells) + "\n")
    path.write_text("".join(lines))


def write_parquet(path: Path, rows: Sequence[Row], kind: Kind) -> None:
    columns = {}
    for field in kind.fields:
        cells = [row[field.name] for row in rows]
        if field.form in (Form.UNITS, Form.OBJECT):
            cells = [None if cell is None else json.dumps(cell) for cell in cells]
        columns[field.name] = pa.array(cells, TYPES[field.form])
    pq.write_table(pa.table(columns), path)


def sent(file: Path, kind: Kind) -> tuple[list[Event], list[Part]]:
    """The events that an import of a file would send."""
    mapping = EventMapping(kind, InstantRules())
    wanted = EventImport((str(file),), None, mapping, "", 0, file.with_suffix(".rejected"))
    parts = Parts(plan(wanted), EventEncoder(kind))
    found = list(parts)
    assert parts.problem is None
    events = [e for part in found for e in LogEventsRequest.FromString(part.body).events]
    return events, found


@pytest.mark.parametrize("table", KINDS)
@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_bytes_mean_the_same_as_messages(table: str, ending: str, tmp_path: Path) -> None:
    kind = kind_of(table)

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(rows_of(kind))
    def check(rows: list[Row]) -> None:
        file = tmp_path / f"rows.{ending}"
        if ending == "parquet":
            write_parquet(file, rows, kind)
        else:
            (write_csv if ending == "csv" else write_ndjson)(file, rows)
        events, parts = sent(file, kind)
        assert [bad for part in parts for bad in part.bad] == []
        assert events == [message(kind, row) for row in rows]

    check()


def test_fields_are_the_columns_of_the_tables() -> None:
    """A column that a table gets is a field at once, and one that the contract has."""
    assert [kind.value for kind in EventKind] == list(TABLES)
    for table, layout in TABLES.items():
        kind = kind_of(table)
        names = {column.name for column in layout.columns}
        assert {field.name for field in kind.fields} == names - SERVICE_COLUMNS
        for field in kind.fields:
            found = Event.DESCRIPTOR
            *outer, last = field.path.split(".")
            for name in outer:
                found = found.fields_by_name[name].message_type or found
            assert last in found.fields_by_name, field.path
    assert kind_of("conversions").field("value").form is Form.NUMBER
    with pytest.raises(KeyError):
        kind_of("conversions").field("channel")


def test_requests_are_cut_by_count_and_by_bytes() -> None:
    """All events, in order, within both limits; a frame of every length."""
    sizes = [0, 1, 127, 128, 16_383, 16_384, 300_000, 2_097_150] + [20] * 12_000
    payloads = [
        Event(event_id="i", source="s" * size).SerializeToString() if size else b""
        for size in sizes
    ]
    found = list(bodies(pa.array(payloads, pa.binary()), None))
    events = []
    for body in found:
        request = LogEventsRequest.FromString(body.data)
        assert len(request.events) == body.stop - body.start <= MAX_EVENTS
        assert len(body.data) <= MAX_BODY_BYTES or len(request.events) == 1
        events += [event.SerializeToString() for event in request.events]
    assert events == payloads
    assert len(found) == 5


def test_ids_do_not_depend_on_batches(tmp_path: Path) -> None:
    """Rows without ids: the digest of the file, the kind and the row; a changed file is new."""
    header = "event_time,unit_type,unit_id,event_name\n"
    lines = [f"2026-03-02T13:43:00Z,user,u{n},visit\n" for n in range(90_000)]
    file = tmp_path / "rows.csv"
    file.write_text(header + "".join(lines))
    events, parts = sent(file, kind_of("conversions"))
    names = {event.event_id.rpartition(":")[0] for event in events}
    (name,) = names
    assert len(parts) > 15
    assert [event.event_id for event in events] == [f"{name}:{n + 1}" for n in range(90_000)]
    assert name.endswith(":conversions")
    pq_file = tmp_path / "rows.ndjson"
    pq_file.write_text(
        '{"event_time":"2026-03-02","unit_type":"user","unit_id":"a","event_name":"v"}'
    )
    (one,), _ = sent(pq_file, kind_of("conversions"))
    assert one.event_id.endswith(":conversions:1")
    assert one.event_id.rpartition(":")[0] != name
