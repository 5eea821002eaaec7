"""A batch through the journal's encoding, and the fingerprints of events."""

import datetime as dt
import hashlib
import json

import duckdb
import pytest

from services.events.adapters.arrow_codec import ArrowCodec, decode
from services.events.domain.event import (
    DIGEST_VERSION,
    PAYLOAD_FIELDS,
    Event,
    EventBatch,
    content_digest,
    fingerprint,
    fingerprint_prefix,
    same_content,
)
from shared.lake.layout import COMMON_COLUMNS, TABLES, unit_key

TIME_US = 1_795_300_000_123_456
DIGEST_OF_CONVERSION = -218167299244133503


def conversion(event_id: str = "e1", value: float | None = 1.5, time_us: int = TIME_US) -> Event:
    return Event(
        event_id, time_us, "user", "ü1", None, "shop", None, "conversions", ("buy", value, "EUR")
    )


def exposure(event_id: str = "x1") -> Event:
    return Event(
        event_id,
        TIME_US,
        "user",
        "u1",
        '[{"type":"device","id":"d"}]',
        None,
        '{"a":1}',
        "exposures",
        ("exp", "on", 3, None, None),
    )


def batch(*events: Event) -> bytes:
    digests = tuple(range(len(events)))
    return ArrowCodec().encode(EventBatch("acme", 42, events, digests))


def test_every_column_of_the_layout_comes_out() -> None:
    tables = dict(decode(batch(conversion(), exposure(), conversion("e2", None)), position=9))
    assert {name: t.schema for name, t in tables.items()} == {
        name: TABLES[name].schema for name in ("conversions", "exposures")
    }
    assert tables["conversions"].num_rows == 2
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=TIME_US)
    assert tables["conversions"].to_pylist()[0] == {
        "event_id": "e1",
        "project": "acme",
        "day": moment.date(),
        "event_time": moment,
        "receive_time": dt.datetime(1970, 1, 1, 0, 0, 0, 42, tzinfo=dt.UTC),
        "unit_type": "user",
        "unit_id": "ü1",
        "unit_key": unit_key("user", "ü1"),
        "linked_units": None,
        "source": "shop",
        "properties": None,
        "position": 9,
        "content_digest": 0,
        "event_name": "buy",
        "value": 1.5,
        "currency": "EUR",
    }
    assert tables["conversions"].to_pylist()[1]["value"] is None
    assert tables["exposures"].to_pylist()[0]["config_version"] == 3


@pytest.mark.parametrize("time_us", [0, 1, 86_399_999_999, 86_400_000_000, 253_402_300_799_999_999])
def test_the_day_is_the_utc_date_of_the_event_time(time_us: int) -> None:
    ((_, table),) = decode(batch(conversion(time_us=time_us)), 1)
    expected = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)
    assert table["day"].to_pylist() == [expected.date()]
    assert table["event_time"].to_pylist() == [expected]


def test_a_fingerprint_is_what_the_engine_computes_at_a_restart() -> None:
    mine = fingerprint(fingerprint_prefix("acme"), "é1")
    theirs = duckdb.execute("select unhex(md5('acme' || chr(31) || 'é1'))").fetchone()
    assert theirs == (mine,)


def test_projects_do_not_share_fingerprints() -> None:
    prints = {fingerprint(fingerprint_prefix(p), e) for p, e in [("a", "bc"), ("ab", "c")]}
    assert len(prints) == 2


def test_the_digest_sees_every_field() -> None:
    event = exposure()
    changed = [event._replace(**{name: "other"}) for name in Event._fields[:7]]  # type: ignore[arg-type]
    changed += [
        event._replace(payload=(*event.payload[:i], "other", *event.payload[i + 1 :]))
        for i in range(len(event.payload))
    ]
    changed.append(event._replace(table="conversions", payload=("exp", None, None)))
    digests = {content_digest(e) for e in [event, *changed]}
    assert len(digests) == 1 + len(changed)
    assert content_digest(exposure()) == content_digest(event)
    assert content_digest(conversion(value=None)) != content_digest(conversion(value=0.0))
    assert all(-(2**63) <= digest < 2**63 for digest in digests)


def test_the_digest_is_that_of_the_documented_text() -> None:
    text = (
        '{"currency":"EUR","event_id":"e1","event_name":"buy","event_time":1795300000123456,'
        '"kind":"conversions","source":"shop","unit_id":"\\u00fc1","unit_type":"user",'
        '"value":1.5}'
    )
    hashed = hashlib.blake2b(text.encode(), digest_size=8).digest()
    bits = (int.from_bytes(hashed, "little") << 4 | 1) % 2**64
    assert content_digest(conversion()) % 2**64 == bits


def test_an_absent_field_says_nothing() -> None:
    """A column that is added later and is not used leaves every stored digest as it was."""
    event = exposure()
    assert event.payload[3:] == (None, None)
    names = PAYLOAD_FIELDS["exposures"]
    assert names[3:] == ("reason", "evaluator")
    text = json.dumps(
        {
            "event_id": event.event_id,
            "event_time": event.time_us,
            "unit_type": event.unit_type,
            "unit_id": event.unit_id,
            "linked_units": event.linked_units,
            "properties": event.properties,
            "kind": event.table,
            **dict(zip(names[:3], event.payload[:3], strict=True)),
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    hashed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    assert content_digest(event) % 2**64 >> 4 == hashed % 2**60


@pytest.mark.parametrize("name", list(TABLES))
def test_the_digest_and_the_layout_name_the_same_fields(name: str) -> None:
    own = TABLES[name].columns[len(COMMON_COLUMNS) :]
    assert PAYLOAD_FIELDS[name] == tuple(column.name for column in own)


def test_the_digest_never_changes_between_versions() -> None:
    assert content_digest(conversion()) == DIGEST_OF_CONVERSION
    assert content_digest(conversion()) & 15 == DIGEST_VERSION == 1


@pytest.mark.parametrize(
    ("one", "other", "same"), [(0x11, 0x11, True), (0x11, 0x21, False), (0x11, 0x22, True)]
)
def test_digests_of_two_versions_cannot_tell_a_conflict(one: int, other: int, same: bool) -> None:
    assert same_content(one, other) is same
