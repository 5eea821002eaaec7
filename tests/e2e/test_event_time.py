"""The rule of event times, over a real process whose machine lives in a zone with summer time."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from shared.lake.snapshot import LakeEventTables
from tests.robustness.faults import PROJECT, EventsProcess, make_key

OUT, INVALID = "EVENT_TIME_OUT_OF_RANGE", "INVALID_FIELD"
HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventsProcess]:
    folder = tmp_path_factory.mktemp("time")
    # The suite is in UTC; a program that goes by local time shows it here.
    running = EventsProcess(folder / "data", more={"TZ": "America/New_York"})
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def metadata(process: EventsProcess) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {make_key(process.data)}"),)


def event(event_id: str, seconds: int, nanos: int = 0) -> event_pb2.Event:
    one = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u"))
    one.event_time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    one.conversion.event_name = "buy"
    return one


def log(
    process: EventsProcess, metadata: tuple[tuple[str, str], ...], *events: event_pb2.Event
) -> events_service_pb2.LogEventsResponse:
    with grpc.insecure_channel(process.address) as channel:
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        request = events_service_pb2.LogEventsRequest(events=events)
        return stub.LogEvents(request, metadata=metadata, timeout=20)


def seconds_of(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("name", "seconds", "nanos", "reason"),
    [
        ("the beginning", 0, 0, ""),
        ("a nanosecond before it", -1, 999_999_999, OUT),
        ("year 0001", seconds_of("0001-01-01T00:00:00+00:00"), 0, OUT),
        ("year 9999", seconds_of("9999-12-31T23:59:59+00:00"), 999_999_999, OUT),
        ("milliseconds for seconds", 1_790_000_000_000, 0, OUT),
        ("10^15 seconds", 10**15, 0, OUT),
        ("before every calendar", -(10**15), 0, OUT),
        ("the largest number", 2**63 - 1, 0, OUT),
        ("the smallest number", -(2**63), 0, OUT),
        ("too many nanoseconds", 1_790_000_000, 1_000_000_000, INVALID),
        ("negative nanoseconds", 1_790_000_000, -1, INVALID),
        ("the most nanoseconds", 1_700_000_000, 999_999_999, ""),
    ],
)
def test_a_time_is_accepted_or_rejected_alone(
    process: EventsProcess,
    metadata: tuple[tuple[str, str], ...],
    name: str,
    seconds: int,
    nanos: int,
    reason: str,
) -> None:
    good = event(f"good beside {name}", 1_700_000_000)
    reply = log(process, metadata, event(name, seconds, nanos), good)
    reasons = events_service_pb2.RejectionReason
    found = [reasons.Name(one.reason).removeprefix("REJECTION_REASON_") for one in reply.rejected]
    assert found == ([reason] if reason else [])
    assert reply.accepted == 2 - len(found)
    assert all(one.field.startswith("event_time") and one.message for one in reply.rejected)


@pytest.mark.parametrize(
    ("ahead_s", "accepted"),
    [
        (25 * HOUR_S - 60, 1),
        (25 * HOUR_S + 60, 0),
        (-60, 1),
        (-5 * YEAR_S, 1),
        (-30 * YEAR_S, 1),
        (YEAR_S, 0),
    ],
)
def test_late_is_accepted_and_early_up_to_25_hours(
    process: EventsProcess, metadata: tuple[tuple[str, str], ...], ahead_s: int, accepted: int
) -> None:
    reply = log(process, metadata, event(f"ahead {ahead_s}", int(time.time()) + ahead_s))
    assert reply.accepted == accepted


MOMENTS = {
    "2024-02-28T23:59:59+00:00": "2024-02-28",
    "2024-02-29T00:00:00+00:00": "2024-02-29",
    "2024-02-29T23:59:59+00:00": "2024-02-29",
    "2024-03-01T00:00:00+00:00": "2024-03-01",
    "2000-02-29T12:00:00+00:00": "2000-02-29",
    # Summer time begins and ends in New York and in Berlin, and a day there has 23 or 25 hours.
    "2026-03-08T06:59:59+00:00": "2026-03-08",
    "2026-03-08T07:00:00+00:00": "2026-03-08",
    "2026-03-29T00:59:59+00:00": "2026-03-29",
    "2026-03-29T01:00:00+00:00": "2026-03-29",
    "2025-11-02T05:30:00+00:00": "2025-11-02",
    "2025-11-02T06:30:00+00:00": "2025-11-02",
    # The last second of a day in UTC is a summer evening there, and the first one too.
    "2026-06-30T23:59:59+00:00": "2026-06-30",
    "2026-07-01T00:00:00+00:00": "2026-07-01",
    # A sender's zone names the moment, not the day.
    "2026-01-01T08:59:59+09:00": "2025-12-31",
    "2025-12-31T19:00:00-05:00": "2026-01-01",
    "1970-01-01T00:00:00+00:00": "1970-01-01",
}


def test_a_day_is_a_day_in_utc_whatever_zone_the_machine_is_in(
    process: EventsProcess, metadata: tuple[tuple[str, str], ...]
) -> None:
    sent = [event(f"at {text}", seconds_of(text)) for text in MOMENTS]
    reply = log(process, metadata, *sent)
    assert reply.accepted == len(MOMENTS)
    lake = LakeEventTables(process.lake)
    asyncio.run(lake.wait_until(reply.consistency_token, 10))
    with lake.snapshot(PROJECT).read() as tables:
        rows = tables["conversions"].select("event_id", "event_time", "day").to_pyarrow()
    found = {row["event_id"]: row for row in rows.to_pylist()}
    for text, day in MOMENTS.items():
        row = found[f"at {text}"]
        assert str(row["day"]) == day
        assert row["event_time"].timestamp() == seconds_of(text)
    folders = {folder.name for folder in process.lake.rglob("day=*")}
    assert {f"day={day}" for day in MOMENTS.values()} <= folders


def test_nanoseconds_are_cut_to_microseconds(
    process: EventsProcess, metadata: tuple[tuple[str, str], ...]
) -> None:
    """So that two times within one microsecond are the same content."""
    log(process, metadata, event("nanos", 1_700_000_000, 1_999))
    again = log(process, metadata, event("nanos", 1_700_000_000, 1_000))
    other = log(process, metadata, event("nanos", 1_700_000_000, 2_000))
    assert (again.duplicates, len(other.rejected)) == (1, 1)
