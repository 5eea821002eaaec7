"""Read a consistent cut of the event tables of one project."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ibis
import pyarrow as pa
from ibis.backends.sql.datatypes import DuckDBType
from ibis.expr import operations as ops

from shared.lake.failures import understood
from shared.lake.freshness import Freshness
from shared.lake.held import HeldFile, held_files
from shared.lake.interruption import interruptible
from shared.lake.layout import TABLES
from shared.lake.watermark import NOTHING_WRITTEN, Watermark, read_watermark


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one read may use: threads, and memory before it spills to the temporary folder."""

    threads: int = 2
    memory_limit_mb: int = 2048


class Snapshot(Protocol):
    """The event tables of one project as of one watermark."""

    @property
    def watermark(self) -> Watermark:
        """The cut that every read of this snapshot shows."""

    def read(self) -> AbstractContextManager[Mapping[str, ibis.Table]]:
        """The tables by name, with the columns of the layout and only the project's rows.

        Every name of the layout is there; a table without rows is empty and typed. Rows come in no
        order. The tables are usable inside the context only, which raises RESOURCE_EXHAUSTED when
        a question needs more memory than there is, and UNAVAILABLE when a file is missing or
        damaged.
        """

    def rows(self, name: str) -> int:
        """How many rows of the project a table has, which only a removal can make less."""

    def rows_after(self, name: str, position: int) -> str:
        """A query, for a connection of the caller's own to DuckDB, of the rows of the project with
        higher positions; it opens no file that holds none.
        """


class EventTables(Protocol):
    """Where the analysing services read events."""

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """Return when every later snapshot covers the token `at_least` (empty: at once).

        UNAVAILABLE after `timeout_s`; RESOURCE_EXHAUSTED when too many calls wait already. A token
        that is malformed or of another log is INVALID_ARGUMENT. Waiting holds no thread.
        """

    def snapshot(self, project: str) -> Snapshot:
        """The newest cut, without waiting; tables of a newer layout are FAILED_PRECONDITION."""


class LakeEventTables:
    """EventTables over Delta tables in a local folder, read by DuckDB."""

    def __init__(self, lake: Path, limits: EngineLimits | None = None) -> None:
        self._lake = lake
        self._limits = limits or EngineLimits()
        self._freshness = Freshness(lake)

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See EventTables."""
        await self._freshness.wait_until(at_least, timeout_s)

    def snapshot(self, project: str) -> Snapshot:
        """See EventTables."""
        watermark = read_watermark(self._lake) or NOTHING_WRITTEN
        return LakeSnapshot(self._lake, project, watermark, self._limits)


@dataclass(frozen=True, slots=True)
class LakeSnapshot:
    """See Snapshot."""

    lake: Path
    project: str
    watermark: Watermark
    limits: EngineLimits

    @contextmanager
    def read(self) -> Iterator[Mapping[str, ibis.Table]]:
        """See Snapshot."""
        # The engine's own default is a folder below wherever the process was started.
        with (
            understood(self.lake, self.limits.memory_limit_mb),
            tempfile.TemporaryDirectory(prefix="touchstone-spill-") as spill,
        ):
            engine = ibis.duckdb.connect(
                threads=self.limits.threads,
                memory_limit=f"{self.limits.memory_limit_mb}MB",
                temp_directory=spill,
            )
            try:
                engine.raw_sql("SET timezone = 'UTC'")
                with interruptible(engine.con.interrupt):
                    yield _LazyTables(lambda name: self._table(engine, name))
            finally:
                engine.disconnect()

    def rows(self, name: str) -> int:
        """See Snapshot."""
        with understood(self.lake, self.limits.memory_limit_mb):
            return sum(file.rows for file in self._files(name))

    def rows_after(self, name: str, position: int) -> str:
        """See Snapshot."""
        types = {
            column: DuckDBType.to_string(kind)
            for column, kind in ibis.Schema.from_pyarrow(_nullable(name)).items()
        }
        # Of a column that a file lacks, and of no file at all, this says the type.
        typed = ", ".join(f"NULL::{kind} AS {column}" for column, kind in types.items())
        none = f"SELECT {typed} WHERE false"
        with understood(self.lake, self.limits.memory_limit_mb):
            files = [str(one.path) for one in self._files(name) if one.last_position > position]
        if not files:
            return none
        listed = ", ".join(map(_quoted, files))
        rows = (
            f"SELECT * REPLACE ({_quoted(self.project)} AS project) FROM read_parquet([{listed}], "  # noqa: S608  all of it is ours, or quoted
            f"union_by_name = true, hive_partitioning = true) WHERE position > {position}"
        )
        return f"SELECT {', '.join(types)} FROM ({none} UNION ALL BY NAME {rows})"  # noqa: S608

    def _table(self, engine: ibis.BaseBackend, name: str) -> ibis.Table:
        types = dict(ibis.Schema.from_pyarrow(_nullable(name)))
        files = [str(file.path) for file in self._files(name)]
        if not files:
            return engine.create_table(name, schema=ibis.schema(types))
        rows = engine.read_parquet(
            files, table_name=f"files_of_{name}", union_by_name=True, hive_partitioning=True
        )
        # The engine guesses types from folder names: a project called 007 would become a number.
        # The files are the project's alone, so its name is stated, not read. It is stated in a view
        # of this connection: what is asked of the view says nothing of the project.
        types |= {column: kind for column, kind in rows.schema().items() if column in types}
        types["project"] = ibis.dtype("string")
        # Files of an older layout lack the columns that were added since: nobody sent them.
        told = {column: f"NULL::{DuckDBType.to_string(kind)}" for column, kind in types.items()}
        told |= {column: f'"{column}"' for column in rows.columns if column in types}
        told["project"] = _quoted(self.project)
        listed = ", ".join(f'{value} AS "{column}"' for column, value in told.items())
        engine.con.execute(f'CREATE TEMP VIEW "{name}" AS SELECT {listed} FROM files_of_{name}')  # noqa: S608  all of it is ours, or quoted
        return ops.DatabaseTable(name, schema=ibis.schema(types), source=engine).to_expr()

    def _files(self, name: str) -> list[HeldFile]:
        version = self.watermark.table_versions.get(name)
        return [] if version is None else list(held_files(self.lake / name, version, self.project))


class _LazyTables(Mapping[str, ibis.Table]):
    """Opens a table when it is first asked for: most questions touch two of them."""

    def __init__(self, open_table: Callable[[str], ibis.Table]) -> None:
        self._open_table = open_table
        self._opened: dict[str, ibis.Table] = {}

    def __getitem__(self, name: str) -> ibis.Table:
        if name not in TABLES:
            raise KeyError(name)
        if name not in self._opened:
            self._opened[name] = self._open_table(name)
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLES)

    def __len__(self) -> int:
        return len(TABLES)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _nullable(name: str) -> pa.Schema:
    """The types alone: a Parquet file, too, is read without its promises about nulls."""
    return pa.schema([pa.field(c.name, c.type) for c in TABLES[name].columns])
