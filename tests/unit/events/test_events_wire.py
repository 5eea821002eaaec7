"""Messages to domain and back."""

import json
import math
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.application.log_events import Logged
from services.events.domain.event import Event
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, Rejection
from services.events.wire.columns import EventDecoder
from services.events.wire.reply import encode_logged
from services.events.wire.rows import KINDS, decode_event
from shared.errors import FieldViolation
from shared.lake.layout import COMMON_COLUMNS, TABLES

LIMITS = Limits()


def message(kind: str = "conversion") -> event_pb2.Event:
    event = event_pb2.Event(event_id="e1", unit=unit_pb2.UnitId(type="user", id="u1"))
    event.event_time.FromMicroseconds(1_790_000_000_000_001)
    getattr(event, kind).SetInParent()
    return event


def decode(event: event_pb2.Event) -> Event | Rejection:
    return decode_event(event, LIMITS)


def decoded(event: event_pb2.Event) -> Event:
    item = decode(event)
    assert isinstance(item, Event)
    return item


def test_every_field_of_every_kind_arrives() -> None:
    exposure = message("exposure")
    exposure.exposure.CopyFrom(
        event_pb2.Exposure(
            experiment="exp", variant="on", config_version=7, reason="SPLIT", evaluator="sdk"
        )
    )
    touchpoint = message("touchpoint")
    touchpoint.touchpoint.CopyFrom(
        event_pb2.Touchpoint(
            channel="email",
            campaign_source="s",
            medium="m",
            campaign="c",
            content="ad",
            term="t",
            interaction="click",
            cost=0.5,
            currency="EUR",
        )
    )
    identify = message("identify")
    identify.identify.other_unit.CopyFrom(unit_pb2.UnitId(type="device", id="d1"))
    conversion = message()
    conversion.source = "shop"
    conversion.linked_units.add(type="device", id="d1")
    conversion.conversion.CopyFrom(
        event_pb2.Conversion(event_name="buy", value=2.5, currency="USD")
    )
    got = [decoded(e) for e in (exposure, touchpoint, identify, conversion)]
    assert [e.table for e in got] == ["exposures", "touchpoints", "identifies", "conversions"]
    assert got[0].payload == ("exp", "on", 7, "SPLIT", "sdk")
    assert got[1].payload == ("email", "s", "m", "c", "ad", "t", "click", 0.5, "EUR")
    assert got[2].payload == ("device", "d1", None)
    assert got[3] == Event(
        "e1",
        1_790_000_000_000_001,
        "user",
        "u1",
        '[{"type": "device", "id": "d1"}]',
        "shop",
        None,
        "conversions",
        ("buy", 2.5, "USD"),
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_payload_has_a_value_for_every_column_of_its_own(kind: str) -> None:
    event = decoded(message(kind))
    own = TABLES[event.table].columns[len(COMMON_COLUMNS) :]
    assert len(event.payload) == len(own)
    for value, column in zip(event.payload, own, strict=True):
        assert value is not None or column.optional, column.name


def test_absent_and_zero_values_differ() -> None:
    absent, zero = message(), message()
    zero.conversion.value = 0.0
    assert [decoded(e).payload[1] for e in (absent, zero)] == [None, 0.0]


def test_properties_become_json_in_one_order() -> None:
    event = message()
    event.properties.update({"b": [1, 2.5, None, True, {"c": "é"}], "a": 1e300})
    text = decoded(event).properties
    assert text == '{"a":1e+300,"b":[1,2.5,null,true,{"c":"é"}]}'


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.text(max_size=5) | st.floats(-1e15, 1e15),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_properties_return_what_was_sent(value: dict[str, Any]) -> None:
    event = message()
    event.properties.SetInParent()
    event.properties.update(value)
    text = decoded(event).properties
    assert (json.loads(text) if text else {}) == value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_properties_hold_finite_numbers_only(number: float) -> None:
    event = message()
    event.properties.fields["x"].list_value.values.append(struct_pb2.Value(number_value=number))
    item = decode(event)
    assert isinstance(item, Rejection)
    assert (item.reason, item.field) == (Reason.INVALID_FIELD, "properties")


@pytest.mark.parametrize(("length", "fits"), [(16_000, True), (17_000, False)])
def test_properties_are_bounded(length: int, fits: bool) -> None:
    event = message()
    event.properties.update({"x": "a" * length})
    item = decode(event)
    assert isinstance(item, Event) is fits
    if isinstance(item, Rejection):
        assert item.reason is Reason.TOO_LARGE
        assert "at most 16384" in item.message


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, -(2**31), 2**31 - 1])
def test_nanoseconds_outside_a_second_are_rejected(nanos: int) -> None:
    event = message()
    event.event_time.nanos = nanos
    item = decode(event)
    assert isinstance(item, Rejection)
    assert (item.field, str(nanos) in item.message) == ("event_time.nanos", True)


@pytest.mark.parametrize("seconds", [-(2**63), 2**63 - 1, 10**15, 253_402_300_800])
def test_seconds_that_are_no_date_are_rejected(seconds: int) -> None:
    event = message()
    event.event_time.seconds = seconds
    item = decode(event)
    assert isinstance(item, Rejection)
    assert item.reason is Reason.EVENT_TIME_OUT_OF_RANGE
    assert str(seconds) in item.message


def test_milliseconds_in_the_place_of_seconds_are_told_apart() -> None:
    event = message()
    event.event_time.seconds = 1_780_315_200_000
    item = decode(event)
    assert isinstance(item, Rejection)
    assert "(as milliseconds it is 2026-06-01T12:00:00Z)" in item.message


def test_a_violation_becomes_a_rejection_of_that_item_alone() -> None:
    bad = event_pb2.Event(event_id="x" * 500)
    wrong = FieldViolation("unit", "required")
    decoder = EventDecoder(LIMITS, lambda event: wrong if event == bad else None)
    request = events_service_pb2.LogEventsRequest(events=[message(), bad, message()])
    answer = decoder.decode(request)
    assert [portion.places.tolist() for portion in answer.portions] == [[0, 2]]
    assert answer.rejected == {1: Rejection("x" * 128, Reason.INVALID_FIELD, "unit", "required")}


def test_empty_properties_are_none() -> None:
    event = message()
    event.properties.SetInParent()
    assert decoded(event).properties is None


def test_every_reason_has_its_number_in_the_contract() -> None:
    rejected = tuple((i, Rejection("e", r, "f", "m")) for i, r in enumerate(Reason))
    reply = encode_logged(Logged(3, (7, 8), rejected, 1), "token")
    assert (reply.accepted, reply.duplicates, list(reply.duplicate_items)) == (3, 2, [7, 8])
    assert reply.consistency_token == "token"
    names = [events_service_pb2.RejectionReason.Name(r.reason) for r in reply.rejected]
    assert names == [f"REJECTION_REASON_{r.value}" for r in Reason]
    assert len(names) == len(events_service_pb2.RejectionReason.keys()) - 1
