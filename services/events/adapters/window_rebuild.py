"""Fill the dedupe window at start.

The tables and the journal together hold every acknowledged event.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from services.events.adapters.arrow_codec import decode
from services.events.domain.dedupe import (
    DAYS_PER_BUCKET,
    DedupeWindow,
    Run,
    Signed,
    Unsigned,
    bucket_of,
)
from services.events.domain.limits import Limits
from services.events.ports import Journal
from shared.lake.watermark import read_watermark

T = TypeVar("T", bound=Hashable)
_FILES_AT_ONCE = 64
_ROWS_AT_ONCE = 100_000
_ENGINE_MEMORY = "256MB"
_COLUMNS = ["project", "event_id", "content_digest", "receive_time"]
# A project called 007 is not a number.
_STORED = """
SELECT project, event_id, content_digest, receive_time FROM read_parquet(
    $files, union_by_name = true, hive_partitioning = true, hive_types_autocast = false
) WHERE receive_time >= to_timestamp($since_s)
"""
_COUNTS = "SELECT epoch_us(receive_time) // 86400000000 AS day, count(*) FROM events GROUP BY day"
# The engine calls the first 8 bytes upper, and Run the last 8, both read as little-endian.
# chr(31) stands between project and event id: see fingerprint_prefix.
_KEYS = """
SELECT md5_number_lower(name), md5_number_upper(name), content_digest,
       epoch_us(receive_time) // 86400000000 AS day
FROM (SELECT *, project || chr(31) || event_id AS name FROM events)
"""
_Source = Callable[[], duckdb.DuckDBPyRelation]


def rebuild(
    window: DedupeWindow[T], lake: Path, journal: Journal, limits: Limits, now: dt.datetime
) -> None:
    """Load what was received within the window, which ends now or with the newest event.

    A clock that is ahead, or a long pause, leaves no id out that the window may still hold. Takes
    what the window itself takes, 16 bytes more an id of its fullest 8 days, and a fixed amount.
    """
    tables = _lake_tables(lake)
    newest = [moment for table in tables for moment in _newest_received(table)]
    end = min(now, max(newest, default=now))
    since = end - dt.timedelta(days=limits.dedupe_window_days)
    with duckdb.connect(config={"memory_limit": _ENGINE_MEMORY, "threads": 2}) as engine:
        engine.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
        stored = [
            partial(engine.sql, _STORED, params={"files": files, "since_s": since.timestamp()})
            for files in _files(tables)
        ]
        _load(window, stored)
        for rows in _journal_rows(journal, limits):
            _load(window, [partial(engine.from_arrow, rows)])


def _lake_tables(lake: Path) -> list[DeltaTable]:
    watermark = read_watermark(lake)
    versions = watermark.table_versions if watermark else {}
    return [DeltaTable(lake / name, version=version) for name, version in versions.items()]


def _newest_received(table: DeltaTable) -> Iterator[dt.datetime]:
    """The newest receive time of each file, from the statistics in the log."""
    files = pa.table(table.get_add_actions(flatten=True))
    if "max.receive_time" in files.column_names:
        yield from (m for m in files["max.receive_time"].to_pylist() if m is not None)


def _files(tables: Iterable[DeltaTable]) -> Iterator[list[str]]:
    """The files of each table, some at a time."""
    for table in tables:
        files = table.file_uris()
        for first in range(0, len(files), _FILES_AT_ONCE):
            yield files[first : first + _FILES_AT_ONCE]


def _journal_rows(journal: Journal, limits: Limits) -> Iterator[pa.Table]:
    after = 0
    while entries := journal.read(after, limits.flush_bytes):
        yield pa.concat_tables([rows.select(_COLUMNS) for rows in decode(entries).values()])
        after = entries[-1].position


class _Filling:
    """The ids of one bucket, as they come. Its size is known: nothing is held twice."""

    def __init__(self, size: int) -> None:
        self._columns = (
            np.empty(size, np.uint64),
            np.empty(size, np.uint64),
            np.empty(size, np.int64),
        )
        self._filled = 0

    def add(self, upper: Unsigned, lower: Unsigned, digests: Signed) -> None:
        """Add some ids."""
        end = self._filled + len(upper)
        for column, values in zip(self._columns, (upper, lower, digests), strict=True):
            column[self._filled : end] = values
        self._filled = end

    def run(self, bucket: int) -> Run:
        """All of them, in order."""
        order = np.argsort(self._columns[0], kind="stable")
        for column in self._columns:
            column[:] = column[order]
        return Run(*self._columns, bucket)


def _load(window: DedupeWindow[T], sources: Sequence[_Source]) -> None:
    """Load the keys of the events that the sources hold, a bucket in one run."""
    sizes: Counter[int] = Counter()
    for source in sources:
        for day, count in source().query("events", _COUNTS).fetchall():
            sizes[bucket_of(day)] += count
    filling = {bucket: _Filling(size) for bucket, size in sizes.items()}
    for source in sources:
        keys = source().query("events", _KEYS)
        for batch in keys.to_arrow_reader(_ROWS_AT_ONCE):
            upper, lower, digests, days = (column.to_numpy() for column in batch.columns)
            buckets = days // DAYS_PER_BUCKET
            for bucket in np.unique(buckets).tolist():
                here = buckets == bucket
                filling[bucket].add(upper[here], lower[here], digests[here])
    for bucket in list(filling):
        window.load(filling.pop(bucket).run(bucket))
