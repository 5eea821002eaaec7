"""Fill the dedupe window at start.

The tables and the journal together hold every acknowledged event.
"""

import datetime as dt
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TypeVar

import ibis
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from services.events.adapters.arrow_codec import decode
from services.events.domain.dedupe import DAYS_PER_BUCKET, DedupeWindow, make_run
from services.events.domain.event import fingerprint_prefix
from services.events.domain.limits import Limits
from services.events.ports import Journal
from shared.lake.watermark import read_watermark

T = TypeVar("T", bound=Hashable)
_FILES_AT_ONCE = 64
_COLUMNS = ["project", "event_id", "content_digest", "receive_time"]


def rebuild(
    window: DedupeWindow[T], lake: Path, journal: Journal, limits: Limits, now: dt.datetime
) -> None:
    """Load what was received within the window, which ends now or with the newest event.

    A clock that is ahead, or a long pause, leaves no id out that the window may still hold.
    """
    tables = _lake_tables(lake)
    newest = [moment for table in tables for moment in _newest_received(table)]
    end = min(now, max(newest, default=now))
    since = end - dt.timedelta(days=limits.dedupe_window_days)
    engine = ibis.duckdb.connect()
    try:
        for table in _rows(engine, tables):
            recent = table.filter(table.receive_time >= since)
            _load(window, engine, recent)
        for rows in _journal_rows(journal, limits):
            _load(window, engine, ibis.memtable(rows))
    finally:
        engine.disconnect()


def _lake_tables(lake: Path) -> list[DeltaTable]:
    watermark = read_watermark(lake)
    versions = watermark.table_versions if watermark else {}
    return [DeltaTable(lake / name, version=version) for name, version in versions.items()]


def _newest_received(table: DeltaTable) -> Iterator[dt.datetime]:
    """The newest receive time of each file, from the statistics in the log."""
    files = pa.table(table.get_add_actions(flatten=True))
    if "max.receive_time" in files.column_names:
        yield from (m for m in files["max.receive_time"].to_pylist() if m is not None)


def _rows(engine: ibis.BaseBackend, tables: list[DeltaTable]) -> Iterator[ibis.Table]:
    for number, table in enumerate(tables):
        files = table.file_uris()
        for first in range(0, len(files), _FILES_AT_ONCE):
            rows = engine.read_parquet(
                files[first : first + _FILES_AT_ONCE],
                table_name=f"part{number}",
                union_by_name=True,
                hive_partitioning=True,
                # A project called 007 is not a number.
                hive_types_autocast=False,
            )
            yield rows.select(*_COLUMNS)


def _journal_rows(journal: Journal, limits: Limits) -> Iterator[pa.Table]:
    after = 0
    while entries := journal.read(after, limits.flush_bytes):
        yield pa.concat_tables([rows.select(_COLUMNS) for rows in decode(entries).values()])
        after = entries[-1].position


def _load(window: DedupeWindow[T], engine: ibis.BaseBackend, rows: ibis.Table) -> None:
    prefix_end = fingerprint_prefix("").decode()
    name = rows.project + prefix_end + rows.event_id
    keys = rows.select(
        fingerprint=name.hexdigest("md5"),
        digest=rows.content_digest,
        day=rows.receive_time.epoch_seconds() // 86_400,
    )
    answer = engine.to_pyarrow(keys)
    hexadecimal = "".join(answer["fingerprint"].to_pylist())
    fingerprints = np.frombuffer(bytes.fromhex(hexadecimal), dtype="V16")
    digests = answer["digest"].to_numpy()
    buckets = answer["day"].to_numpy() // DAYS_PER_BUCKET
    for bucket in np.unique(buckets):
        here = buckets == bucket
        window.load(make_run(fingerprints[here].tobytes(), digests[here], int(bucket)))
