"""A salt that is chosen by what units did before, from events to the draft."""

from __future__ import annotations

import datetime as dt
import json
import time

from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc

from tests.e2e.suite import Suite

UNITS = 300
WAIT_S = 90.0


def log_purchases(suite: Suite) -> None:
    """One of another value for each unit, at a time of which no other test tells."""
    events = []
    for n in range(UNITS):
        event = event_pb2.Event(event_id=f"salt-{n}", unit=unit_pb2.UnitId(type="user", id=f"s{n}"))
        event.event_time.FromDatetime(dt.datetime(2019, 2, 1, tzinfo=dt.UTC))
        event.conversion.event_name = "purchase"
        event.conversion.value = float(n % 17)
        events.append(event)
    stub = events_grpc.EventsServiceStub(suite.channel("events"))
    reply = stub.LogEvents(events_pb.LogEventsRequest(events=events), metadata=suite.metadata)
    assert reply.accepted == UNITS, reply


def test_a_draft_gets_the_salt_that_was_found(suite: Suite) -> None:
    log_purchases(suite)
    suite.run("experiment", "create", "balanced", "--variant", "a", "--variant", "b")
    search = [
        *("experiment", "find-balanced-salt", "balanced", "--conversion", "purchase"),
        *("--start", "2019-01-01", "--end", "2019-03-01", "--candidates", "50", "--wait"),
        *("--output", "json"),
    ]
    end = time.monotonic() + WAIT_S
    while (done := suite.run(*search, status=None)).returncode:
        # The tables are a little behind the journal.
        assert "units of type 'user' were seen" in done.stderr, done.stderr
        assert time.monotonic() < end, done.stderr
        time.sleep(0.5)
    found = json.loads(done.stdout)
    assert (found["units"], found["candidates"]) == (str(UNITS), 50)
    assert found["largest_difference"] <= found["median_difference"]
    assert "salts tried" in done.stderr
    draft = json.loads(suite.run("experiment", "get", "balanced", "--output", "json").stdout)
    assert draft["experiment"]["salt"] == found["salt"]
