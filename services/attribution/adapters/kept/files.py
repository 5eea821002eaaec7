"""The files of kept rows: the room that they take together, and which have to go."""

import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from services.attribution.adapters.journey_rows import EventRows, rows_of_table
from services.attribution.adapters.kept.stand import READ, Stand
from shared.lake.held import LiveDays
from shared.lake.removal import erased_so_far

_LOG = logging.getLogger(__name__)
_STAND, _BASE = b"stand", b"base"
_KINDS = (".arrow", ".base", ".new")
_ABANDONED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows, those that were added to them later, and the cut of both."""

    stand: Stand
    base: EventRows
    added: EventRows
    base_file: str


class KeptFiles:
    """Rows by name, those used last stay. Safe to use from several threads and processes.

    Of a name there are a file of rows, which is never changed, and one that says their cut and
    holds what was added, which is replaced as a whole. A name holds what was erased from the event
    tables before they were read for it: rows of another one go.
    """

    def __init__(self, folder: Path, lake: Path, most_bytes: int) -> None:
        self._folder, self._lake, self._most_bytes = folder, lake, most_bytes
        self._live = LiveDays(lake)
        self._lock = threading.Lock()

    def named(self, name: str) -> str:
        """The name of rows that are read from what the event tables hold now, or later."""
        return f"{name}-{erased_so_far(self._lake)}"

    def load(self, name: str) -> Kept | None:
        """The rows and their cut; None where there are none, or none that can be read."""
        path = self._path(name)
        try:
            self._forget_erased()
            if not path.exists():
                return None
            path.touch()
            said, added = _read(path)
            base_file = said[_BASE].decode()
            _, base = _read(self._folder / base_file)
            return Kept(Stand.decode(said[_STAND].decode()), base, added, base_file)
        except (OSError, ValueError, KeyError, TypeError):
            _LOG.warning("kept events cannot be used", exc_info=True)
            path.unlink(missing_ok=True)
            return None

    def save(self, name: str, stand: Stand, rows: EventRows) -> None:
        """Keep the rows in place of those before, unless there is no room for them."""
        tables = _tables(rows)
        if sum(table.nbytes for table in tables) > self._most_bytes:
            self._remove(name)
            return
        try:
            with self._lock:
                base = self._write(tables, f"{name}.", ".base")
                self._add(name, stand, rows.each(lambda each: each.first(0)), base.name)
                for path in self._folder.glob(f"{name}.*.base"):
                    if path != base:
                        path.unlink(missing_ok=True)
                self._make_room()
        except OSError:
            _LOG.warning("events cannot be kept", exc_info=True)

    def add(self, name: str, stand: Stand, added: EventRows, base_file: str) -> None:
        """Keep what was added to the rows of a file, and the cut of both."""
        try:
            with self._lock:
                self._add(name, stand, added, base_file)
                self._make_room()
        except OSError:
            _LOG.warning("events cannot be kept", exc_info=True)

    def forget_removed(self) -> None:
        """Remove every file that may hold what was erased or removed from the event tables since
        they were read for it, and what a process left that ended while it wrote.
        """
        self._forget_erased()
        stands = {path: _stand(path) for path in self._folder.glob("*.arrow")}
        for path, stand in stands.items():
            if stand is None or any(
                stand.days_of(table) - self._live.of(table, stand.project) for table in READ
            ):
                self._remove(path.stem)
        for path in self._folder.glob("*.new"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def _forget_erased(self) -> None:
        mark = erased_so_far(self._lake)
        for path in self._files():
            if not path.name.partition(".")[0].endswith(f"-{mark}"):
                path.unlink(missing_ok=True)

    def _add(self, name: str, stand: Stand, added: EventRows, base_file: str) -> None:
        tables = _tables(added)
        said = {_STAND: stand.encode().encode(), _BASE: base_file.encode()}
        tables[0] = tables[0].replace_schema_metadata(said)
        self._write(tables, f"{name}.", ".new").replace(self._path(name))

    def _write(self, tables: list[pa.Table], prefix: str, suffix: str) -> Path:
        """A new file with the tables."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=self._folder, prefix=prefix, suffix=suffix, delete=False
        ) as file:
            path = Path(file.name)
            try:
                for table in tables:
                    with pa.ipc.new_stream(file, table.schema) as stream:
                        stream.write_table(table.combine_chunks())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return path

    def _make_room(self) -> None:
        """Remove what was used longest ago, and first what nothing uses."""
        sizes = {path: path.stat().st_size for path in self._files()}
        total = sum(sizes.values())
        names = {path.name.partition(".")[0] for path in sizes}
        for name in sorted(names, key=self._used_at):
            if total <= self._most_bytes:
                break
            self._remove(name)
            total -= sum(size for path, size in sizes.items() if path.name.startswith(f"{name}."))

    def _files(self) -> list[Path]:
        """All files, also what a process left that ended while it wrote."""
        return [path for kind in _KINDS for path in self._folder.glob(f"*{kind}")]

    def _used_at(self, name: str) -> float:
        path = self._path(name)
        return path.stat().st_mtime if path.exists() else 0.0

    def _remove(self, name: str) -> None:
        for path in self._folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.arrow"


def _tables(rows: EventRows) -> list[pa.Table]:
    passed = [] if rows.milestones is None else [rows.milestones]
    return [each.table() for each in (rows.touches, rows.conversions, *passed)]


def _read(path: Path) -> tuple[Mapping[bytes, bytes], EventRows]:
    """What a file says besides its rows, and these."""
    tables: list[pa.Table] = []
    with pa.memory_map(str(path)) as source:
        while source.tell() < source.size() or not tables:
            tables.append(pa.ipc.open_stream(source).read_all())
    touches, conversions, *passed = (rows_of_table(table) for table in tables)
    rows = EventRows(touches, conversions, passed[0] if passed else None)
    return tables[0].schema.metadata or {}, rows


def _stand(path: Path) -> Stand | None:
    """The cut of the rows of a file; None where it cannot be read."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            return Stand.decode((stream.schema.metadata or {})[_STAND].decode())
    except (OSError, ValueError, KeyError, TypeError):
        return None
