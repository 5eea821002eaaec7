"""Rows that mention a unit are found whatever its id looks like, in files of any version."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from services.events.adapters.erased_rows import bytes_in, matching_units, mentions
from services.events.domain.erasure import Target, Unit
from shared.lake.removal import files_on_disk
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 6, 10, 12, tzinfo=dt.UTC)
LATER = dt.timedelta(hours=1)
ODD = ["it's", 'quo"te', "back\\slash", "percent%_", "Ünïcode 中", "a, b; DROP", "💳", "1", "null"]


def us(time: dt.datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def digest(kind: str, id_: str) -> bytes:
    return hashlib.blake2b(f"{kind}:{id_}".encode(), digest_size=16).digest()


def target(id_: str, kind: str = "user", moment: dt.datetime = NOW) -> Target:
    return Target("era", digest(kind, id_), us(moment), Unit(kind, id_))


def row(name: str, unit: str, time: dt.datetime = NOW, **fields):
    base = {"event_id": name, "project": "007", "event_time": time, "unit_id": unit}
    return {**base, "event_name": "buy", **fields}


def written(folder: Path, table: str, rows) -> list[Path]:
    writer = LakeWriter(folder / "lake", "journal", FixedClock(NOW))
    writer.append({table: table_of(table, rows)}, 1)
    return list(files_on_disk(folder / "lake" / table, "007"))


def found(table: str, files: list[Path], *targets: Target) -> list[str]:
    return sorted(
        name for names in mentions(table, files, targets).events.values() for name in names
    )


@pytest.mark.parametrize("id_", ODD)
def test_odd_ids_are_found_exactly_as_unit_and_as_linked_unit(tmp_path, id_: str) -> None:
    others = [other for other in ODD if other != id_]
    rows = [row(f"other{n}", other) for n, other in enumerate(others)]
    rows += [
        row("own", id_),
        row("linked", "x", linked_units=[{"type": "a", "id": "b"}, {"type": "user", "id": id_}]),
        row("other-type", "x", linked_units=[{"type": "device", "id": id_}]),
        row("longer", f"{id_}1"),
    ]
    files = written(tmp_path, "conversions", rows)
    assert found("conversions", files, target(id_)) == ["linked", "own"]
    assert found("conversions", files, target(id_, "device")) == ["other-type"]
    units = matching_units("conversions", files, digest, {digest("user", id_)})
    assert units == {digest("user", id_): Unit("user", id_)}


def test_other_unit_of_an_identify_event_is_found(tmp_path) -> None:
    rows = [
        row("one", "x", other_unit_type="user", other_unit_id="gone"),
        row("two", "gone", other_unit_type="user", other_unit_id="x"),
        row("three", "x", other_unit_type="device", other_unit_id="gone"),
    ]
    for one in rows:
        del one["event_name"]
    files = written(tmp_path, "identifies", rows)
    assert found("identifies", files, target("gone")) == ["one", "two"]


def test_rows_that_happened_and_came_after_the_moment_stay(tmp_path) -> None:
    rows = [
        row("before", "u", NOW),
        row("late", "u", NOW, receive_time=NOW + LATER),
        row("ahead", "u", NOW + LATER, receive_time=NOW),
        row("after", "u", NOW + LATER, receive_time=NOW + LATER),
    ]
    files = written(tmp_path, "conversions", rows)
    assert found("conversions", files, target("u")) == ["ahead", "before", "late"]


def test_rows_are_counted_for_each_target(tmp_path) -> None:
    rows = [row("a", "u1"), row("b", "u2"), row("c", "u2"), row("d", "u3")]
    files = written(tmp_path, "conversions", rows)
    unknown = Target("era", b"", us(NOW))
    result = mentions("conversions", files, [target("u1"), unknown, target("u2")])
    assert list(result.rows.values()) == [{0: 1, 2: 2}]


def test_bytes_are_found_across_the_blocks_that_a_file_is_read_in(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * ((1 << 20) - 4) + b"customer-4711" + b"y" * 100)
    assert bytes_in([path, tmp_path / "gone"], ["customer-4711"]) == 1
    assert bytes_in([path], ["customer-4712"]) == 0
