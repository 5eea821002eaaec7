"""The commands that read rows take lines of JSON like the other formats."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import LogEventsRequest

from services.cli.importing.bulk.encoding import EventEncoder
from services.cli.importing.bulk.fields import kind_of
from services.cli.importing.bulk.importing import EventImport, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import read_mapping
from services.cli.importing.bulk.parts import Parts
from services.cli.importing.journey_rows import JourneyMapping, JourneyRows
from services.cli.importing.sources import open_source
from shared.errors import DomainError

MAPPING = JourneyMapping(
    dataset="touches",
    unit="customer",
    unit_type="user",
    time="at",
    channel="channel",
    interaction="did",
    conversion_when="conversion",
    conversion=None,
    value="value",
    cost=None,
    event_name="order",
    currency="EUR",
    source="import",
)
ROWS: list[dict[str, object]] = [
    {"customer": "c1", "at": "2026-03-02T13:43:00Z", "channel": "Mail", "did": "click"},
    {
        "customer": "c2",
        "at": "2026-03-02T13:44:00Z",
        "channel": "Größe",
        "did": "conversion",
        "value": 2.5,
    },
]


def events_of(path: Path) -> list[Event]:
    source = open_source(path)
    rows = JourneyRows(MAPPING, source)
    return [event for row in source.rows() for event in rows.events(row)]


def test_journeys_are_the_same_in_every_format(tmp_path: Path) -> None:
    csv = tmp_path / "rows.csv"
    csv.write_text(
        "customer,at,channel,did,value\n"
        "c1,2026-03-02T13:43:00Z,Mail,click,\n"
        "c2,2026-03-02T13:44:00Z,Größe,conversion,2.5\n"
    )
    parquet = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"value": None, **row} for row in ROWS]), parquet)
    ndjson = tmp_path / "rows.ndjson"
    ndjson.write_text(
        '{"customer": "c1", "at": "2026-03-02T13:43:00Z", "channel": "Mail", "did": "click"}\n\n'
        '{"value": 2.5, "did": "conversion", "channel": "Größe", "at": "2026-03-02T13:44:00Z", '
        '"customer": "c2"}\n'
    )
    assert len(events_of(csv)) == 3
    assert events_of(csv) == events_of(parquet) == events_of(ndjson)


def test_lines_that_are_no_objects_are_problems_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n[1]\n{torn\n{"b": {"c": [null]}}\n\xff\n')
    source = open_source(path)
    assert source.columns == ("a", "b")
    rows = list(source.rows())
    assert [(row.number, row.line) for row in rows] == [(1, 1), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert [bool(row.problem) for row in rows] == [False, True, True, False, True]
    assert list(rows[0].cells) == [1, None]
    assert list(rows[3].cells) == [None, '{"c": [null]}']
    assert source.estimated_rows() == 5
    (tmp_path / "none.ndjson").write_text("\n")
    with pytest.raises(DomainError, match="no line of it is a JSON object"):
        open_source(tmp_path / "none.ndjson")


def sent(path: Path, text: str, *, constants: tuple[str, ...] = ()) -> list[str]:
    """The sources of the events that a file makes."""
    path.write_text(text)
    mapping = read_mapping(
        kind_of("conversions"), InstantRules(), (), constants, ignore_unknown=False
    )
    wanted = EventImport((str(path),), None, mapping, "", 0, Path("unused"))
    parts = Parts(plan(wanted), EventEncoder(mapping.kind))
    return [one.source for part in parts for one in LogEventsRequest.FromString(part.body).events]


HEADER = "event_id,event_time,unit_type,unit_id,event_name"
CELLS = "2026-03-02,user,u,buy"


def test_events_of_a_file_without_a_column_of_sources_are_from_import(tmp_path: Path) -> None:
    rows = f"{HEADER}\na,{CELLS}\nb,{CELLS}\n"
    assert sent(tmp_path / "x.csv", rows) == ["import", "import"]
    assert sent(tmp_path / "x.csv", rows, constants=("source=till",)) == ["till", "till"]
    lines = [
        dict(zip(HEADER.split(","), [name, *CELLS.split(",")], strict=True)) for name in ("a", "b")
    ]
    lines[1]["source"] = "till"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert sent(tmp_path / "x.ndjson", text) == ["", "till"]


def test_column_of_sources_is_taken_as_it_is(tmp_path: Path) -> None:
    """Files of the event tables stay the same events."""
    rows = f"{HEADER},source\na,{CELLS},\nb,{CELLS},till\n"
    assert sent(tmp_path / "x.csv", rows) == ["", "till"]
