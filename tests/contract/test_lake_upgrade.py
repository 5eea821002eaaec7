"""A new version of the program adds a column or a table: to a lake that has rows, and to a journal
in use; and the version before comes back.
"""

import datetime as dt
import struct
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from services.events.adapters.arrow_codec import MAGIC
from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.window_rebuild import rebuild
from services.events.application.flush import flush
from services.events.batch import Batch
from services.events.domain.dedupe import DedupeWindow
from services.events.domain.event import Event
from services.events.domain.limits import Limits
from shared.lake.layout import TABLES, EventTable
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.table import TableWriter
from shared.lake.upkeep import CROWD
from shared.lake.watermark import Watermark, read_watermark, write_watermark
from shared.lake.writer import LakeWriter
from shared.testing.fakes import CountingIds, FixedClock
from tests.contract.test_lake_tables import conversions
from tests.unit.events.events_making import batch_of, entry_of

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)
NEW_COLUMN = "currency"
LENGTH = struct.Struct("<I")


def older(name: str) -> EventTable:
    """The table as it was before the column came."""
    table = TABLES[name]
    columns = tuple(c for c in table.columns if c.name != NEW_COLUMN)
    return EventTable(name, table.meaning, columns)


def old_lake(lake: Path, names: Sequence[str], journal_id: str, position: int) -> None:
    rows = conversions(names, position).drop_columns([NEW_COLUMN])
    TableWriter(lake, older("conversions")).append(rows, journal_id, position)


def batch(event_id: str, currency: str | None = None) -> Batch:
    payload = ("buy", 1.0, currency)
    event = Event(event_id, NOW_US, "user", "u", None, None, None, "conversions", payload)
    return batch_of(event, receive_time_us=NOW_US)


def old_entry(event_id: str) -> bytes:
    """An entry as the older version encoded it."""
    stream = entry_of(batch(event_id))[len(MAGIC) + LENGTH.size :]
    rows = pa.ipc.open_stream(stream).read_all().drop_columns([NEW_COLUMN])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as out:
        out.write_table(rows)
    encoded: bytes = sink.getvalue().to_pybytes()
    return MAGIC + LENGTH.pack(len(encoded)) + encoded


def stored(lake: Path) -> dict[str, str | None]:
    rows = DeltaTable(lake / "conversions").to_pyarrow_table()
    assert set(rows.column_names) == set(TABLES["conversions"].schema.names)
    pairs = zip(rows["event_id"].to_pylist(), rows[NEW_COLUMN].to_pylist(), strict=True)
    return dict(sorted(pairs))


@pytest.fixture
def journal(tmp_path: Path) -> SqliteJournal:
    return SqliteJournal(tmp_path / "j.db", CountingIds())


