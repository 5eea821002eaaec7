"""Find the rows that mention units, in files of whatever version of the event tables."""

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from services.events.domain.erasure import Target, Unit
from shared.lake.layout import IDENTIFIES, TABLES

_FILES_AT_ONCE = 64
_DIGESTS_AT_ONCE = 65_536
_MEMORY_MB = 512
_NAMED = """
WITH stored AS NOT MATERIALIZED (
    SELECT *, filename AS file
    FROM read_parquet($files, filename = true, union_by_name = true, hive_partitioning = false)
), linked AS NOT MATERIALIZED (
    SELECT file, event_id, event_time, receive_time,
           unnest(from_json(linked_units, '[{"type": "VARCHAR", "id": "VARCHAR"}]')) AS unit
    FROM stored WHERE linked_units IS NOT NULL
), named AS NOT MATERIALIZED (
    SELECT file, event_id, event_time, receive_time, unit_type AS type, unit_id AS id FROM stored
    UNION ALL SELECT file, event_id, event_time, receive_time, unit.type, unit.id FROM linked
"""
_OTHER = """
    UNION ALL
    SELECT file, event_id, event_time, receive_time, other_unit_type, other_unit_id FROM stored
"""
_MENTIONS = """
SELECT DISTINCT file, event_id, target FROM named JOIN erased USING (type, id)
WHERE event_time <= moment OR receive_time <= moment
"""
_UNITS = " SELECT DISTINCT type, id FROM named"


@dataclass(frozen=True, slots=True)
class Mentions:
    """Event ids by file, and how many rows each target has in it, by its place."""

    events: dict[str, set[str]] = field(default_factory=dict)
    rows: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, file: str, event_id: str, target: int) -> None:
        """A row that mentions the target."""
        self.events.setdefault(file, set()).add(event_id)
        counts = self.rows.setdefault(file, {})
        counts[target] = counts.get(target, 0) + 1


def mentions(table: str, files: Sequence[Path], targets: Sequence[Target]) -> Mentions:
    """The rows of the files that mention a unit up to the moment of its erasure.

    A row does when it happened or was received by then, and the unit is its own, is linked to it,
    or is the other one of an identify event. Targets without a unit are passed over.
    """
    found = Mentions()
    known = [(place, one) for place, one in enumerate(targets) if one.unit is not None]
    if not known:
        return found
    erased = pa.table(
        {
            "target": [place for place, _ in known],
            "type": [one.unit.type for _, one in known if one.unit],
            "id": [one.unit.id for _, one in known if one.unit],
            "moment": pa.array([one.moment_us for _, one in known], pa.timestamp("us", "UTC")),
        }
    )
    with _engine() as engine:
        engine.register("erased", erased)
        for some in _portions(files):
            rows = engine.execute(_named(table) + _MENTIONS, {"files": some}).fetchall()
            for file, event_id, target in rows:
                found.add(file, event_id, target)
    return found


def matching_units(
    table: str, files: Sequence[Path], digest: Callable[[str, str], bytes], wanted: set[bytes]
) -> dict[bytes, Unit]:
    """The units of the files whose digest is wanted."""
    found: dict[bytes, Unit] = {}
    with _engine() as engine:
        for some in _portions(files):
            engine.execute(_named(table) + _UNITS, {"files": some})
            while units := engine.fetchmany(_DIGESTS_AT_ONCE):
                for kind, id_ in units:
                    name = digest(kind, id_)
                    if name in wanted:
                        found[name] = Unit(kind, id_)
    return found


def _named(table: str) -> str:
    """Every unit that a row names, as a row of its own. `$files` are the files."""
    return _NAMED + (_OTHER if table == IDENTIFIES.name else "") + ")"


def _portions(files: Sequence[Path]) -> Iterator[list[str]]:
    for first in range(0, len(files), _FILES_AT_ONCE):
        yield [str(path) for path in files[first : first + _FILES_AT_ONCE]]


@contextmanager
def _engine() -> Iterator[duckdb.DuckDBPyConnection]:
    # Beside the events that come in: little of the machine, and the rest on the disk for as long as
    # a question takes.
    with tempfile.TemporaryDirectory(prefix="touchstone-spill-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "memory_limit": f"{_MEMORY_MB}MB",
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=config) as engine:
            engine.execute("SET timezone = 'UTC'")
            yield engine


def bytes_in(files: Sequence[Path], ids: Sequence[str]) -> int:
    """In how many of the files the bytes of an id stand."""
    needles = [id_.encode() for id_ in ids]
    return sum(1 for path in files if _holds(path, needles))


def _holds(path: Path, needles: Sequence[bytes]) -> bool:
    longest = max(map(len, needles), default=1)
    tail = b""
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                text = tail + block
                if any(needle in text for needle in needles):
                    return True
                tail = text[-longest:]
    except FileNotFoundError:
        return False
    return False


def log_files(lake: Path) -> list[Path]:
    """The files that tell of the tables: their logs, and the watermark beside them."""
    logs = [path for name in TABLES for path in (lake / name / "_delta_log").glob("*")]
    return [path for path in logs if path.is_file()]


def age(path: Path, now: dt.datetime) -> dt.timedelta:
    """How long ago a file was written, or was replaced."""
    return now - dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
