"""What many stored events take, by hand and not in `make bench`:

    python -m tests.bench.stored EVENTS

The tables are written as the service leaves them after joining, without sending the events through
it; then a question is asked and the service is started on them. Writes build/stored.json.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.results.adapters.lake import LakeMoments
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import Arm, ExperimentPlan, Question
from shared.clock import SystemClock
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.layout import DATE, INSTANT, TABLES, TEXT
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.writer import LakeWriter
from shared.server.platform import open_platform
from shared.settings import Settings
from tests.bench.ingest_load import UNLIMITED
from tests.robustness.faults import PROJECT, EventsProcess, make_key

DAYS, UNITS, AT_ONCE = 14, 10_000_000, 1_000_000
START_S = 3_600.0
JOURNAL = "stored-by-measurement-0001"
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Units:
    """The units' ids and keys, computed once."""

    ids: pa.Array
    keys: np.ndarray

    @classmethod
    def make(cls, count: int) -> Units:
        """As many customers."""
        ids = [f"customer-{n:08d}" for n in range(count)]
        md5 = hashlib.md5
        digests = b"".join(md5(f"user:{name}".encode()).digest() for name in ids)
        return cls(pa.array(ids, TEXT), np.frombuffer(digests, "<i8")[1::2])


def rows(first: int, count: int, today: int, units: Units) -> Iterator[tuple[str, pa.Table]]:
    """`count` events of one day, a third of each kind."""
    day = today - DAYS + (first // AT_ONCE) % DAYS
    for place, table in enumerate(("exposures", "conversions", "touchpoints")):
        numbers = np.arange(first + place, first + count, 3)
        of = (numbers // 3) % len(units.ids)
        times = day * _DAY_US + (numbers - first) * (_DAY_US // (AT_ONCE + 1))
        columns: dict[str, pa.Array] = {
            "event_id": pa.array([f"event-{n:012d}" for n in numbers.tolist()], TEXT),
            "project": _same(PROJECT, len(numbers)),
            "day": pa.array(np.full(len(numbers), day, np.int32)).view(DATE),
            "event_time": pa.array(times).view(INSTANT),
            "receive_time": pa.array(times + 1_000_000).view(INSTANT),
            "unit_type": _same("user", len(numbers)),
            "unit_id": units.ids.take(pa.array(of)),
            "unit_key": pa.array(units.keys[of]),
            "source": _same("checkout", len(numbers)),
            "position": pa.array(np.full(len(numbers), first // AT_ONCE + 1)),
            "content_digest": pa.array((numbers * 0x1E3779B97F4A7C15) & ~0xF | 2),
            **_own(table, of),
        }
        yield table, _complete(table, columns, len(numbers))


def _own(table: str, of: np.ndarray) -> dict[str, pa.Array]:
    if table == "exposures":
        arms = pa.array(["control", "treatment"], TEXT).take(pa.array(of % 2))
        return {"experiment": _same("new-checkout", len(of)), "variant": arms}
    if table == "conversions":
        return {"event_name": _same("purchase", len(of)), "value": pa.array(5.0 + of % 40)}
    return {"channel": _same("email", len(of)), "interaction": _same("click", len(of))}


def _complete(table: str, columns: dict[str, pa.Array], count: int) -> pa.Table:
    schema = TABLES[table].schema
    arrays = [columns.get(f.name, pa.nulls(count, f.type)).cast(f.type) for f in schema]
    return pa.table(arrays, schema=schema)


def _same(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, TEXT), count)


def store(lake: Path, events: int) -> float:
    """Write the tables; the seconds that it took."""
    units = Units.make(min(UNITS, events // 3 + 1))
    writer = LakeWriter(lake, JOURNAL, SystemClock())
    today = int(time.time() // 86_400)
    start = time.monotonic()
    for first in range(0, events, AT_ONCE):
        count = min(AT_ONCE, events - first)
        writer.append(dict(rows(first, count, today, units)), first // AT_ONCE + 1)
        print(first + count, file=sys.stderr, flush=True)
    writer.close()
    return time.monotonic() - start


def question(lake: Path, data: Path) -> dict[str, object]:
    """Ask for two metrics of the experiment that every unit is in."""
    arms = (Arm("control", 1), Arm("treatment", 1))
    plan = ExperimentPlan("new-checkout", "user", arms, control="control", config_version=1)
    measures = (Measure(MetricKind.MEAN, "purchase"), Measure(MetricKind.PROPORTION, "purchase"))
    database = open_platform(Settings(data=data)).database
    migrate_identity(database)
    tables = LakeEventTables(lake, EngineLimits(threads=2, memory_limit_mb=6000))
    source = LakeMoments(tables, IdentityReader(SqlPolicySource(database)))
    start = time.monotonic()
    answer = source.observe(Question(PROJECT, plan, measures))
    seconds = round(time.monotonic() - start, 1)
    return {"question_s": seconds, "question_units": sum(answer.units)}


def restart(process: EventsProcess, key: str, events: int) -> dict[str, object]:
    """Start the service on the tables; an event that they hold has to be a duplicate."""
    start = time.monotonic()
    process.begin()
    process.wait_started(START_S)
    seconds = time.monotonic() - start
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    with grpc.insecure_channel(process.address) as channel:
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        event = event_pb2.Event(event_id=f"event-{events - 1:012d}", source="checkout")
        event.unit.type, event.unit.id = "user", "customer-0"
        event.event_time.FromSeconds(int(time.time()))
        event.conversion.event_name = "purchase"
        reply = stub.LogEvents(
            events_service_pb2.LogEventsRequest(events=[event]),
            metadata=(("authorization", f"Bearer {key}"),),
            timeout=60,
        )
    assert reply.accepted == 0, reply
    return {
        "restart_s": round(seconds, 1),
        "memory_mb": int(status[status.index("VmRSS:") + 1]) // 1024,
        "memory_peak_mb": int(status[status.index("VmHWM:") + 1]) // 1024,
    }


def measured(events: int) -> dict[str, object]:
    """Everything about this many events."""
    with tempfile.TemporaryDirectory(dir="build") as folder:
        process = EventsProcess(Path(folder) / "data", more=UNLIMITED)
        key = make_key(process.data)
        found: dict[str, object] = {"events": events}
        found["write_s"] = round(store(process.lake, events), 1)
        size = sum(file.stat().st_size for file in process.lake.rglob("*.parquet"))
        found["lake_bytes_per_event"] = round(size / events, 2)
        found |= question(process.lake, process.data)
        try:
            found |= restart(process, key, events)
        finally:
            process.terminate()
        found["measured"] = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
        return found


def main() -> None:
    """See the module."""
    found = measured(int(sys.argv[1]))
    Path("build/stored.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
