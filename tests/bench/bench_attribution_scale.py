"""Attribution at its largest: many touches in one pass, journeys out of the event tables, a chain
of many channels.

TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES asks for more touchpoints in the tables than two million (20
million is the full size); the pass goes over five times as many, and the wide chain is made of a
twentieth of it in journeys.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.markov import chain_removal_effects, count_chain
from services.attribution.ports import EventQuery
from shared.identity.reader import IdentityReader
from shared.lake.layout import TABLES
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.bench.report import BenchRow, compared

AREA = "attribution"
TOUCHES = int(os.environ.get("TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES", "2000000"))
FULL_PASS = 100_000_000
FULL_PASS_S = 10
PASS_MB = 1_000
THREADS, MEMORY_MB = 2, 4_000
ROWS_AT_ONCE = 2_000_000
WIDE_S = 60
LOOKBACK_DAYS = 30
T = TypeVar("T")

EVENTS = """
SELECT 'e' || i AS event_id, 'demo' AS project, cast(event_time AS date) AS day, event_time,
       event_time AS receive_time, 'user' AS unit_type, 'u' || unit AS unit_id,
       (hash(unit) // 2)::BIGINT AS unit_key, {position}::BIGINT AS position,
       0::BIGINT AS content_digest, {columns}
FROM (SELECT i, hash(i, {salt}) % {units} AS unit,
             TIMESTAMPTZ '2026-01-01' + to_microseconds((hash(i, 5) % 7776000000000)::BIGINT)
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


def run() -> list[BenchRow]:
    """The rows of this module."""
    return [*one_pass(), journeys_of_events(), wide_chain()]


def one_pass() -> list[BenchRow]:
    """Processor seconds and memory of all models over many touches, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.attribution_pass", str(5 * TOUCHES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3_600)
    found: dict[str, Any] = json.loads(done.stdout)
    name = f"rules, order 1 and Shapley in one pass, {found['touches']:,} touches"
    return [
        compared(
            AREA,
            name,
            ours=found["cpu_s"],
            reference=FULL_PASS_S * found["touches"] / FULL_PASS,
            reference_name="10 s of a core for 100 million touches",
            unit="s",
            goal="<= 1",
        ),
        compared(
            AREA,
            f"{name}: memory",
            ours=found["peak_mb"],
            reference=PASS_MB,
            reference_name="1 GB, whatever the number of touches",
            unit="MB",
            goal="<= 1",
        ),
    ]


def journeys_of_events() -> BenchRow:
    """From the files to journeys, those without conversion too, beside the join alone."""
    conversions = TOUCHES // 50
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write_events(lake, {"touchpoints": TOUCHES, "conversions": conversions})
        log = LakeJourneyLog(
            LakeEventTables(lake, EngineLimits(THREADS, MEMORY_MB)), IdentityReader(FixedPolicies())
        )
        sql = JOIN.format(
            days=LOOKBACK_DAYS,
            **{name: [str(path) for path in (lake / name).rglob("*.parquet")] for name in COLUMNS},
        )
        engine = duckdb.connect(config={"threads": THREADS})
        reference, rows = fastest(lambda: engine.sql(sql).to_arrow_table())
        ours, journeys = fastest(lambda: built(log))
    seen = int(journeys.offsets[journeys.converting])
    if seen != rows.num_rows:
        raise AssertionError(f"the join finds {rows.num_rows} touches, we {seen}")
    return compared(
        AREA,
        f"journeys out of {TOUCHES:,} touchpoints and {conversions:,} conversions, processor time",
        ours=ours,
        reference=reference,
        reference_name="the plain join in DuckDB, without journeys that do not convert",
        unit="s",
        goal="<= 1.5",
    )


def built(log: LakeJourneyLog) -> Journeys:
    """All journeys of the event tables."""
    events = log.read(EventQuery("demo", "purchase", "user"))
    return build_journeys(
        events.touches, events.conversions, JourneyRules(LOOKBACK_DAYS * DAY_US, max_touches=10_000)
    )


def write_events(lake: Path, sizes: dict[str, int]) -> None:
    """The event tables, as the events service writes them; ten touches a unit on average."""
    writer, position = LakeWriter(lake, "bench", FixedClock()), 0
    engine = duckdb.connect(config={"threads": THREADS})
    engine.execute("SET timezone = 'UTC'")
    for name, size in sizes.items():
        schema = TABLES[name].schema
        for begin in range(0, size, ROWS_AT_ONCE):
            position += 1
            sql = EVENTS.format(
                columns=COLUMNS[name],
                salt=len(name),
                units=max(1, sizes["touchpoints"] // 10),
                begin=begin,
                end=min(begin + ROWS_AT_ONCE, size),
                position=position,
            )
            rows = engine.sql(sql).to_arrow_table()
            for field in schema:
                if field.name not in rows.column_names:
                    rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
            writer.append({name: rows.select(schema.names).cast(schema)}, position)


def wide_chain() -> BenchRow:
    """The removal effects of 500 channels at order 2, where most steps were seen once."""
    journeys = wide_journeys(500, TOUCHES // 20)
    start = time.process_time()
    converting, others = count_chain(journeys, 2)
    effects = chain_removal_effects(converting + others)
    seconds = time.process_time() - start
    if effects.unreachable.any() or effects.error_bound > 1e-9:
        raise AssertionError(f"an error of up to {effects.error_bound}")
    return compared(
        AREA,
        f"order-2 Markov of 500 channels, {len(journeys):,} journeys, processor time",
        ours=seconds,
        reference=WIDE_S,
        reference_name="a minute",
        unit="s",
        goal="<= 1",
    )


def wide_journeys(channels: int, count: int) -> Journeys:
    """Journeys of 1 + Poisson(3) touches; the share of a channel falls with its number."""
    generator = np.random.default_rng(7)
    offsets = np.concatenate([[0], np.cumsum(1 + generator.poisson(3, count))])
    shares = np.arange(channels, 0, -1) / np.arange(channels + 1).sum()
    touches, converting = np.arange(offsets[-1]), count // 20
    return Journeys(
        channels=tuple(f"channel_{number:03d}" for number in range(channels)),
        offsets=offsets,
        codes=generator.choice(channels, len(touches), p=shares).astype(np.int32),
        times=touches,
        touch_rows=touches,
        units=np.arange(count),
        converting=converting,
        conversion_rows=np.arange(converting),
        conversion_times=offsets[1 : converting + 1],
        values=np.ones(converting),
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )


def fastest(work: Callable[[], T], repeats: int = 3) -> tuple[float, T]:
    """The least processor time of some runs, of all threads, in seconds, and the last result."""
    taken: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        taken.append(time.process_time() - start)
    return min(taken), result