def test_an_upgrade_with_a_backlog_stores_it_with_nulls(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    journal.append(entry_of())
    old_lake(tmp_path, ["stored"], journal.id, 1)
    journal.trim(1)
    journal.append(old_entry("waiting"))
    sink = DeltaSink(tmp_path, journal, FixedClock(NOW))
    journal.append(old_entry("mixed-old"))
    journal.append(entry_of(batch("mixed-new", "EUR")))
    flush(journal, sink, Limits())
    assert stored(tmp_path) == {
        "mixed-new": "EUR",
        "mixed-old": None,
        "stored": None,
        "waiting": None,
    }
    assert sink.position == journal.last
    journal.close()


def test_a_restart_after_the_upgrade_changes_no_schema_and_stores_nothing_twice(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    journal.append(old_entry("a"))
    old_lake(tmp_path, ["a"], journal.id, 1)
    for _ in range(2):
        sink = DeltaSink(tmp_path, journal, FixedClock(NOW))
        sink.store(journal.read(0, 10**9))
    assert stored(tmp_path) == {"a": None}
    assert DeltaTable(tmp_path / "conversions").version() == 2, "created, one append, one upgrade"
    journal.close()


def test_the_window_is_rebuilt_from_old_tables_and_an_old_backlog(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    journal.append(entry_of())
    old_lake(tmp_path, ["a"], journal.id, 1)
    journal.trim(1)
    DeltaSink(tmp_path, journal, FixedClock(NOW))
    journal.append(old_entry("b"))
    window: DedupeWindow[str] = DedupeWindow(3650)
    rebuild(window, tmp_path, journal, Limits(dedupe_window_days=3650), NOW)
    assert len(window) == 2
    journal.close()


def test_a_rewrite_joins_files_from_before_and_after(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    lake = tmp_path
    old_lake(lake, ["old"], journal.id, 1)
    table = TableWriter(lake, TABLES["conversions"])
    for position in range(2, CROWD + 2):
        table.append(conversions([f"{position}"], position, currency="EUR"), journal.id, position)
    LakeWriter(lake, journal.id, FixedClock(NOW)).tidy(budget_s=30)
    assert len(DeltaTable(lake / "conversions").file_uris()) == 1
    rows = stored(lake)
    assert (len(rows), rows["old"], rows["2"]) == (CROWD + 1, None, "EUR")
    journal.close()


def test_a_reader_sees_nulls_where_no_file_has_the_column_yet(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    old_lake(tmp_path, ["old"], journal.id, 1)
    journal.append(entry_of())
    DeltaSink(tmp_path, journal, FixedClock(NOW))
    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        rows = tables["conversions"].to_pyarrow()
    assert rows.column_names == TABLES["conversions"].schema.names
    assert rows.select(["event_id", NEW_COLUMN]).to_pylist() == [
        {"event_id": "old", NEW_COLUMN: None}
    ]
    journal.close()


def before_evaluations(lake: Path, journal_id: str) -> None:
    """A lake as the version before wrote it: without evaluations and without unlinks."""
    names = [name for name in TABLES if name != "evaluations"]
    tables = {name: TableWriter(lake, without_action(name)) for name in names}
    tables["conversions"].append(conversions(["a"], 1), journal_id, 1)
    tables["identifies"].append(links("l1", 1).drop_columns(["action"]), journal_id, 1)
    versions = {name: table.version for name, table in tables.items()}
    write_watermark(lake, Watermark(journal_id, 1, versions, NOW))


def without_action(name: str) -> EventTable:
    table = TABLES[name]
    return EventTable(name, table.meaning, tuple(c for c in table.columns if c.name != "action"))


def links(event_id: str, position: int, **extra: object) -> pa.Table:
    row = {
        "event_id": event_id,
        "project": "acme",
        "event_time": NOW,
        "unit_id": "u",
        "other_unit_type": "device",
        "other_unit_id": "d",
        "position": position,
    }
    return table_of("identifies", [row | extra])


def seen(lake: Path, name: str, *columns: str) -> list[dict[str, object]]:
    with LakeEventTables(lake).snapshot("acme").read() as tables:
        rows = tables[name].order_by("event_id").select(*columns).to_pyarrow()
    found: list[dict[str, object]] = rows.to_pylist()
    return found


def test_a_table_that_is_new_comes_to_an_older_lake_with_the_next_commit(tmp_path: Path) -> None:
    before_evaluations(tmp_path, "journal")
    assert seen(tmp_path, "evaluations", "event_id") == []
    assert seen(tmp_path, "identifies", "event_id", "action") == [
        {"event_id": "l1", "action": None}
    ]
    writer = LakeWriter(tmp_path, "journal", FixedClock(NOW))
    assert seen(tmp_path, "conversions", "event_id") == [{"event_id": "a"}]
    flag = {"event_id": "f", "project": "acme", "event_time": NOW, "unit_id": "u", "flag": "dark"}
    rows = {
        "evaluations": table_of("evaluations", [flag | {"position": 2}]),
        "identifies": links("l2", 2, action="unlink"),
    }
    writer.append(rows, 2)
    assert seen(tmp_path, "evaluations", "flag") == [{"flag": "dark"}]
    assert seen(tmp_path, "identifies", "event_id", "action") == [
        {"event_id": "l1", "action": None},
        {"event_id": "l2", "action": "unlink"},
    ]


def test_the_version_before_reads_every_row_of_what_the_newer_one_wrote(tmp_path: Path) -> None:
    """By the watermark's versions, its own tables and the columns that it knows."""
    before_evaluations(tmp_path, "journal")
    writer = LakeWriter(tmp_path, "journal", FixedClock(NOW))
    writer.append({"identifies": links("l2", 2, action="unlink")}, 2)
    mark = read_watermark(tmp_path)
    assert mark is not None
    known = without_action("identifies").schema.names
    version = mark.table_versions["identifies"]
    rows = DeltaTable(tmp_path / "identifies", version=version).to_pyarrow_table(columns=known)
    assert sorted(rows["event_id"].to_pylist()) == ["l1", "l2"]


def test_a_program_that_does_not_know_a_column_writes_on(tmp_path: Path) -> None:
    """After going back to it from a newer one, whose column stays."""
    TableWriter(tmp_path, TABLES["identifies"]).append(links("new", 1, action="unlink"), "j", 1)
    older_program = TableWriter(tmp_path, without_action("identifies"))
    older_program.append(links("old", 2).drop_columns(["action"]), "j", 2)
    rows = DeltaTable(tmp_path / "identifies").to_pyarrow_table(columns=["event_id", "action"])
    assert sorted(rows.to_pylist(), key=str) == [
        {"event_id": "new", "action": "unlink"},
        {"event_id": "old", "action": None},
    ]
