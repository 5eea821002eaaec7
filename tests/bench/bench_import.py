"""Files of events to the bytes of requests, beside reading alone and beside messages one by one.

Seconds are those of the processor, of all threads together: the rates are those of one core, also
while other programs run.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.json as pc_json
import pyarrow.parquet as pq
from touchstone.events.v1.events_service_pb2 import LogEventsRequest

from services.cli.importing.bulk.encoding import MAX_EVENTS, EventEncoder
from services.cli.importing.bulk.fields import kind_of
from services.cli.importing.bulk.importing import EventImport, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.bulk.parts import Parts
from tests.bench.report import BenchRow, compared

EVENTS = 300_000
REPEATS = 3
GOAL_PER_CORE = 500_000
NAMES = (
    *("event_id", "event_time", "unit_type", "unit_id", "source"),
    *("event_name", "value", "currency"),
)


def run() -> list[BenchRow]:
    """Events a second and core, by format and with properties."""
    rows: list[BenchRow] = []
    with tempfile.TemporaryDirectory() as folder:
        plain = _files(Path(folder), share_of_properties=0)
        for name, path in plain.items():
            rows += _of_format(name, path)
        rich = Path(folder) / "properties"
        rich.mkdir()
        path = _files(rich, share_of_properties=1)["CSV"]
        rows.append(_beside_messages("CSV, all with properties", path, goal=">= 2"))
    return rows


def _of_format(name: str, path: Path) -> list[BenchRow]:
    ours = _rate(lambda: _encode(path))
    return [
        compared(
            "import",
            f"{name} to requests, a core",
            ours=ours,
            reference=GOAL_PER_CORE,
            reference_name="the goal",
            unit="events/s",
            goal=">= 1",
        ),
        compared(
            "import",
            f"{name} to requests, a core",
            ours=ours,
            reference=_rate(lambda: _READERS[name](path)),
            reference_name="PyArrow reading alone",
            unit="events/s",
            goal="",
        ),
        _beside_messages(name, path, goal=">= 2"),
    ]


def _beside_messages(name: str, path: Path, goal: str) -> BenchRow:
    by_hand = _rate(lambda: _messages(path), repeats=1)
    assert _sorted(_bodies(path)) == _sorted(_message_bodies(path)), "not the same events"
    return compared(
        "import",
        f"{name} to requests, a core",
        ours=_rate(lambda: _encode(path)),
        reference=by_hand,
        reference_name="messages built one by one",
        unit="events/s",
        goal=goal,
    )


def _encode(path: Path) -> int:
    return sum(len(body) > 0 for body in _bodies(path))


def _bodies(path: Path) -> Iterator[bytes]:
    kind = kind_of("conversions")
    wanted = EventImport(
        (str(path),), None, EventMapping(kind, InstantRules()), "", 0, path.parent / "rejected"
    )
    parts = Parts(plan(wanted), EventEncoder(kind))
    for part in parts:
        assert not part.bad, part.bad
        yield part.body
    assert parts.problem is None


def _messages(path: Path) -> int:
    return sum(len(body) > 0 for body in _message_bodies(path))


def _message_bodies(path: Path) -> Iterator[bytes]:
    """What a careful program in Python does: the fastest reader it has, a message a row."""
    request = LogEventsRequest()
    for row in _rows(path):
        event = request.events.add(event_id=row["event_id"], source=row["source"])
        event.event_time.FromDatetime(row["event_time"])
        event.unit.type, event.unit.id = row["unit_type"], row["unit_id"]
        event.conversion.event_name = row["event_name"]
        event.conversion.value = float(row["value"])
        event.conversion.currency = row["currency"]
        if row.get("properties"):
            event.properties.update(json.loads(row["properties"]))
        if len(request.events) == MAX_EVENTS:
            yield request.SerializeToString()
            request = LogEventsRequest()
    if request.events:
        yield request.SerializeToString()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
        return
    with path.open(newline="") as file:
        rows = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
        for row in rows:
            row["event_time"] = dt.datetime.fromisoformat(row["event_time"])
            yield row


def _sorted(requests: Iterator[bytes]) -> list[bytes]:
    """Every event in one spelling."""
    return [
        event.SerializeToString(deterministic=True)
        for body in requests
        for event in LogEventsRequest.FromString(body).events
    ]


def _read_csv(path: Path) -> int:
    types = dict.fromkeys(NAMES, pa.binary())
    options = pc_csv.ReadOptions(use_threads=False)
    convert = pc_csv.ConvertOptions(column_types=types)
    with pc_csv.open_csv(path, read_options=options, convert_options=convert) as reader:
        return sum(batch.num_rows for batch in reader)


def _read_json(path: Path) -> int:
    return int(pc_json.read_json(path, pc_json.ReadOptions(use_threads=False)).num_rows)


def _read_parquet(path: Path) -> int:
    return sum(b.num_rows for b in pq.ParquetFile(path).iter_batches(use_threads=False))


_READERS: dict[str, Callable[[Path], int]] = {
    "CSV": _read_csv,
    "NDJSON": _read_json,
    "Parquet": _read_parquet,
}


def _rate(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The best of some runs, in events a second of the processor."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return EVENTS / min(seconds)


def _files(folder: Path, share_of_properties: int) -> dict[str, Path]:
    """The same events in each format."""
    start = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    rows = []
    for n in range(EVENTS):
        row: dict[str, object] = {
            "event_id": f"0198c1f0-7e2a-7000-8000-{n:012d}",
            "event_time": start + dt.timedelta(milliseconds=n),
            "unit_type": "user",
            "unit_id": f"customer-{n * 7919 % 100_003}",
            "source": "warehouse",
            "event_name": "purchase",
            "value": round(n * 0.07, 2),
            "currency": "EUR",
        }
        if share_of_properties:
            row["properties"] = json.dumps({"plan": "gold", "items": n % 9, "order": f"o{n}"})
        rows.append(row)
    paths = {name: folder / f"rows.{name.lower()}" for name in ("CSV", "NDJSON", "Parquet")}
    pq.write_table(pa.Table.from_pylist(rows), paths["Parquet"])
    for row in rows:
        row["event_time"] = str(row["event_time"]).replace("+00:00", "Z")
    with paths["CSV"].open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with paths["NDJSON"].open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return paths
