"""Append events to the tables exactly once and move the watermark: the one writer of a lake.

Every Delta commit carries the journal position as an application transaction, which is checked
before the commit: after a crash at any step the same rows may be handed in again and are stored
once. An append returns only when files, log and folders are on the disk.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from shared.clock import Clock
from shared.lake.durable import fsync_folder
from shared.lake.housekeeping import Housekeeping
from shared.lake.layout import TABLES
from shared.lake.table import TableWriter
from shared.lake.torn import settled_version, undo_torn_commits
from shared.lake.watermark import Watermark, read_watermark, write_watermark

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


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
        self._housekeeping = Housekeeping(self._tables.values(), clock)
        # A crash may leave one table ahead of another: the old cut stays until they agree again.
        if before is not None and before.journal_id == journal_id:
            self._watermark = before
        else:
            held = max(table.committed(journal_id) for table in self._tables.values())
            # A journal that took the place of another begins behind it: what lies before is held.
            replaced = before.position if before is not None else 0
            self._watermark = self._publish(min(settled, max(held, replaced)))
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

    def change(self, name: str, work: Callable[[TableWriter], T]) -> T:
        """Change a table otherwise than by an append, and let readers see it; durable on return."""
        done = work(self._tables[name])
        if self._synced != {name: table.version for name, table in self._tables.items()}:
            self._watermark = self._publish(self._watermark.position)
        return done

    def tidy(self, budget_s: float) -> None:
        """Reduce the number of files for about `budget_s` seconds; readers see the same rows."""
        self._housekeeping.turn(budget_s, self._watermark.table_versions)
        if self._synced != {name: table.version for name, table in self._tables.items()}:
            self._watermark = self._publish(self._watermark.position)

    def close(self) -> None:
        """Stop upkeep that is under way; what it did so far is dropped."""
        self._housekeeping.close()

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
