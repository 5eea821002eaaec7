"""Upkeep of real tables: the same rows from fewer files, and nothing removed that is wanted."""

import datetime as dt
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from shared.lake.housekeeping import INLINE_BYTES, SWEEP_EVERY
from shared.lake.layout import TABLES
from shared.lake.rewrite import join
from shared.lake.snapshot import LakeEventTables
from shared.lake.sweep import KEEP_REPLACED, KEEP_VERSIONS
from shared.lake.table import TableWriter
from shared.lake.upkeep import CROWD, QUIET
from shared.lake.watermark import read_watermark
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from tests.contract.test_lake_tables import JOURNAL, conversions, ids

WAIT_S = 60.0
LARGE = 2 * INLINE_BYTES // CROWD


@pytest.fixture
def clock() -> FixedClock:
    # The library dates files by the machine's clock.
    return FixedClock(dt.datetime.now(dt.UTC))


@pytest.fixture
def lake(tmp_path: Path, clock: FixedClock) -> Iterator[LakeWriter]:
    writer = LakeWriter(tmp_path, JOURNAL, clock)
    yield writer
    writer.close()


def fill(writer: LakeWriter, commits: int, row_bytes: int = 1, first: int = 1) -> list[str]:
    names = [f"{position:05d}" for position in range(first, first + commits)]
    for position, name in enumerate(names, first):
        rows = conversions([name], position, properties={"k": secrets.token_hex(row_bytes // 2)})
        writer.append({"conversions": rows}, position)
    return names


def files(folder: Path) -> list[Path]:
    return [Path(uri) for uri in DeltaTable(folder / "conversions").file_uris()]


def on_disk(folder: Path) -> set[Path]:
    return set((folder / "conversions").glob("project=*/day=*/*"))


def seen(folder: Path) -> list[str]:
    return ids(LakeEventTables(folder).snapshot("acme"))


def tidy_until_one_file(writer: LakeWriter, folder: Path) -> None:
    end = time.monotonic() + WAIT_S
    while len(files(folder)) > 1:
        assert time.monotonic() < end, "the background rewrite never came"
        writer.tidy(budget_s=0.3)
        time.sleep(0.02)


def test_a_large_rewrite_takes_no_turn_from_the_events(tmp_path: Path, lake: LakeWriter) -> None:
    names = fill(lake, CROWD, LARGE)
    start = time.monotonic()
    lake.tidy(budget_s=0.3)
    assert time.monotonic() - start < 1.0
    assert len(files(tmp_path)) == CROWD, "the rewrite is done elsewhere"
    tidy_until_one_file(lake, tmp_path)
    assert seen(tmp_path) == names
    newest = read_watermark(tmp_path)
    assert newest is not None
    assert newest.table_versions["conversions"] == DeltaTable(tmp_path / "conversions").version()


def test_what_arrives_during_a_large_rewrite_stays(tmp_path: Path, lake: LakeWriter) -> None:
    names = fill(lake, CROWD, LARGE)
    lake.tidy(budget_s=0.3)
    names += fill(lake, 2, first=CROWD + 1)
    end = time.monotonic() + WAIT_S
    while len(files(tmp_path)) > 3:
        assert time.monotonic() < end
        lake.tidy(budget_s=0.3)
        time.sleep(0.02)
    assert seen(tmp_path) == names


def test_a_rewrite_of_a_file_that_was_replaced_meanwhile_is_dropped(
    tmp_path: Path, lake: LakeWriter
) -> None:
    """Or rows that were erased would come back."""
    names = fill(lake, CROWD, LARGE)
    lake.tidy(budget_s=0.3)
    DeltaTable(tmp_path / "conversions").delete(f"event_id = '{names[3]}'")
    lake.reopen()
    time.sleep(3)
    lake.tidy(budget_s=0.3)
    fill(lake, 1, first=CROWD + 1)
    assert names[3] not in seen(tmp_path)
    assert len(seen(tmp_path)) == CROWD


def test_a_rewrite_that_was_stopped_is_begun_anew(
    tmp_path: Path, lake: LakeWriter, clock: FixedClock
) -> None:
    names = fill(lake, CROWD, LARGE)
    lake.tidy(budget_s=0.3)
    lake.close()
    again = LakeWriter(tmp_path, JOURNAL, clock)
    tidy_until_one_file(again, tmp_path)
    assert seen(tmp_path) == names


def test_a_closed_day_becomes_one_file(tmp_path: Path, lake: LakeWriter, clock: FixedClock) -> None:
    names = fill(lake, 3)
    lake.tidy(budget_s=1)
    assert len(files(tmp_path)) == 3
    clock.advance(QUIET + dt.timedelta(minutes=1))
    names += fill(lake, 16, first=4)
    LakeWriter(tmp_path, JOURNAL, clock).tidy(budget_s=1)
    assert len(files(tmp_path)) == 1
    assert seen(tmp_path) == names


def test_the_log_bounds_the_times_of_a_joined_file(tmp_path: Path, lake: LakeWriter) -> None:
    fill(lake, CROWD)
    lake.tidy(budget_s=5)
    (row,) = pa.table(
        DeltaTable(tmp_path / "conversions").get_add_actions(flatten=True)
    ).to_pylist()
    table = DeltaTable(tmp_path / "conversions").to_pyarrow_table()
    for name in ("event_time", "receive_time", "position"):
        values = table[name].to_pylist()
        assert row[f"min.{name}"] <= min(values)
        assert row[f"max.{name}"] >= max(values)
        assert row[f"null_count.{name}"] == 0
    assert row["num_records"] == CROWD


def test_a_bound_is_never_tighter_than_its_microseconds(tmp_path: Path) -> None:
    table = TableWriter(tmp_path, TABLES["conversions"])
    moment = dt.datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=dt.UTC)
    table.append(conversions(["a"], 1, event_time=moment), JOURNAL, 1)
    paths = [str(p.relative_to(table.path)) for p in files(tmp_path)]
    statistics = join(table.path, paths).statistics
    assert '"event_time": "2026-01-01T12:00:00.123Z"' in statistics
    assert '"event_time": "2026-01-01T12:00:00.124Z"' in statistics


def test_replaced_files_stay_for_a_day_however_old_they_are(
    tmp_path: Path, lake: LakeWriter, clock: FixedClock
) -> None:
    fill(lake, CROWD)
    replaced = on_disk(tmp_path)
    clock.advance(dt.timedelta(days=3))
    lake.tidy(budget_s=5)
    lake.tidy(budget_s=5)
    (live,) = files(tmp_path)
    clock.advance(KEEP_REPLACED - dt.timedelta(minutes=1))
    lake.tidy(budget_s=5)
    assert on_disk(tmp_path) == replaced | {live}
    clock.advance(SWEEP_EVERY)
    lake.tidy(budget_s=5)
    assert on_disk(tmp_path) == {live}


def test_leftovers_of_a_crash_are_removed_after_a_day(
    tmp_path: Path, lake: LakeWriter, clock: FixedClock
) -> None:
    names = fill(lake, 2)
    live = on_disk(tmp_path)
    old, new = (min(live).with_name(f"part-{age}.zstd.parquet") for age in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"PAR1")
    before = (clock.now() - KEEP_REPLACED).timestamp()
    os.utime(old, (before, before))
    clock.advance(SWEEP_EVERY)
    lake.tidy(budget_s=5)
    assert on_disk(tmp_path) == live | {new}
    assert seen(tmp_path) == names


def test_nothing_is_removed_that_the_watermark_stands_on(
    tmp_path: Path, lake: LakeWriter, clock: FixedClock
) -> None:
    """A crash between the commit of a rewrite and the watermark, then a long pause."""
    names = fill(lake, CROWD)
    needed = on_disk(tmp_path)
    mark = (tmp_path / "_watermark.json").read_bytes()
    lake.tidy(budget_s=5)
    assert len(files(tmp_path)) == 1
    (tmp_path / "_watermark.json").write_bytes(mark)
    clock.advance(KEEP_REPLACED * 2)
    again = LakeWriter(tmp_path, JOURNAL, clock)
    assert seen(tmp_path) == names
    clock.advance(SWEEP_EVERY)
    again.tidy(budget_s=5)
    assert on_disk(tmp_path) >= needed, "readers may have opened the version before"
    assert seen(tmp_path) == names


def test_the_log_does_not_grow_for_ever(
    tmp_path: Path, lake: LakeWriter, clock: FixedClock
) -> None:
    log = tmp_path / "conversions" / "_delta_log"
    names = fill(lake, 230)
    before = len(list(log.iterdir()))
    clock.advance(SWEEP_EVERY)
    lake.tidy(budget_s=5)
    assert len(list(log.iterdir())) >= before, "a reader may open any version of the last hour"
    clock.advance(KEEP_VERSIONS)
    lake.tidy(budget_s=5)
    kept = sorted(log.iterdir())
    assert kept[0].name.startswith("00000000000000000199")
    assert len(kept) < before / 4
    assert seen(tmp_path) == names
    assert DeltaTable(tmp_path / "conversions", version=205).version() == 205
    names += fill(LakeWriter(tmp_path, JOURNAL, clock), 1, first=231)
    assert seen(tmp_path) == names
