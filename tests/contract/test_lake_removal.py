"""Rows are removed from the files that hold them; readers see whole versions throughout."""

import datetime as dt
from pathlib import Path

import pytest

from shared.lake.removal import (
    drop_days,
    exchange,
    files_on_disk,
    read_marker,
    remove_files,
    thin,
    write_marker,
)
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables, Snapshot
from shared.lake.upkeep import live_files
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 6, 10, 12, tzinfo=dt.UTC)


def rows(position: int, names: dict[str, int], project: str = "acme"):
    return table_of(
        "conversions",
        [
            {
                "event_id": name,
                "project": project,
                "event_time": NOW - dt.timedelta(days=days),
                "unit_id": f"unit-of-{name}",
                "event_name": "buy",
                "position": position,
            }
            for name, days in names.items()
        ],
    )


def visible(snapshot: Snapshot) -> list[str]:
    with snapshot.read() as tables:
        return sorted(tables["conversions"].to_pyarrow()["event_id"].to_pylist())


@pytest.fixture
def writer(tmp_path: Path) -> LakeWriter:
    made = LakeWriter(tmp_path / "lake", "journal", FixedClock(NOW))
    made.append({"conversions": rows(1, {"a": 0, "b": 0, "c": 5})}, 1)
    made.append({"conversions": rows(2, {"d": 0, "other": 9}, "beta")}, 2)
    return made


def holding(lake: Path, project: str, name: str) -> str:
    """The path, within its table, of the file that holds an event."""
    import pyarrow.parquet as pq

    for path in files_on_disk(lake / "conversions", project):
        if name in pq.read_table(path, columns=["event_id"])["event_id"].to_pylist():
            return str(path.relative_to(lake / "conversions"))
    raise AssertionError(name)


def test_file_is_written_anew_without_the_events(tmp_path: Path, writer: LakeWriter) -> None:
    lake = tmp_path / "lake"
    before = LakeEventTables(lake).snapshot("acme")
    path = holding(lake, "acme", "a")
    thinned = thin(lake / "conversions", path, {"a", "never stored"})
    assert thinned.removed_rows == 1
    assert visible(before) == ["a", "b", "c"], "nothing is seen before the commit"
    writer.change("conversions", lambda table: exchange(table, [thinned], NOW))
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["b", "c"]
    assert visible(before) == ["a", "b", "c"], "a snapshot that was taken before stays whole"
    assert visible(LakeEventTables(lake).snapshot("beta")) == ["d", "other"]
    removed = writer.change(
        "conversions", lambda table: remove_files(table, [lake / "conversions" / path])
    )
    assert removed == 1
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["b", "c"]
    assert b"unit-of-a" not in b"".join(p.read_bytes() for p in lake.rglob("*") if p.is_file())


def test_statistics_of_a_thinned_file_are_those_that_readers_filter_by(
    tmp_path: Path, writer: LakeWriter
) -> None:
    lake = tmp_path / "lake"
    thinned = thin(lake / "conversions", holding(lake, "acme", "a"), {"a"})
    writer.change("conversions", lambda table: exchange(table, [thinned], NOW))
    files = writer.change("conversions", lambda table: list(live_files(table.handle)))
    assert {file.first_position for file in files} == {1, 2}


def test_file_without_any_other_row_goes_without_another(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    thinned = thin(lake / "conversions", holding(lake, "acme", "c"), {"c"})
    assert thinned.rest is None
    writer.change("conversions", lambda table: exchange(table, [thinned], NOW))
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["a", "b"]


def test_file_that_was_replaced_meanwhile_is_left_out(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    path = holding(lake, "acme", "a")
    first = thin(lake / "conversions", path, {"a"})
    second = thin(lake / "conversions", path, {"b"})
    assert writer.change("conversions", lambda table: exchange(table, [first], NOW)) == [first]
    assert writer.change("conversions", lambda table: exchange(table, [second], NOW)) == []
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["b", "c"]


def test_appends_go_on_after_a_removal_and_count_once(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    thinned = thin(lake / "conversions", holding(lake, "acme", "a"), {"a"})
    writer.change("conversions", lambda table: exchange(table, [thinned], NOW))
    for _ in range(2):
        writer.append({"conversions": rows(3, {"e": 0})}, 3)
    again = LakeWriter(lake, "journal", FixedClock(NOW), settled=3)
    again.append({"conversions": rows(1, {"a": 0})}, 1)
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["b", "c", "e"]


def test_whole_days_are_dropped_of_one_project_only(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    day = (NOW - dt.timedelta(days=4)).date()
    old = holding(lake, "acme", "c")
    dropped = writer.change("conversions", lambda table: drop_days(table, "acme", day, NOW))
    assert dropped == 1
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["a", "b"]
    assert visible(LakeEventTables(lake).snapshot("beta")) == ["d", "other"]
    assert (lake / "conversions" / old).exists(), "a reader may still hold it"


def test_file_that_the_newest_version_stands_on_is_never_removed(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    every = list(files_on_disk(lake / "conversions", "acme"))
    assert writer.change("conversions", lambda table: remove_files(table, every)) == 0
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["a", "b", "c"]


def test_marker_that_is_missing_or_damaged_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "marker.json"
    assert read_marker(path) == frozenset()
    write_marker(path, {"two", "one"})
    assert read_marker(path) == {"one", "two"}
    path.write_text("{")
    assert read_marker(path) == frozenset()


def test_deletion_that_was_not_published_is_with_the_next_change(tmp_path: Path, writer) -> None:
    lake = tmp_path / "lake"
    thinned = thin(lake / "conversions", holding(lake, "acme", "a"), {"a"})

    def cut_off(table) -> None:
        exchange(table, [thinned], NOW)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.change("conversions", cut_off)
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["a", "b", "c"]
    writer.change("exposures", lambda table: None)
    assert visible(LakeEventTables(lake).snapshot("acme")) == ["b", "c"]
    before = writer.watermark
    writer.change("exposures", lambda table: None)
    assert writer.watermark is before, "nothing changed: nothing is written"
