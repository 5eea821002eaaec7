"""The layout is a contract: these facts may only be added to."""

import hashlib
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lake.layout import COMMON_COLUMNS, LAYOUT_VERSION, PARTITIONS, TABLES, unit_key
from shared.lake.rows import table_of

LAYOUT_1 = {
    "common": [
        ("event_id", "string", False),
        ("project", "string", False),
        ("day", "date32[day]", False),
        ("event_time", "timestamp[us, tz=UTC]", False),
        ("receive_time", "timestamp[us, tz=UTC]", False),
        ("unit_type", "string", False),
        ("unit_id", "string", False),
        ("unit_key", "int64", False),
        ("linked_units", "string", True),
        ("source", "string", True),
        ("properties", "string", True),
        ("position", "int64", False),
        ("content_digest", "int64", False),
    ],
    "exposures": [
        ("experiment", "string", False),
        ("variant", "string", False),
        ("config_version", "int64", True),
        ("reason", "string", True),
        ("evaluator", "string", True),
    ],
    "conversions": [
        ("event_name", "string", False),
        ("value", "double", True),
        ("currency", "string", True),
    ],
    "touchpoints": [
        ("channel", "string", False),
        ("campaign_source", "string", True),
        ("medium", "string", True),
        ("campaign", "string", True),
        ("content", "string", True),
        ("term", "string", True),
        ("interaction", "string", True),
        ("cost", "double", True),
        ("currency", "string", True),
    ],
    "identifies": [
        ("other_unit_type", "string", False),
        ("other_unit_id", "string", False),
        ("action", "string", True),
    ],
    "evaluations": [
        ("flag", "string", False),
        ("variant", "string", True),
        ("reason", "string", True),
        ("evaluator", "string", True),
        ("flag_set", "string", True),
        ("version", "string", True),
        ("value_json", "string", True),
        ("error_type", "string", True),
    ],
}


def _facts(fields: list[pa.Field]) -> list[tuple[str, str, bool]]:
    return [(f.name, str(f.type), f.nullable) for f in fields]


@pytest.mark.parametrize("name", list(TABLES))
def test_columns_are_those_published(name: str) -> None:
    assert LAYOUT_VERSION == 1
    assert _facts(list(TABLES[name].schema)) == LAYOUT_1["common"] + LAYOUT_1[name]


def test_every_kind_of_event_is_published() -> None:
    assert set(TABLES) == set(LAYOUT_1) - {"common"}
    assert PARTITIONS == ("project", "day")


@pytest.mark.parametrize("name", list(TABLES))
def test_every_column_says_what_it_means(name: str) -> None:
    for column in TABLES[name].columns:
        assert column.meaning.endswith("."), column.name


def test_common_columns_come_first_everywhere() -> None:
    for table in TABLES.values():
        assert table.columns[: len(COMMON_COLUMNS)] == COMMON_COLUMNS


def test_unit_key_is_the_documented_hash() -> None:
    digest = hashlib.md5(b"user:u1", usedforsecurity=False).digest()
    assert unit_key("user", "u1") == int.from_bytes(digest[8:], "little", signed=True)
    assert unit_key("user", "u1") == -3303665829956985166


def test_unit_keys_do_not_depend_on_where_type_and_id_meet() -> None:
    assert unit_key("user", "x") != unit_key("use", "rx")


@given(st.text(max_size=40))
def test_unit_key_fits_a_signed_64_bit_column(unit_id: str) -> None:
    assert -(2**63) <= unit_key("user", unit_id) < 2**63


def test_rows_get_the_utc_day_and_the_unit_key() -> None:
    late = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5)))
    row = table_of(
        "conversions",
        [
            {
                "event_id": "e1",
                "project": "p",
                "event_time": late,
                "unit_id": "u1",
                "event_name": "buy",
                "properties": {"a": 1},
            }
        ],
    ).to_pylist()[0]
    assert row["day"] == date(2026, 2, 28)
    assert row["event_time"] == datetime(2026, 2, 28, 20, 30, tzinfo=UTC)
    assert row["unit_key"] == unit_key("user", "u1")
    assert row["properties"] == '{"a": 1}'
    assert row["value"] is None
