"""A batch through the journal's encoding, and the fingerprints of events."""

import datetime as dt

import duckdb
import mmh3
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.adapters.arrow_codec import decode
from services.events.batch import SCHEMAS, ColumnPortion
from services.events.domain.event import DIGEST_VERSION, Event, same_content
from services.events.ports import JournalEntry
from shared.lake.layout import TABLES, unit_key
from tests.unit.events.events_making import batch_of, digest_of, entry_of, fingerprint_of

TIME_US = 1_795_300_000_123_456
DIGEST_OF_CONVERSION = -2686793094179272846


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


def touchpoint() -> Event:
    return Event(
        "t1", TIME_US, "user", "u1", None, None, None, "touchpoints", ("email",) + (None,) * 8
    )


def decoded(*events: Event, position: int = 1) -> dict[str, pa.Table]:
    return decode([JournalEntry(position, entry_of(batch_of(*events)))])


def test_every_column_of_the_layout_comes_out() -> None:
    tables = decoded(conversion(), exposure(), conversion("e2", None), position=9)
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
        "content_digest": digest_of(conversion()),
        "event_name": "buy",
        "value": 1.5,
        "currency": "EUR",
    }
    assert tables["conversions"].to_pylist()[1]["value"] is None
    assert tables["exposures"].to_pylist()[0]["config_version"] == 3


@pytest.mark.parametrize("time_us", [0, 1, 86_399_999_999, 86_400_000_000, 253_402_300_799_999_999])
def test_the_day_is_the_utc_date_of_the_event_time(time_us: int) -> None:
    table = decoded(conversion(time_us=time_us))["conversions"]
    expected = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)
    assert table["day"].to_pylist() == [expected.date()]
    assert table["event_time"].to_pylist() == [expected]


def test_a_fingerprint_is_what_the_engine_computes_at_a_restart() -> None:
    mine = fingerprint_of("acme", "é1")
    theirs = duckdb.execute("select unhex(md5('acme' || chr(31) || 'é1'))").fetchone()
    assert theirs == (mine,)


def test_projects_do_not_share_fingerprints() -> None:
    prints = {fingerprint_of(p, e) for p, e in [("a", "bc"), ("ab", "c")]}
    assert len(prints) == 2


def test_the_digest_sees_every_field_but_the_id() -> None:
    event = exposure()
    changed = [event._replace(time_us=1)]
    changed += [event._replace(**{name: "other"}) for name in Event._fields[2:7]]  # type: ignore[arg-type]
    for i, value in enumerate(event.payload):
        other = 9 if isinstance(value, int) else "other"
        changed.append(event._replace(payload=(*event.payload[:i], other, *event.payload[i + 1 :])))
    changed.append(event._replace(table="conversions", payload=("exp", None, None)))
    digests = {digest_of(e) for e in [event, *changed]}
    assert len(digests) == 1 + len(changed)
    assert digest_of(exposure("another")) == digest_of(event)
    assert digest_of(conversion(value=None)) != digest_of(conversion(value=0.0))


def test_the_digest_is_that_of_the_documented_text() -> None:
    value = "4609434218613702656"  # the bits of 1.5
    fields = ["conversions", str(TIME_US), "user", "ü1", "\0", "shop", "\0", "buy", value, "EUR"]
    text = "\x1f".join(fields)
    low = int.from_bytes(mmh3.mmh3_x64_128_digest(text.encode())[:8], "little")
    assert digest_of(conversion()) % 2**64 == (low << 4 | DIGEST_VERSION) % 2**64


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_a_column_that_is_added_and_absent_changes_no_digest(name: str) -> None:
    ((portion, digests),) = batch_of(
        Event(
            "e",
            1,
            "u",
            "1",
            None,
            None,
            None,
            name,
            ("x",) * 3 + (None,) * (len(SCHEMAS[name]) - 10),
        )
        if name not in ("conversions", "exposures", "touchpoints")
        else {"conversions": conversion(), "exposures": exposure(), "touchpoints": touchpoint()}[
            name
        ]
    ).parts
    later = ColumnPortion(name, (*portion.columns, pa.nulls(1, pa.string())), portion.places)
    assert later.digests().tolist() == digests.tolist()


CONTROL = st.text(st.sampled_from("\x00\x1b\x1f01[a"), max_size=4)


@given(st.tuples(CONTROL, CONTROL), st.tuples(CONTROL, CONTROL))
def test_fields_that_hold_the_separators_are_told_apart(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """As the empty text is null in every optional column, it stands for the absent one here."""

    def digest(values: tuple[str, str]) -> int:
        source, reason = (value or None for value in values)
        return digest_of(exposure()._replace(source=source, payload=("e", "v", 1, reason, None)))

    assert (digest(one) == digest(other)) is (one == other)


def test_digests_of_a_batch_are_those_of_its_events() -> None:
    """A text that needs escaping in one event leaves the digests of the others alone."""
    events = [conversion(), conversion()._replace(source="a\x1fb"), conversion("e2", None)]
    ((_, together),) = batch_of(*events).parts
    assert together.tolist() == [digest_of(event) for event in events]


def test_the_digest_never_changes_between_versions() -> None:
    assert digest_of(conversion()) == DIGEST_OF_CONVERSION
    assert digest_of(conversion()) & 15 == DIGEST_VERSION == 2


@pytest.mark.parametrize(
    ("one", "other", "same"), [(0x11, 0x11, True), (0x11, 0x21, False), (0x11, 0x22, True)]
)
def test_digests_of_two_versions_cannot_tell_a_conflict(one: int, other: int, same: bool) -> None:
    assert same_content(one, other) is same
