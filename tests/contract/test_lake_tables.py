"""What EventTables promises its readers, and LakeWriter its flusher, over real Delta tables."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from shared.errors import Code, DomainError
from shared.lake.layout import TABLES
from shared.lake.rows import table_of
from shared.lake.snapshot import EngineLimits, LakeEventTables, Snapshot
from shared.lake.table import COMMITS_PER_HANDLE, TableWriter
from shared.lake.upkeep import CROWD
from shared.lake.watermark import (
    FILE_NAME,
    ConsistencyToken,
    Watermark,
    read_watermark,
    write_watermark,
)
from shared.lake.writer import LakeWriter

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOURNAL = "journal-a"


class SteppingClock:
    def __init__(self) -> None:
        self._time = START

    def now(self) -> datetime:
        self._time += timedelta(seconds=1)
        return self._time


def writer(lake: Path, journal_id: str = JOURNAL, settled: int = 0) -> LakeWriter:
    return LakeWriter(lake, journal_id, SteppingClock(), settled)


def conversions(
    ids: Sequence[str], position: int, project: str = "acme", days: int = 1, **extra: Any
) -> pa.Table:
    return table_of(
        "conversions",
        [
            {
                "event_id": event_id,
                "project": project,
                "event_time": START + timedelta(days=i % days),
                "unit_id": f"u{event_id}",
                "event_name": "buy",
                "value": float(i),
                "position": position,
            }
            | extra
            for i, event_id in enumerate(ids)
        ],
    )


def touchpoints(ids: Sequence[str], position: int, project: str = "acme") -> pa.Table:
    return table_of(
        "touchpoints",
        [
            {
                "event_id": event_id,
                "project": project,
                "event_time": START,
                "unit_id": "u",
                "channel": "email",
                "position": position,
            }
            for event_id in ids
        ],
    )


def ids(snapshot: Snapshot, name: str = "conversions") -> list[str]:
    with snapshot.read() as tables:
        return sorted(tables[name].event_id.to_pyarrow().to_pylist())


def test_a_lake_that_nobody_wrote_has_empty_typed_tables(tmp_path: Path) -> None:
    snapshot = LakeEventTables(tmp_path).snapshot("acme")
    assert snapshot.watermark.position == 0
    with snapshot.read() as tables:
        assert set(tables) == set(TABLES)
        for name, table in TABLES.items():
            answer = tables[name].to_pyarrow()
            assert answer.num_rows == 0
            assert answer.schema.names == table.schema.names


def test_a_table_without_rows_of_the_project_has_the_same_types_as_one_with_rows(
    tmp_path: Path,
) -> None:
    writer(tmp_path).append({"conversions": conversions(["a"], 1)}, 1)
    lake = LakeEventTables(tmp_path)
    with lake.snapshot("acme").read() as full, lake.snapshot("other").read() as empty:
        full_types = full["conversions"].to_pyarrow().schema
        assert full_types == empty["conversions"].to_pyarrow().schema
        assert [str(t) for t in full_types.types[2:4]] == ["date32[day]", "timestamp[us, tz=UTC]"]


def test_rows_return_as_they_were_written(tmp_path: Path) -> None:
    given = conversions(["a", "b", "c"], 1, days=2, properties={"k": "é"}, currency="EUR")
    writer(tmp_path).append({"conversions": given}, 1)
    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        answer = tables["conversions"].order_by("event_id").to_pyarrow()
    assert answer.to_pylist() == given.to_pylist()


@pytest.mark.parametrize("project", ["acme", "007", "2026-01-01", "true", "null", "a-b"])
def test_a_project_sees_its_own_rows_only(tmp_path: Path, project: str) -> None:
    rows = pa.concat_tables(
        [conversions(["mine"], 1, project=project), conversions(["theirs"], 1, project="rival")]
    )
    writer(tmp_path).append({"conversions": rows}, 1)
    snapshot = LakeEventTables(tmp_path).snapshot(project)
    assert ids(snapshot) == ["mine"]
    with snapshot.read() as tables:
        assert tables["conversions"].project.to_pyarrow().to_pylist() == [project]


def test_a_day_filter_reads_the_files_of_that_day_only(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a", "b", "c"], 1, days=3)}, 1)
    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        table = tables["conversions"]
        one_day = table.filter(table.day == (START + timedelta(days=1)).date())
        plan = str(one_day.get_backend().raw_sql(f"EXPLAIN ANALYZE {one_day.compile()}").fetchall())
        assert one_day.event_id.to_pyarrow().to_pylist() == ["b"]
    assert "1/3" in plan, plan


def test_a_column_that_was_added_later_is_null_in_older_tables(tmp_path: Path) -> None:
    schema = TABLES["conversions"].schema
    later = ["value", "currency", "linked_units", "content_digest"]
    old = conversions(["a"], 1).drop_columns(later)
    write_deltalake(tmp_path / "conversions", old, partition_by=["project", "day"])
    mark = Watermark(JOURNAL, 1, {"conversions": 0}, START)
    write_watermark(tmp_path, mark)

    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        answer = tables["conversions"].to_pyarrow()
        assert tables["conversions"].value.sum().to_pyarrow().as_py() is None
    assert answer.schema.names == schema.names
    assert answer.schema.types == schema.types
    (row,) = answer.to_pylist()
    assert (row["event_id"], row["project"], row["event_name"]) == ("a", "acme", "buy")
    assert [row[name] for name in later] == [None] * 4


def test_older_and_newer_files_are_one_table(tmp_path: Path) -> None:
    old = conversions(["a"], 1).drop_columns(["value"])
    write_deltalake(tmp_path / "conversions", old, partition_by=["project", "day"])
    new = conversions(["b"], 2)
    write_deltalake(tmp_path / "conversions", new, mode="append", schema_mode="merge")
    write_watermark(tmp_path, Watermark(JOURNAL, 2, {"conversions": 1}, START))

    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        rows = tables["conversions"].order_by("event_id").to_pyarrow().to_pylist()
    assert [(row["event_id"], row["value"]) for row in rows] == [("a", None), ("b", 0.0)]


def test_a_snapshot_does_not_move_when_more_is_written(tmp_path: Path) -> None:
    lake = LakeEventTables(tmp_path)
    target = writer(tmp_path)
    target.append({"conversions": conversions(["a"], 1)}, 1)
    before = lake.snapshot("acme")
    target.append({"conversions": conversions(["b"], 2), "touchpoints": touchpoints(["t"], 2)}, 2)
    assert ids(before) == ["a"]
    assert ids(before, "touchpoints") == []
    assert ids(lake.snapshot("acme")) == ["a", "b"]


def test_rows_without_a_watermark_are_not_seen(tmp_path: Path) -> None:
    target = writer(tmp_path)
    target.append({"conversions": conversions(["a"], 1)}, 1)
    TableWriter(tmp_path, TABLES["conversions"]).append(conversions(["b"], 2), JOURNAL, 2)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a"]


async def test_a_reader_waits_for_the_token_it_was_given(tmp_path: Path) -> None:
    target = writer(tmp_path)
    token = ConsistencyToken(JOURNAL, 1).encode()
    lake = LakeEventTables(tmp_path)
    waiting = asyncio.create_task(lake.wait_until(token, 20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    target.append({"conversions": conversions(["a"], 1)}, 1)
    await waiting
    snapshot = lake.snapshot("acme")
    assert ids(snapshot) == ["a"]
    assert snapshot.watermark.token() == token


async def test_a_token_that_is_not_reached_in_time_is_unavailable(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a"], 1)}, 1)
    token = ConsistencyToken(JOURNAL, 2).encode()
    with pytest.raises(DomainError, match=r"position 2 are not readable after 0\.05 s") as raised:
        await LakeEventTables(tmp_path).wait_until(token, 0.05)
    assert raised.value.code is Code.UNAVAILABLE
    assert raised.value.reason == "NOT_YET_FRESH"


async def test_a_token_of_another_log_is_refused_at_once(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a"], 1)}, 1)
    token = ConsistencyToken("journal-b", 1).encode()
    with pytest.raises(DomainError, match="no longer in use") as raised:
        await LakeEventTables(tmp_path).wait_until(token, 600)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_rows_handed_in_again_are_stored_once(tmp_path: Path) -> None:
    target = writer(tmp_path)
    target.append({"conversions": conversions(["a"], 1)}, 1)
    target.append({"conversions": conversions(["a"], 1)}, 1)
    both = pa.concat_tables([conversions(["a"], 1), conversions(["b"], 2)])
    writer(tmp_path).append({"conversions": both}, 2)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a", "b"]


def test_a_crash_between_two_tables_is_completed_and_never_shown(tmp_path: Path) -> None:
    target = writer(tmp_path)
    target.append({"conversions": conversions(["a"], 1)}, 1)
    TableWriter(tmp_path, TABLES["conversions"]).append(conversions(["b"], 2), JOURNAL, 2)

    restarted = writer(tmp_path)
    snapshot = LakeEventTables(tmp_path).snapshot("acme")
    assert (ids(snapshot), ids(snapshot, "touchpoints")) == (["a"], [])

    rows = {"conversions": conversions(["b"], 2), "touchpoints": touchpoints(["t"], 2)}
    restarted.append(rows, 2)
    snapshot = LakeEventTables(tmp_path).snapshot("acme")
    assert (ids(snapshot), ids(snapshot, "touchpoints")) == (["a", "b"], ["t"])


def test_a_second_writer_cannot_store_the_same_position_again(tmp_path: Path) -> None:
    first, second = writer(tmp_path), writer(tmp_path)
    first.append({"conversions": conversions(["a"], 1)}, 1)
    with pytest.raises(Exception, match="Concurrent transaction"):
        second.append({"conversions": conversions(["a"], 1)}, 1)
    second.reopen()
    second.append({"conversions": conversions(["a"], 1)}, 1)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a"]


def test_a_new_journal_continues_the_tables_of_the_old_one(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a"], 7)}, 7)
    renewed = writer(tmp_path, "journal-b")
    assert (renewed.watermark.journal_id, renewed.watermark.position) == ("journal-b", 0)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a"]
    renewed.append({"conversions": conversions(["b"], 1)}, 1)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a", "b"]


def test_a_lost_watermark_is_written_again_from_the_tables(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a"], 1)}, 1)
    (tmp_path / FILE_NAME).unlink()
    again = writer(tmp_path)
    again.append({"conversions": conversions(["a"], 1)}, 1)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a"]
    mark = read_watermark(tmp_path)
    assert mark is not None
    assert mark.position == 1


def test_handles_are_renewed_without_losing_a_commit(tmp_path: Path) -> None:
    target = writer(tmp_path)
    expected = []
    for position in range(1, COMMITS_PER_HANDLE + 3):
        expected.append(f"{position:03d}")
        target.append({"conversions": conversions([expected[-1]], position)}, position)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == expected


def test_another_program_reads_the_files_as_documented(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["a", "b"], 1, days=2)}, 1)
    files = str(tmp_path / "conversions" / "*" / "*" / "*.parquet")
    query = "select count(*), min(day), max(value) from read_parquet(?, hive_partitioning=true)"
    assert duckdb.execute(query, [files]).fetchone() == (2, START.date(), 1.0)


def test_an_unknown_table_is_a_key_error(tmp_path: Path) -> None:
    with LakeEventTables(tmp_path).snapshot("acme").read() as tables, pytest.raises(KeyError):
        tables["sessions"]


def test_upkeep_leaves_fewer_files_and_the_same_rows(tmp_path: Path) -> None:
    target = writer(tmp_path)
    expected = []
    for position in range(1, 2 * CROWD + 1):
        names = [f"{position:03d}{part}" for part in "abc"]
        expected += names
        target.append({"conversions": conversions(names, position, days=2)}, position)
    before = LakeEventTables(tmp_path).snapshot("acme")
    files = len(DeltaTable(tmp_path / "conversions").file_uris())
    target.tidy(budget_s=30)
    after = LakeEventTables(tmp_path).snapshot("acme")
    assert len(DeltaTable(tmp_path / "conversions").file_uris()) < files / 10
    assert ids(after) == ids(before) == expected
    assert after.watermark.position == before.watermark.position
    assert after.watermark.table_versions != before.watermark.table_versions
    target.append({"conversions": conversions(["last"], position + 1)}, position + 1)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == [*expected, "last"]


def test_upkeep_without_time_does_a_part_and_never_harms(tmp_path: Path) -> None:
    target = writer(tmp_path)
    for position in range(1, CROWD + 1):
        target.append({"conversions": conversions([f"{position:03d}"], position)}, position)
    target.tidy(budget_s=-1)
    assert len(ids(LakeEventTables(tmp_path).snapshot("acme"))) == CROWD
    target.tidy(budget_s=30)
    target.tidy(budget_s=30)
    assert len(DeltaTable(tmp_path / "conversions").file_uris()) == 1


def test_a_rewrite_of_a_second_writer_is_noticed(tmp_path: Path) -> None:
    """An append after somebody else's rewrite still stores its rows, once."""
    target = writer(tmp_path)
    for position in range(1, CROWD + 1):
        target.append({"conversions": conversions([f"{position:03d}"], position)}, position)
    writer(tmp_path).tidy(budget_s=30)
    target.append({"conversions": conversions(["new"], CROWD + 1)}, CROWD + 1)
    assert len(ids(LakeEventTables(tmp_path).snapshot("acme"))) == CROWD + 1


def test_a_read_spills_to_a_folder_of_its_own_that_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = EngineLimits(threads=1, memory_limit_mb=64)
    query = "SELECT current_setting('temp_directory'), current_setting('threads')"
    with LakeEventTables(tmp_path, limits).snapshot("acme").read() as tables:
        engine = tables["conversions"].get_backend()
        ((spill, threads),) = engine.raw_sql(query).fetchall()
        assert Path(spill).is_dir()
        assert threads == 1
    assert not Path(spill).exists()
    assert list(tmp_path.iterdir()) == []
