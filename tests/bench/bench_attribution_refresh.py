"""A report after new events, beside the same report out of all events.

Both say the same, to the digest, before their times are compared. The models are the rules, Markov
of order 1 and Shapley, without intervals: their cost is the same for both.
Times are of the processor.
"""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.adapters.kept import KeptJourneyLog
from services.attribution.adapters.kept.files import KeptFiles
from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.application.get_attribution import Progress
from services.attribution.application.reports import run_report
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyLog
from services.attribution.wire.reports import decode_run, stored_report
from shared.identity.reader import IdentityReader
from shared.lake.layout import TABLES
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.bench.report import BenchRow, compared

AREA = "attribution"
TOUCHES = 4_000_000
UNITS = 1_000_000
NEW_PART = 0.01
ROUNDS = 3
THREADS = 2
MOST_BYTES = 10_000_000_000
PER_TOUCH = {"touchpoints": 1.0, "conversions": 0.05}
QUERY = EventQuery("demo", "buy", "user")

EVENT_SQL = """
SELECT '{name}' || i AS event_id, 'demo' AS project, cast(event_time AS date) AS day, event_time,
       event_time AS receive_time, 'user' AS unit_type, 'u' || unit AS unit_id,
       (hash(unit) // 2)::BIGINT AS unit_key, NULL::VARCHAR AS linked_units,
       NULL::VARCHAR AS source, NULL::VARCHAR AS properties, {position}::BIGINT AS position,
       (hash(i) // 2)::BIGINT AS content_digest, {columns}
FROM (SELECT i, hash(i, {salt}) % {units} AS unit,
             TIMESTAMPTZ '2026-01-01' + to_seconds((hash(i, 5) % (28 * 86400))::BIGINT)
               AS event_time
      FROM range({begin}, {end}) t(i))
"""
COLUMNS = {
    "touchpoints": """'channel-' || (hash(i, 7) % 15) AS channel, NULL::VARCHAR AS
campaign_source, NULL::VARCHAR AS medium, NULL::VARCHAR AS campaign, NULL::VARCHAR AS content,
NULL::VARCHAR AS term, 'click' AS interaction, (hash(i, 3) % 100) / 100.0::DOUBLE AS cost,
'EUR' AS currency""",
    "conversions": "'buy' AS event_name, (hash(i, 3) % 10000) / 100.0::DOUBLE AS value, "
    "'EUR' AS currency",
}

T = TypeVar("T")


def run() -> list[BenchRow]:
    """A refresh beside a full report, and the events of each alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = LakeWriter(folder / "lake", "bench", FixedClock())
        written = dict.fromkeys(PER_TOUCH, 0)
        for position in range(1, 5):
            write(writer, written, TOUCHES // 4, position)
        tables = LakeEventTables(folder / "lake", EngineLimits(THREADS))
        plain = LakeJourneyLog(tables, IdentityReader(FixedPolicies()))
        kept = KeptJourneyLog(plain, KeptFiles(folder / "kept", folder / "lake", MOST_BYTES))
        reported(kept)
        refreshed = whole = again = read = math.inf
        for position in range(5, 5 + 2 * ROUNDS, 2):
            # By turns, as other work on the machine comes and goes.
            write(writer, written, int(TOUCHES * NEW_PART), position)
            seconds, report = timed(lambda: reported(kept))
            refreshed = min(refreshed, seconds)
            seconds, expected = timed(lambda: reported(plain))
            whole = min(whole, seconds)
            assert report.reading.since_watermark
            assert report.digest == expected.digest
            write(writer, written, int(TOUCHES * NEW_PART), position + 1)
            again = min(again, timed(lambda: kept.read(QUERY))[0])
            read = min(read, timed(lambda: plain.read(QUERY))[0])
    what = f"after {NEW_PART:.0%} new events, {TOUCHES // 1_000_000}M touches"
    return [
        row(f"report {what}", refreshed, whole, "the report of all events", "<= 0.6"),
        row(f"events of a report {what}", again, read, "reading all events", "<= 0.4"),
    ]


def row(name: str, ours: float, reference: float, reference_name: str, goal: str) -> BenchRow:
    """One comparison in seconds."""
    return compared(
        AREA,
        name,
        ours=ours,
        reference=reference,
        reference_name=reference_name,
        unit="s",
        goal=goal,
    )


def write(writer: LakeWriter, written: dict[str, int], touches: int, position: int) -> None:
    """Write so many new touches, with conversions in proportion."""
    rows = {}
    for name, per_touch in PER_TOUCH.items():
        begin = written[name]
        written[name] = begin + int(touches * per_touch)
        rows[name] = events(name, begin, written[name], position)
    writer.append(rows, position)


def events(name: str, begin: int, end: int, position: int) -> pa.Table:
    """Rows of one table."""
    engine = duckdb.connect(config={"threads": THREADS})
    engine.execute("SET timezone = 'UTC'")
    query = EVENT_SQL.format(
        name=name,
        columns=COLUMNS[name],
        salt=len(name),
        begin=begin,
        end=end,
        position=position,
        units=UNITS,
    )
    table: pa.Table = engine.sql(query).to_arrow_table()
    return table.cast(TABLES[name].schema)


def reported(log: JourneyLog) -> report_pb2.AttributionReport:
    """The report of the events of the log."""
    models = [attribution_pb2.Model() for _ in range(6)]
    kinds = ("first_touch", "last_touch", "linear", "time_decay", "markov", "shapley")
    for model, kind in zip(models, kinds, strict=True):
        getattr(model, kind).SetInParent()
    request = pb.RunAttributionRequest(
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"), models=models
    )
    request.bootstrap.off = request.held_out.off = True
    command = decode_run(request, "demo")
    found = run_report(command, log, AttributionLimits(), Progress())
    kept = stored_report("bench", FixedClock().now(), command, found)
    return report_pb2.AttributionReport.FromString(kept.document)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """The processor seconds of a run, of all threads, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result
