"""The files of kept rows: the room that they take together, and which have to go."""

import hashlib
import logging
import tempfile
import threading
from pathlib import Path

import pyarrow as pa

from services.attribution.adapters.journey_rows import EventRows, rows_of_table
from services.attribution.adapters.kept.stand import Stand
from shared.lake.removal import MARKER

_LOG = logging.getLogger(__name__)
_STAND = b"stand"
MARK = "removals"
"""The file that says which erasures the kept rows reflect."""


class KeptFiles:
    """Rows by name, each a file; those used last stay. Safe to use from several threads and
    processes: a file is replaced as a whole.
    """

    def __init__(self, folder: Path, lake: Path, most_bytes: int) -> None:
        self._folder, self._lake, self._most_bytes = folder, lake, most_bytes
        self._lock = threading.Lock()

    def load(self, name: str) -> tuple[Stand, EventRows] | None:
        """The rows and their cut; None where there are none, or none that can be read."""
        path = self._path(name)
        try:
            self.forget_removed()
            if not path.exists():
                return None
            path.touch()
            with pa.memory_map(str(path)) as source:
                first = pa.ipc.open_stream(source)
                stand = Stand.decode(first.schema.metadata[_STAND].decode())
                tables = [first.read_all()]
                while source.tell() < source.size():
                    tables.append(pa.ipc.open_stream(source).read_all())
            touches, conversions, *passed = (rows_of_table(table) for table in tables)
        except (OSError, ValueError, KeyError, TypeError):
            _LOG.warning("kept events cannot be used", exc_info=True)
            path.unlink(missing_ok=True)
            return None
        return stand, EventRows(touches, conversions, passed[0] if passed else None)

    def save(self, name: str, stand: Stand, rows: EventRows) -> None:
        """Keep the rows, unless there is no room for them."""
        passed = [] if rows.milestones is None else [rows.milestones]
        tables = [each.table() for each in (rows.touches, rows.conversions, *passed)]
        if sum(table.nbytes for table in tables) > self._most_bytes:
            self._path(name).unlink(missing_ok=True)
            return
        tables[0] = tables[0].replace_schema_metadata({_STAND: stand.encode().encode()})
        try:
            self._write(name, tables)
        except OSError:
            _LOG.warning("events cannot be kept", exc_info=True)

    def forget_removed(self) -> None:
        """Remove every file when something was erased from the event tables since they were made:
        they may hold it.
        """
        with self._lock:
            mark = _digest(self._lake / MARKER)
            kept = self._folder / MARK
            if kept.exists() and kept.read_text() == mark:
                return
            for path in self._folder.glob("*.arrow*"):
                path.unlink(missing_ok=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(mark)

    def _write(self, name: str, tables: list[pa.Table]) -> None:
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self._folder, prefix=f"{name}.arrow-", delete=False
            ) as file:
                path = Path(file.name)
                try:
                    for table in tables:
                        with pa.ipc.new_stream(file, table.schema) as stream:
                            stream.write_table(table.combine_chunks())
                    file.flush()
                    path.replace(self._path(name))
                finally:
                    path.unlink(missing_ok=True)
            self._make_room()

    def _make_room(self) -> None:
        """Remove what was used longest ago."""
        used = sorted(
            (path.stat().st_mtime, path.stat().st_size, path)
            for path in self._folder.glob("*.arrow")
        )
        total = sum(size for _, size, _ in used)
        for _, size, path in used:
            if total <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.arrow"


def _digest(marker: Path) -> str:
    try:
        return hashlib.sha256(marker.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "none"
