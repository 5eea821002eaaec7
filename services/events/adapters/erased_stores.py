"""Erase units from the event tables, the journal and the rejected events, and search them."""

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.erased_rows import (
    age,
    bytes_in,
    log_files,
    matching_units,
    mentions,
)
from services.events.adapters.erased_units import units_in
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.erasure import Searched, Target, Unit
from services.events.domain.rejection import RejectedEvent, Wanted
from services.events.ports import ErasureStores, Journal
from shared.clock import Clock
from shared.lake.failures import understood
from shared.lake.layout import TABLES
from shared.lake.removal import (
    MARKER,
    Thinned,
    exchange,
    files_on_disk,
    read_marker,
    remove_files,
    thin,
    write_marker,
)
from shared.lake.table import TableWriter
from shared.lake.upkeep import live_files

T = TypeVar("T")
Save = Callable[[Sequence[Target]], None]
FILES_A_COMMIT = 16
SHORTEST_SEARCHED_BYTES = 8
_REJECTED_AT_ONCE = 200
_JOURNAL_BYTES = 32 * 1024 * 1024
_MEMORY_MB = 512
_LOOK_AGAIN = dt.timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class LocalErasureStores(ErasureStores):
    """See ErasureStores. `do` runs work in the thread of the one writer of the tables."""

    lake: Path
    marker: Path
    journal: Journal
    scrub_journal: Callable[[], None]
    sink: DeltaSink
    rejected: SqliteRejectedEvents
    do: Callable[[Callable[[], Any]], Future[Any]]
    digest: Callable[[str, str, str], bytes]
    clock: Clock

    def flush(self, wait: Callable[[float], None]) -> None:
        """See ErasureStores."""
        upto = self.journal.last
        while self.sink.position < upto:
            wait(0.05)

    def recognise(self, project: str, targets: Sequence[Target]) -> list[Target]:
        """See ErasureStores."""
        unknown = {one.digest for one in targets if one.unit is None}
        if not unknown:
            return list(targets)
        found: dict[bytes, Unit] = {}
        for event in self._rejected(project, None):
            for unit in units_in(event.payload) or ():
                if (digest := self.digest(project, *unit)) in unknown:
                    found[digest] = Unit(*unit)
        with understood(self.lake, _MEMORY_MB):
            for name in TABLES:
                files = self._readable(name, project)
                names = lambda kind, id_: self.digest(project, kind, id_)  # noqa: E731  it is short
                found |= matching_units(name, files, names, unknown)
        return [
            one if one.unit or one.digest not in found else replace(one, unit=found[one.digest])
            for one in targets
        ]

    def erase_rows(self, project: str, targets: Sequence[Target], save: Save) -> list[Target]:
        """See ErasureStores."""
        done = list(targets)
        with understood(self.lake, _MEMORY_MB):
            for name in TABLES:
                while found := mentions(name, self._live(name, project), done).events:
                    for files in _chunks(sorted(found)):
                        done = self._thin(name, files, done)
                        save(done)
                # A crash may have left a deletion that readers do not see yet.
                self.do(lambda: self.sink.change(name, _unchanged)).result()  # noqa: B023  it waits
        return done

    def erase_rejected(self, project: str, targets: Sequence[Target], save: Save) -> list[Target]:
        """See ErasureStores."""
        done = list(targets)
        latest = max(one.moment_us for one in targets)
        above = 0
        wanted = Wanted(end_us=latest + 1)
        while numbers := self.rejected.numbers(project, wanted, above, _REJECTED_AT_ONCE):
            gone = []
            for number, event in self.rejected.get(project, numbers).items():
                place = self._concerned(project, event, done)
                if place is not None:
                    gone.append(number)
                    count = done[place].rejected_events + 1
                    done[place] = replace(done[place], rejected_events=count)
            if gone:
                self.rejected.settle(project, gone, {})
                save(done)
            above = numbers[-1]
        return done

    def scrub(self) -> None:
        """See ErasureStores."""
        # In the writer's thread, because only between its turns everything stored is trimmed.
        self.do(self.scrub_journal).result()
        self.rejected.scrub()

    def reflected(self) -> frozenset[str]:
        """See ErasureStores."""
        return read_marker(self.lake / MARKER) & read_marker(self.marker)

    def mark(self, erasures: Collection[str]) -> None:
        """See ErasureStores."""
        for path in (self.lake / MARKER, self.marker):
            write_marker(path, read_marker(path) | set(erasures))

    def remove_replaced(
        self, project: str, targets: Sequence[Target], grace: dt.timedelta
    ) -> tuple[list[Target], dt.timedelta | None]:
        """See ErasureStores."""
        done = list(targets)
        waits: list[dt.timedelta] = []
        with understood(self.lake, _MEMORY_MB):
            for name in TABLES:
                live = set(self._live(name, project))
                stale = [path for path in self._on_disk(name, project) if path not in live]
                # A rewrite that is under way holds nobody knows what until it is whole.
                unfinished = [path for path in stale if not _readable(path)]
                held = mentions(name, [p for p in stale if p not in unfinished], done)
                now = self.clock.now()
                left = {Path(path): grace - age(Path(path), now) for path in held.events}
                left |= {path: min(grace - age(path, now), _LOOK_AGAIN) for path in unfinished}
                ripe = [path for path, wait in left.items() if wait <= dt.timedelta(0)]
                waits += [wait for path, wait in left.items() if path not in ripe]
                self._remove(name, ripe)
                for path in ripe:
                    for place in held.rows.get(str(path), {}):
                        removed = done[place].files_removed + 1
                        done[place] = replace(done[place], files_removed=removed)
        return done, max(waits, default=None)

    def _remove(self, name: str, files: Sequence[Path]) -> None:
        """In the writer's thread: what it was just writing is part of the newest version there."""
        if files:
            self.do(lambda: self.sink.change(name, lambda t: remove_files(t, files))).result()

    def search(self, project: str, targets: Sequence[Target]) -> Searched:
        """See ErasureStores."""
        files = rows = 0
        with understood(self.lake, _MEMORY_MB):
            for name in TABLES:
                paths = self._readable(name, project)
                files += len(paths)
                found = mentions(name, paths, targets)
                rows += sum(len(events) for events in found.events.values())
        rows += sum(
            self._concerned(project, event, targets) is not None
            for event in self._rejected(project, max(one.moment_us for one in targets))
        )
        return Searched(files, rows, self._bytes_found(project, targets))

    def _bytes_found(self, project: str, targets: Sequence[Target]) -> int:
        ids = [one.unit.id for one in targets if one.unit is not None]
        if not ids or any(len(id_.encode()) < SHORTEST_SEARCHED_BYTES for id_ in ids):
            return -1
        needles = [id_.encode() for id_ in ids]
        found = bytes_in(log_files(self.lake), ids)
        for event in self._rejected(project, None):
            found += any(needle in event.payload for needle in needles)
        after = 0
        while entries := self.journal.read(after, _JOURNAL_BYTES):
            for entry in entries:
                found += any(needle in entry.batches for needle in needles)
            after = entries[-1].position
        return found

    def _thin(self, name: str, files: Sequence[str], targets: list[Target]) -> list[Target]:
        table = self.lake / name
        found = mentions(name, [Path(path) for path in files], targets)
        thinned = {
            path: thin(table, str(Path(path).relative_to(table)), found.events[path])
            for path in files
            if path in found.events
        }
        now = self.clock.now()

        def commit(writer: TableWriter) -> tuple[int, list[Thinned], int]:
            before = writer.version
            done = exchange(writer, list(thinned.values()), now)
            return before, done, writer.version

        before, exchanged, after = self.do(lambda: self.sink.change(name, commit)).result()
        for path, one in thinned.items():
            if one in exchanged:
                for place, count in found.rows[path].items():
                    targets[place] = targets[place].deleted(name, count, before, after)
        return targets

    def _live(self, name: str, project: str) -> list[Path]:
        """The files of the newest version, which readers may not see yet."""
        table = self.lake / name
        return [
            table / file.path
            for file in live_files(DeltaTable(table))
            if file.partition[0] == project
        ]

    def _on_disk(self, name: str, project: str) -> list[Path]:
        return list(files_on_disk(self.lake / name, project))

    def _readable(self, name: str, project: str) -> list[Path]:
        return [path for path in self._on_disk(name, project) if _readable(path)]

    def _rejected(self, project: str, latest_us: int | None) -> Iterator[RejectedEvent]:
        above = 0
        wanted = Wanted(end_us=None if latest_us is None else latest_us + 1)
        while numbers := self.rejected.numbers(project, wanted, above, _REJECTED_AT_ONCE):
            yield from self.rejected.get(project, numbers).values()
            above = numbers[-1]

    def _concerned(
        self, project: str, event: RejectedEvent, targets: Sequence[Target]
    ) -> int | None:
        """The place of the first target that the event mentions, as far as that can be told."""
        units = None if event.truncated else units_in(event.payload)
        names = {self.digest(project, *unit) for unit in units or ()}
        for place, one in enumerate(targets):
            if event.receive_time_us > one.moment_us:
                continue
            if units is None:
                # Of an unknown id in what cannot be read nobody can tell that it is not there.
                if one.unit is None or one.unit.id.encode() in event.payload:
                    return place
            elif one.digest in names:
                return place
        return None


def _unchanged(table: TableWriter) -> None:
    del table


def _chunks(files: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(files), FILES_A_COMMIT):
        yield files[first : first + FILES_A_COMMIT]


def _readable(path: Path) -> bool:
    """Whether a file is whole: a crash leaves a part of one, which no version names."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True
