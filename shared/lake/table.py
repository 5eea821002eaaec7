"""Write one event table: its commits, in the form that the layout asks for."""

import logging
from collections.abc import Sequence
from datetime import datetime
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
from deltalake.transaction import AddAction, RemoveAction

from shared.lake.durable import fsync_commits
from shared.lake.layout import PARTITIONS, EventTable
from shared.lake.rewrite import COMPRESSION_LEVEL, STATISTICS_COLUMNS, Joined
from shared.lake.sweep import mark_replaced
from shared.lake.upkeep import Partition, Rewrite, live_files

_LOG = logging.getLogger(__name__)
# A handle keeps every log entry it has seen: commits slow down tenfold over a thousand of them.
COMMITS_PER_HANDLE = 64
COMPRESSION = WriterProperties(compression="ZSTD", compression_level=COMPRESSION_LEVEL)
COMMIT_RETRIES = 200
PROPERTIES = {
    # Statistics on few columns keep the log small; these are the ones that readers filter by.
    "delta.dataSkippingStatsColumns": ",".join(STATISTICS_COLUMNS),
    "delta.checkpointInterval": "100",
    # Our own clean-up looks at what readers open, which the library cannot know.
    "delta.enableExpiredLogCleanup": "false",
    # Every checkpoint repeats the files that were replaced within this time. They stay on the disk
    # for longer, by their age.
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}


class TableWriter:
    """Appends to one event table, which gets the columns that the layout has and it lacks."""

    def __init__(self, lake: Path, table: EventTable) -> None:
        self._path = lake / table.name
        self._table = table
        self._handle = self._open()
        self._commits = 0
        self._commits_of_handle = 0

    @property
    def path(self) -> Path:
        """The folder of the table."""
        return self._path

    @property
    def handle(self) -> DeltaTable:
        """The version that the next commit follows."""
        return self._handle

    @property
    def version(self) -> int:
        """The newest version of the table."""
        return int(self._handle.version())

    @property
    def commits(self) -> int:
        """How many times rows were appended."""
        return self._commits

    def committed(self, journal_id: str) -> int:
        """The journal position up to which the table holds the rows of that journal; 0 if none."""
        return int(self._handle.transaction_version(journal_id) or 0)

    def append(self, rows: pa.Table, journal_id: str, position: int) -> None:
        """Append the rows that are newer than `committed` in one commit that carries `position`."""
        if self._commits_of_handle >= COMMITS_PER_HANDLE:
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
            # A newer program may have added columns: they are null in what this one writes.
            schema_mode="merge",
            writer_properties=COMPRESSION,
            commit_properties=CommitProperties(
                max_commit_retries=COMMIT_RETRIES,
                app_transactions=[Transaction(journal_id, position)],
            ),
        )
        self._commits += 1
        self._commits_of_handle += 1

    def replace(self, done: Sequence[tuple[Rewrite, Joined]], now: datetime) -> None:
        """Put the joined files in the place of their inputs: the same rows, in one commit.

        A rewrite whose inputs are not all there any more is dropped, and so is one whose file is
        not as it was written.
        """
        live = {file.path for file in live_files(self._handle)} if done else set()
        valid = [
            (rewrite, joined)
            for rewrite, joined in done
            if live.issuperset(file.path for file in rewrite.inputs)
            and _size(self._path / joined.path) == joined.size_bytes
        ]
        if not valid:
            return
        actions: list[AddAction | RemoveAction] = []
        for rewrite, joined in valid:
            actions += _actions(rewrite, joined, int(now.timestamp() * 1000))
            mark_replaced(self._path, (file.path for file in rewrite.inputs), now)
        self._handle.create_write_transaction(
            actions, "append", self._handle.schema(), list(PARTITIONS)
        )
        # Unlike an append, this leaves the handle at the version before.
        self.reopen()

    def make_durable(self, after_version: int) -> None:
        """Sync every commit that is newer than the version given."""
        if self.version > after_version:
            fsync_commits(self._path, after_version + 1, self.version)

    def reopen(self) -> None:
        """Read the newest version of the table anew."""
        self._handle = DeltaTable(self._path)
        self._commits_of_handle = 0

    def _open(self) -> DeltaTable:
        if not DeltaTable.is_deltatable(str(self._path)):
            DeltaTable.create(
                self._path,
                self._table.schema,
                partition_by=list(PARTITIONS),
                name=self._table.name,
                description=self._table.meaning,
                configuration=PROPERTIES,
            )
        handle = DeltaTable(self._path)
        known = {field.name for field in handle.schema().fields}
        wanted = Schema.from_arrow(self._table.schema).fields
        added = [field for field in wanted if field.name not in known]
        if added:
            _LOG.info("adding columns %s to %s", [f.name for f in added], self._table.name)
            handle.alter.add_columns(added)
        has = handle.metadata().configuration
        if any(has.get(name) != value for name, value in PROPERTIES.items()):
            handle.alter.set_table_properties(PROPERTIES)
        return handle


def _actions(rewrite: Rewrite, joined: Joined, now_ms: int) -> list[AddAction | RemoveAction]:
    values: dict[str, str | None] = dict(zip(PARTITIONS, _spelled(rewrite.partition), strict=True))
    add = AddAction(
        path=joined.path,
        size=joined.size_bytes,
        partition_values=values,
        modification_time=now_ms,
        data_change=False,
        stats=joined.statistics,
    )
    removed = [
        RemoveAction(file.path, False, now_ms, file.size_bytes, values) for file in rewrite.inputs
    ]
    return [add, *removed]


def _spelled(partition: Partition) -> tuple[str, str]:
    project, day = partition
    return project, day.isoformat()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
