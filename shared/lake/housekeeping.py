"""Turns of upkeep of the tables, each of a bounded duration, between two commits of events.

A small rewrite is done in its turn. A large one is done beside the service, one at a time, and
only its commit takes a turn; when one of its files was replaced meanwhile, its work is dropped.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.lake.background import BackgroundJoin
from shared.lake.rewrite import Joined, join, joined_path
from shared.lake.sweep import Needed, sweep
from shared.lake.table import TableWriter
from shared.lake.upkeep import Rewrite, live_files, worthwhile_rewrites

INLINE_BYTES = 2 * 1024 * 1024
"""About a tenth of a second of work; a rewrite of more is done in the background."""
COMMITS_PER_LOOK = 16
LOOK_EVERY_S = 60.0
SWEEP_EVERY = timedelta(minutes=10)


class Housekeeping:
    """Upkeep of all tables of a lake. Only the thread that writes the tables may use it."""

    def __init__(self, tables: Iterable[TableWriter], clock: Clock) -> None:
        self._clock = clock
        self._order = deque(_Turns(table, clock.now()) for table in tables)
        self._background: BackgroundJoin | None = None

    def turn(self, budget_s: float, published: Mapping[str, int]) -> None:
        """Work for about `budget_s` seconds. `published` are the versions that readers open."""
        until, now = time.monotonic() + budget_s, self._clock.now()
        self._take_background(now)
        for turns in self._order:
            if time.monotonic() > until:
                break
            if turns.look_is_due(background_is_free=self._background is None):
                self._rewrite(turns, until, now)
            turns.sweep(until, now, published, self._expected())
        # The one that came first comes last next time: a table that uses up every turn would
        # leave the others without one.
        self._order.rotate(-1)

    def close(self) -> None:
        """Stop what is under way."""
        if self._background is not None:
            self._background.close()
            self._background = None

    def _rewrite(self, turns: "_Turns", until: float, now: datetime) -> None:
        table = turns.table
        table.reopen()
        done: list[tuple[Rewrite, Joined]] = []
        late = waiting = False
        for rewrite in worthwhile_rewrites(live_files(table.handle), now):
            if self._is_under_way(table, rewrite):
                continue
            if rewrite.size_bytes > INLINE_BYTES:
                if self._background is None:
                    self._background = BackgroundJoin(table.path, rewrite)
                else:
                    waiting = True
            elif time.monotonic() > until:
                late = True
            else:
                done.append((rewrite, join(table.path, [file.path for file in rewrite.inputs])))
        table.replace(done, now)
        turns.looked(late=late, waiting=waiting)

    def _take_background(self, now: datetime) -> None:
        work = self._background
        if work is None or not work.done:
            return
        self._background = None
        joined = work.result()
        if joined is not None:
            table = next(t.table for t in self._order if t.table.path.name == work.table)
            table.replace([(work.rewrite, joined)], now)

    def _is_under_way(self, table: TableWriter, rewrite: Rewrite) -> bool:
        work = self._background
        return (
            work is not None
            and work.table == table.path.name
            and work.rewrite.partition == rewrite.partition
        )

    def _expected(self) -> set[str]:
        """Files that are being written and that no version names yet."""
        if self._background is None:
            return set()
        return {joined_path([file.path for file in self._background.rewrite.inputs])}


class _Turns:
    """When a table has its turns."""

    def __init__(self, table: TableWriter, now: datetime) -> None:
        self.table = table
        self._commits_at_look = -COMMITS_PER_LOOK
        self._looked_at = 0.0
        self._late = self._waiting = False
        self._swept_at = now
        self._sweep: Iterator[None] | None = None

    def look_is_due(self, *, background_is_free: bool) -> bool:
        """Whether there may be something to rewrite; a look lists all files."""
        return (
            self._late
            or (self._waiting and background_is_free)
            or self.table.commits - self._commits_at_look >= COMMITS_PER_LOOK
            or time.monotonic() - self._looked_at >= LOOK_EVERY_S
        )

    def looked(self, *, late: bool, waiting: bool) -> None:
        """A look is over; some rewrites may have had no time, or wait for the background."""
        self._commits_at_look, self._looked_at = self.table.commits, time.monotonic()
        self._late, self._waiting = late, waiting

    def sweep(
        self, until: float, now: datetime, published: Mapping[str, int], expected: set[str]
    ) -> None:
        """Go on removing files, or begin anew when it is time."""
        table = self.table
        if self._sweep is None:
            # What readers open must not stand on files that only older versions name.
            current = published.get(table.path.name) == table.version
            if not current or abs(now - self._swept_at) < SWEEP_EVERY:
                return
            self._swept_at = now
            files = {file.path for file in live_files(table.handle)} | expected
            self._sweep = sweep(table.path, Needed(files, table.version), now)
        while time.monotonic() <= until:
            try:
                next(self._sweep)
            except StopIteration:
                self._sweep = None
                return
