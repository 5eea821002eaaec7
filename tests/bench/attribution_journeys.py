"""Journeys out of the event tables, or the join that has to be made for them, in a process alone.

    python -m tests.bench.attribution_journeys write FOLDER TOUCHPOINTS
    python -m tests.bench.attribution_journeys join|converting|all FOLDER

The first makes the tables: ten touches a unit on average, and a fiftieth as many conversions as
touches, which arrive in the order of time. The others print the least processor seconds of some
runs, those of the program and of the system, the peak of memory, and what was found, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.domain.journeys import DAY_US, JourneyRules, build_journeys
from services.attribution.ports import EventQuery
from shared.identity.reader import IdentityReader
from shared.lake.layout import TABLES
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies

THREADS, MEMORY_MB = 2, 4_000
ROWS_AT_ONCE = 2_000_000
LOOKBACK_DAYS, DAYS = 30, 90
REPEATS = 3
Found = tuple[int, int]
"""How many touches converting journeys hold, and how many journeys there are in all."""

EVENTS = """
SELECT 'e' || i AS event_id, 'demo' AS project, cast(event_time AS date) AS day, event_time,
       event_time AS receive_time, 'user' AS unit_type, 'u' || unit AS unit_id,
       (hash(unit) // 2)::BIGINT AS unit_key, {position}::BIGINT AS position,
       0::BIGINT AS content_digest, {columns}
FROM (SELECT i, hash(i, {salt}) % {units} AS unit,
             TIMESTAMPTZ '2026-01-01'
               + to_microseconds((i / {size} * {span})::BIGINT + (hash(i, 5) % 60000000)::BIGINT)
               AS event_time
      FROM range({begin}, {end}) t(i))
"""
COLUMNS = {
    "touchpoints": "'channel_' || (sqrt(hash(i, 9) % 225))::BIGINT AS channel, "
    "(hash(i, 3) % 100) / 100.0::DOUBLE AS cost, 'EUR' AS currency",
    "conversions": "'purchase' AS event_name, (hash(i, 3) % 10000) / 100.0::DOUBLE AS value, "
    "'EUR' AS currency",
}
JOIN = """
SELECT c.unit_id, c.event_time AS converted, t.event_time, t.channel, t.cost
FROM read_parquet({conversions}) c JOIN read_parquet({touchpoints}) t
  ON t.unit_id = c.unit_id AND t.event_time <= c.event_time
 AND t.event_time >= c.event_time - INTERVAL {days} DAY
WHERE c.event_name = 'purchase' AND c.unit_type = 'user' AND t.unit_type = 'user'
"""


def write(lake: Path, touchpoints: int) -> None:
    """The event tables, as the events service writes them."""
    writer, position = LakeWriter(lake, "bench", FixedClock()), 0
    engine = duckdb.connect(config={"threads": THREADS})
    engine.execute("SET timezone = 'UTC'")
    for name, size in {"touchpoints": touchpoints, "conversions": touchpoints // 50}.items():
        schema = TABLES[name].schema
        for begin in range(0, size, ROWS_AT_ONCE):
            position += 1
            sql = EVENTS.format(
                columns=COLUMNS[name],
                salt=len(name),
                units=max(1, touchpoints // 10),
                begin=begin,
                end=min(begin + ROWS_AT_ONCE, size),
                size=size,
                span=DAYS * DAY_US,
                position=position,
            )
            rows = engine.sql(sql).to_arrow_table()
            for field in schema:
                if field.name not in rows.column_names:
                    rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
            writer.append({name: rows.select(schema.names).cast(schema)}, position)


def plain_join(lake: Path) -> Callable[[], Found]:
    """Each conversion beside the touches of its unit within the lookback, in no order."""
    files = {name: [str(path) for path in (lake / name).rglob("*.parquet")] for name in COLUMNS}
    engine = duckdb.connect(config={"threads": THREADS})
    sql = JOIN.format(days=LOOKBACK_DAYS, **files)
    return lambda: (engine.sql(sql).to_arrow_table().num_rows, 0)


def journeys(lake: Path, *, converting: bool) -> Callable[[], Found]:
    """From the files to journeys: those that convert, or all."""
    tables = LakeEventTables(lake, EngineLimits(THREADS, MEMORY_MB))
    log = LakeJourneyLog(tables, IdentityReader(FixedPolicies()))
    query = EventQuery("demo", "purchase", "user", converting=converting)
    rules = JourneyRules(LOOKBACK_DAYS * DAY_US, max_touches=10_000)

    def made() -> Found:
        events = log.read(query)
        found = build_journeys(events.touches, events.conversions, rules)
        return int(found.offsets[found.converting]), len(found)

    return made


def measured(work: Callable[[], Found]) -> dict[str, float]:
    """The run that took the least processor time, of all threads."""
    taken: list[tuple[float, float]] = []
    found = (0, 0)
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_SELF)
        found = work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        taken.append((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime))
    program_s, system_s = min(taken, key=sum)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "cpu_s": round(program_s + system_s, 3),
        "program_s": round(program_s, 3),
        "system_s": round(system_s, 3),
        "peak_mb": round(peak_mb),
        "touches": found[0],
        "journeys": found[1],
    }


def main() -> None:
    """See the module."""
    what, lake = sys.argv[1], Path(sys.argv[2])
    if what == "write":
        write(lake, int(sys.argv[3]))
        return
    work = plain_join(lake) if what == "join" else journeys(lake, converting=what == "converting")
    print(json.dumps(measured(work)))


if __name__ == "__main__":
    main()
