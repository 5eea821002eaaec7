"""The files of states: open ones, the room that all take, and which have to go."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from shared.lake.removal import erased_so_far
from shared.lake.snapshot import EngineLimits

_LOG = logging.getLogger(__name__)
LOG = ".duckdb.wal"


@dataclass(frozen=True, slots=True)
class ShelfLimits:
    """What states may use: bytes on the disk, how many are open, and the engine of each."""

    most_bytes: int
    most_open: int = 2
    engine: EngineLimits = field(default_factory=EngineLimits)


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    database: duckdb.DuckDBPyConnection | None = None


class Shelf:
    """States by name, each a file; those used last stay. Safe to use from several threads.

    A name holds what was erased from the event tables before they were read for it: the state of
    another one goes.
    """

    def __init__(self, folder: Path, lake: Path, limits: ShelfLimits) -> None:
        self._folder, self._lake, self._limits = folder, lake, limits
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def named(self, name: str) -> str:
        """The name of a state that begins with what the event tables hold now, or later."""
        return f"{name}-{erased_so_far(self._lake)}"

    @contextmanager
    def use(self, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a state, which nobody else uses meanwhile. A new state is empty.

        duckdb.Error for a file that cannot be read or that another process has open.
        """
        self.forget_removed()
        held = self._take(name)
        with held.lock:
            if held.database is None:
                held.database = self._open(name)
            self._path(name).touch()
            connection = held.database.cursor()
            try:
                connection.execute("SET timezone = 'UTC'")
                yield connection
            finally:
                connection.close()
        self._make_room(name)

    def drop(self, name: str, *, wait: bool = True) -> bool:
        """Remove a state; one that is in use goes when it is free, or stays without waiting."""
        held = self._take(name)
        if not held.lock.acquire(blocking=wait):
            return False
        try:
            self._remove(name, held)
        finally:
            held.lock.release()
        return True

    def forget_removed(self) -> None:
        """Remove every state when something was erased from the event tables since they were made:
        they may hold it.
        """
        mark = erased_so_far(self._lake)
        for path in self._folder.glob("*.duckdb"):
            if not path.stem.endswith(f"-{mark}"):
                self.drop(path.stem)

    def close(self) -> None:
        """Close every state."""
        with self._lock:
            every = list(self._held.values())
        for held in every:
            with held.lock:
                self._shut(held)

    def _take(self, name: str) -> _Held:
        with self._lock:
            held = self._held.setdefault(name, _Held())
            self._held.move_to_end(name)
            return held

    def _open(self, name: str) -> duckdb.DuckDBPyConnection:
        engine = self._limits.engine
        self._folder.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(
            str(self._path(name)),
            config={
                "threads": engine.threads,
                "memory_limit": f"{engine.memory_limit_mb}MB",
                # A checkpoint rewrites what few changes touched all over; it can wait.
                "checkpoint_threshold": "256MB",
            },
        )

    def _make_room(self, used: str) -> None:
        """Close what is open beyond the limit, and remove what was used longest ago."""
        with self._lock:
            open_ = [held for held in self._held.values() if held.database is not None]
            others = [held for held in open_ if held is not self._held.get(used)]
        for held in others[: max(0, len(open_) - self._limits.most_open)]:
            if held.lock.acquire(blocking=False):
                try:
                    self._shut(held)
                finally:
                    held.lock.release()
        states = sorted((self._used_at(path), path) for path in self._folder.glob("*.duckdb"))
        total = sum(self._size(path) for _, path in states)
        for _, path in states:
            if total <= self._limits.most_bytes:
                break
            size = self._size(path)
            if self.drop(path.stem, wait=False):
                _LOG.info("removed a state of results to make room")
                total -= size

    @staticmethod
    def _used_at(path: Path) -> float:
        # Another thread may remove it meanwhile.
        return path.stat().st_mtime if path.exists() else 0.0

    @staticmethod
    def _size(path: Path) -> int:
        """Of a state with its log of changes."""
        both = (path, path.with_suffix(LOG))
        return sum(one.stat().st_size for one in both if one.exists())

    @staticmethod
    def _shut(held: _Held) -> None:
        if held.database is not None:
            held.database.close()
            held.database = None

    def _remove(self, name: str, held: _Held) -> None:
        self._shut(held)
        for path in (self._path(name), self._path(name).with_suffix(LOG)):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.duckdb"
