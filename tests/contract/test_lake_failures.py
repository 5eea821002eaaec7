"""What a reader is told when memory is short, or files are missing or damaged."""

import datetime as dt
import logging
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from shared.errors import Code, DomainError
from shared.lake.rows import table_of
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.watermark import FILE_NAME
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock

START = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
Harm = Callable[[Path], object]


def write(lake: Path) -> None:
    rows = [
        {
            "event_id": f"e{number}",
            "project": "acme",
            "event_time": START,
            "unit_id": f"u{number}",
            "event_name": "buy",
            "value": 1.0,
        }
        for number in range(2_000)
    ]
    LakeWriter(lake, "journal", FixedClock()).append(
        {"conversions": table_of("conversions", rows)}, 1
    )


def parquet(lake: Path) -> Path:
    return next(lake.rglob("project=acme/*/*.parquet"))


def commit(lake: Path) -> Path:
    return lake / "conversions" / "_delta_log" / f"{1:020d}.json"


def cut(lake: Path) -> None:
    parquet(lake).write_bytes(parquet(lake).read_bytes()[:50])


def overwrite(lake: Path) -> None:
    damaged = bytearray(parquet(lake).read_bytes())
    damaged[200:2_000] = b"\xff" * 1_800
    parquet(lake).write_bytes(bytes(damaged))


HARMS: list[Harm] = [
    lambda lake: parquet(lake).unlink(),
    lambda lake: parquet(lake).write_bytes(b""),
    cut,
    overwrite,
    lambda lake: commit(lake).unlink(),
    lambda lake: commit(lake).write_text("{nonsense"),
    lambda lake: (lake / "conversions").rename(lake / "elsewhere"),
]


def read(lake: Path, limits: EngineLimits | None = None) -> int:
    with LakeEventTables(lake, limits).snapshot("acme").read() as tables:
        return int(tables["conversions"].to_pyarrow().num_rows)


@pytest.mark.parametrize("harm", HARMS)
def test_a_missing_or_damaged_file_is_unavailable_storage(
    tmp_path: Path, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    assert read(tmp_path) == 2_000
    harm(tmp_path)
    with caplog.at_level(logging.ERROR), pytest.raises(DomainError, match="restore it") as refused:
        read(tmp_path)
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert str(tmp_path) not in refused.value.message
    assert str(tmp_path) in caplog.text or "delta" in caplog.text.lower()


def test_too_little_memory_is_a_limit_that_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DomainError, match="1 MB that it may use: ask for fewer") as refused:
        read(tmp_path, EngineLimits(threads=1, memory_limit_mb=1))
    error = refused.value
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")


def test_a_fault_of_the_program_stays_one(tmp_path: Path) -> None:
    write(tmp_path)
    reading = LakeEventTables(tmp_path).snapshot("acme").read()
    with pytest.raises(duckdb.Error), reading as tables:
        tables["conversions"].get_backend().raw_sql("SELECT no_such_column FROM conversions")


def test_a_watermark_that_cannot_be_read_is_unavailable_storage(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(DomainError, match="make the folder readable") as refused:
        LakeEventTables(tmp_path).snapshot("acme")
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE")
