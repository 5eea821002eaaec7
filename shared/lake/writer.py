"""Append events to the tables exactly once and move the watermark: the one writer of a lake.

Every Delta commit carries the journal position as an application transaction, which is checked
before the commit: after a crash at any step the same rows may be handed in again and are stored
once. An append returns only when files, log and folders are on the disk.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from shared.clock import Clock
from shared.lake.durable import fsync_commits, fsync_folder
from shared.lake.layout import PARTITIONS, TABLES, EventTable
from shared.lake.torn import settled_version, undo_torn_commits
from shared.lake.upkeep import compact, crowded_partitions, remove_replaced
from shared.lake.watermark import Watermark, read_watermark, write_watermark

_LOG = logging.getLogger(__name__)
# A handle keeps every log entry it has seen: commits slow down tenfold over a thousand of them.
COMMITS_PER_HANDLE = 64
COMMITS_PER_UPKEEP = 16
# Looking for replaced files lists the whole folder; they stay for a day anyway.
CLEAN_UP_S = 3600.0
# Statistics on few columns keep the log small; these are the ones that readers filter by.
STATISTICS_COLUMNS = "event_time,receive_time,position"
COMPRESSION = WriterProperties(compression="ZSTD", compression_level=3)
COMMIT_RETRIES = 200


class TableWriter:
    """Appends to one event table, which gets the columns that the layout has and it lacks."""

    def __init__(self, lake: Path, table: EventTable) -> None:
        self._path = lake / table.name
        self._table = table
        self._handle = self._open()
        self._commits = 0
        self._commits_since_upkeep = COMMITS_PER_UPKEEP
        self._next_clean_up = 0.0

    @property
    def version(self) -> int:
        """The newest version of the table."""
        return int(self._handle.version())

    def committed(self, journal_id: str) -> int:
        """The journal position up to which the table holds the rows of that journal; 0 if none."""
        return int(self._handle.transaction_version(journal_id) or 0)

    def append(self, rows: pa.Table, journal_id: str, position: int) -> None:
        """Append the rows that are newer than `committed` in one commit that carries `position`."""
        if self._commits >= COMMITS_PER_HANDLE:
            self.reopen()
        committed = self.committed(journal_id)
        if position <= committed:
            return
        if committed:
            rows = rows.filter(pc.greater(rows["position"], committed))
        if rows.num_rows == 0:
            return
        write_deltalake(
            self._handle,
            rows.cast(self._table.schema),
            mode="append",
            writer_properties=COMPRESSION,
            commit_properties=CommitProperties(
                max_commit_retries=COMMIT_RETRIES,
                app_transactions=[Transaction(journal_id, position)],
            ),
        )
        self._commits += 1
        self._commits_since_upkeep += 1

    def tidy(self, until: float) -> None:
        """Rewrite crowded partitions one by one until the monotonic clock reads `until`."""
        if self._commits_since_upkeep < COMMITS_PER_UPKEEP:
            return
        self.reopen()
        for partition in crowded_partitions(self._handle):
            if time.monotonic() > until:
                return
            compact(self._handle, partition, COMPRESSION)
        self._commits_since_upkeep = 0
        if time.monotonic() >= self._next_clean_up:
            remove_replaced(self._handle)
            self._next_clean_up = time.monotonic() + CLEAN_UP_S

    def make_durable(self, after_version: int) -> None:
        """Sync every commit that is newer than the version given."""
        if self.version > after_version:
            fsync_commits(self._path, after_version + 1, self.version)

    def reopen(self) -> None:
        """Read the newest version of the table anew."""
        self._handle = DeltaTable(self._path)
        self._commits = 0

    def _open(self) -> DeltaTable:
        if not DeltaTable.is_deltatable(str(self._path)):
            DeltaTable.create(
                self._path,
                self._table.schema,
                partition_by=list(PARTITIONS),
                name=self._table.name,
                description=self._table.meaning,
                configuration={"delta.dataSkippingStatsColumns": STATISTICS_COLUMNS},
            )
        handle = DeltaTable(self._path)
        known = {field.name for field in handle.schema().fields}
        wanted = Schema.from_arrow(self._table.schema).fields
        added = [field for field in wanted if field.name not in known]
        if added:
            _LOG.info("adding columns %s to %s", [f.name for f in added], self._table.name)
            handle.alter.add_columns(added)
        return handle


class LakeWriter:
    """Appends to all event tables of one lake and moves its watermark.

    `rows` of an append may hold positions that are stored already; they are skipped. When an
    append raises, some tables may have been written and the watermark has not moved: hand the same
    rows in again.

    `settled` is the position up to which the journal has forgotten its entries, because the tables
    hold them. A lake without a watermark gets one from it and from the tables themselves.
    """

    def __init__(self, lake: Path, journal_id: str, clock: Clock, settled: int = 0) -> None:
        lake.mkdir(parents=True, exist_ok=True)
        before = read_watermark(lake)
        self._lake = lake
        self._journal_id = journal_id
        self._clock = clock
        self._synced = dict(before.table_versions) if before else {}
        self._undo_torn_commits(settled)
        self._tables = {name: TableWriter(lake, table) for name, table in TABLES.items()}
        self._order = deque(self._tables.values())
        # A crash may leave one table ahead of another: the old cut stays until they agree again.
        if before is not None and before.journal_id == journal_id:
            self._watermark = before
        else:
            held = max(table.committed(journal_id) for table in self._tables.values())
            self._watermark = self._publish(min(settled, held))
        fsync_folder(lake.parent)

    @property
    def watermark(self) -> Watermark:
        """The watermark published last."""
        return self._watermark

    def append(self, rows: Mapping[str, pa.Table], position: int) -> Watermark:
        """Store rows by table name, all of positions up to `position`; durable on return."""
        for name, part in rows.items():
            self._tables[name].append(part, self._journal_id, position)
        self._watermark = self._publish(max(position, self._watermark.position))
        return self._watermark

    def tidy(self, budget_s: float) -> None:
        """Reduce the number of files for about `budget_s` seconds; readers see the same rows."""
        before = dict(self._synced)
        until = time.monotonic() + budget_s
        for table in self._order:
            table.tidy(until)
        # The one that came first comes last next time: a table that uses up every turn would
        # leave the others without one.
        self._order.rotate(-1)
        if before != {name: table.version for name, table in self._tables.items()}:
            self._watermark = self._publish(self._watermark.position)

    def reopen(self) -> None:
        """Forget what the handles know, so that the next append starts from what is stored."""
        for table in self._tables.values():
            table.reopen()

    def _undo_torn_commits(self, settled: int) -> None:
        """Set aside what a power cut left; what was synced is named by the watermark, if any."""
        for name in TABLES:
            path = self._lake / name
            durable = self._synced.get(name)
            if durable is None:
                durable = settled_version(path, self._journal_id, settled)
            undone = undo_torn_commits(path, durable)
            if undone:
                _LOG.warning("undid incomplete commits %s of %s: a power cut?", undone, name)

    def _publish(self, position: int) -> Watermark:
        for name, table in self._tables.items():
            table.make_durable(self._synced.get(name, -1))
            self._synced[name] = table.version
        new = Watermark(self._journal_id, position, dict(self._synced), self._clock.now())
        write_watermark(self._lake, new)
        return new


def concatenate(name: str, parts: Iterable[pa.Table]) -> pa.Table:
    """The parts of one table, one after another; the empty table when there are none."""
    schema = TABLES[name].schema
    return pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in parts)])
