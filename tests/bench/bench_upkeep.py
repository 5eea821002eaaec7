"""What upkeep costs: a reader beside a rewrite, and commits when there have been many."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from shared.clock import SystemClock
from shared.lake.background import BackgroundJoin
from shared.lake.layout import TABLES
from shared.lake.table import TableWriter
from shared.lake.upkeep import DataFile, Rewrite, live_files
from shared.lake.writer import LakeWriter
from tests.bench.report import BenchRow, compared

FILES, ROWS_A_FILE = 64, 40_000
READS = 24
COMMITS, COMMITS_COMPARED = 1_000, 200
SMALL = 500
START = datetime(2026, 1, 1, tzinfo=UTC)
QUERY = """
SELECT event_name, count(*), sum(value) FROM (
    SELECT unit_key, event_name, sum(value) AS value FROM read_parquet(?)
    GROUP BY unit_key, event_name
) GROUP BY event_name
"""


def run() -> list[BenchRow]:
    """The reader's ratio, the commits' ratio, and how much is written again."""
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return [_reader(Path(name) / "reader"), *_commits(Path(name) / "commits")]


def _reader(lake: Path) -> BenchRow:
    """The same query with and without a rewrite, in turns, so that both see the same machine."""
    table = TableWriter(lake, TABLES["conversions"])
    for number in range(FILES):
        table.append(_rows(number + 1, ROWS_A_FILE), "bench", number + 1)
    rewrite = _whole_day(table)
    with_s: list[float] = []
    without_s: list[float] = []
    _read(table.handle)
    for _ in range(READS // 4):
        without_s += [_read(table.handle) for _ in range(4)]
        with _rewriting(table.path, rewrite) as job:
            time.sleep(0.5)  # the program is loaded, and works
            while len(with_s) < len(without_s) and not job.done:
                with_s.append(_read(table.handle))
    return compared(
        "upkeep",
        f"a reader of {FILES * ROWS_A_FILE:,} events while they are rewritten, median",
        ours=statistics.median(with_s) * 1e3,
        reference=statistics.median(without_s) * 1e3,
        reference_name="the same without a rewrite",
        unit="ms",
        goal="<= 1.3",
    )


@contextmanager
def _rewriting(table: Path, rewrite: Rewrite) -> Iterator[BackgroundJoin]:
    job = BackgroundJoin(table, rewrite)
    try:
        yield job
    finally:
        job.close()


def _whole_day(table: TableWriter) -> Rewrite:
    files: Sequence[DataFile] = sorted(
        live_files(table.handle), key=lambda file: file.first_position
    )
    return Rewrite(files[0].partition, tuple(files))


def _read(table: DeltaTable) -> float:
    files = table.file_uris()
    engine = duckdb.connect()
    try:
        engine.execute("SET threads = 2")
        engine.execute("SET enable_progress_bar = false")
        start = time.perf_counter()
        engine.execute(QUERY, [files]).fetchall()
        return time.perf_counter() - start
    finally:
        engine.close()


def _commits(lake: Path) -> list[BenchRow]:
    """A thousand commits with upkeep after each, as the flusher does it."""
    writer = LakeWriter(lake, "bench", SystemClock())
    durations, turns = [], []
    for position in range(1, COMMITS + 1):
        rows = {"conversions": _rows(position, SMALL)}
        start = time.perf_counter()
        writer.append(rows, position)
        committed = time.perf_counter()
        writer.tidy(budget_s=0.3)
        durations.append(committed - start)
        turns.append(time.perf_counter() - committed)
    writer.close()
    first, last = durations[:COMMITS_COMPARED], durations[-COMMITS_COMPARED:]
    came, again = _written(lake / "conversions")
    return [
        compared(
            "upkeep",
            f"a commit after {COMMITS - COMMITS_COMPARED}, median",
            ours=statistics.median(last) * 1e3,
            reference=statistics.median(first) * 1e3,
            reference_name=f"the first {COMMITS_COMPARED}",
            unit="ms",
            goal="<= 1.5",
        ),
        compared(
            "upkeep",
            "a turn of upkeep between two commits, 99th percentile",
            ours=sorted(turns)[int(len(turns) * 0.99)] * 1e3,
            reference=1e3,
            reference_name="half of what an event may take to be seen",
            unit="ms",
            goal="<= 1",
        ),
        compared(
            "upkeep",
            f"bytes that rewrites wrote in {COMMITS} commits",
            ours=again,
            reference=came,
            reference_name="bytes that came",
            unit="bytes",
            goal="<= 4",
        ),
    ]


def _written(table: Path) -> tuple[int, int]:
    """Bytes of the files that came, and of those that rewrites made, by the log."""
    came = again = 0
    for entry in (table / "_delta_log").glob("*.json"):
        for line in entry.read_text().splitlines():
            add = json.loads(line).get("add")
            if add and add["dataChange"]:
                came += add["size"]
            elif add:
                again += add["size"]
    return came, again


def _rows(position: int, count: int) -> pa.Table:
    choice = np.random.default_rng(position)
    units = choice.integers(0, 300_000, count)
    times = np.sort(choice.integers(0, 80_000, count))
    given = {
        "event_id": [f"0198c1f0-{position:06d}-{n:08d}-{u:06d}" for n, u in enumerate(units)],
        "project": ["acme"] * count,
        "day": [START.date()] * count,
        "event_time": [START + timedelta(seconds=int(t)) for t in times],
        "receive_time": [START] * count,
        "unit_type": ["user"] * count,
        "unit_id": [f"customer-{u}" for u in units],
        "unit_key": units * 7_919,
        "linked_units": pa.nulls(count, pa.string()),
        "source": ["bench"] * count,
        "properties": pa.nulls(count, pa.string()),
        "position": [position] * count,
        "content_digest": choice.integers(-(2**62), 2**62, count),
        "event_name": np.array(["order", "view", "visit"])[choice.integers(0, 3, count)],
        "value": choice.random(count).round(2),
        "currency": pa.nulls(count, pa.string()),
    }
    return pa.table(given, schema=TABLES["conversions"].schema)
