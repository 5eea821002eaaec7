"""Rejected events from the command line, against the running suite."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from tests.e2e.suite import Suite


def log(suite: Suite, *values: tuple[str, float]) -> None:
    stub = events_service_pb2_grpc.EventsServiceStub(suite.channel("events"))
    request = events_service_pb2.LogEventsRequest()
    for event_id, value in values:
        event = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u"))
        event.event_time.FromSeconds(int(time.time()) - 60)
        event.source = "till"
        event.conversion.event_name = "rejected-order" if value > 0 else "NO"
        event.conversion.value = value
        request.events.append(event)
    stub.LogEvents(request, metadata=suite.metadata)


def listed(suite: Suite, *options: str) -> list[dict[str, Any]]:
    answer = suite.run("rejected", "list", "--source", "till", *options, "-o", "json").stdout
    found: list[dict[str, Any]] = json.loads(answer)["rejected_events"]
    return found


def outcomes(text: str) -> list[str]:
    return [row["outcome"] for row in json.loads(text)["results"]]


def test_rejected_events_are_listed_shown_corrected_and_replayed(
    suite: Suite, tmp_path: Path
) -> None:
    log(suite, ("till-1", 1.0), ("till-1", 2.0), ("till-2", 0.0), ("till-3", 3.0))
    assert [one["event_id"] for one in listed(suite)] == ["till-2", "till-1"]
    (conflict,) = listed(suite, "--reason", "conflicting_duplicate")
    number = conflict["name"].rpartition("/")[2]
    shown = json.loads(suite.run("rejected", "show", number).stdout)
    assert (shown["event"]["conversion"]["value"], shown["source"]) == (2.0, "till")
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps(shown["event"] | {"event_id": "till-1b"}))
    trial = suite.run(
        "rejected", "replay", number, "--event", str(corrected), "--dry-run", "-o", "json"
    )
    assert outcomes(trial.stdout) == ["REPLAY_OUTCOME_ACCEPTED"]
    assert "a trial, nothing was stored: 1 accepted" in trial.stderr
    real = suite.run("rejected", "replay", number, "--event", str(corrected), "-o", "json")
    assert outcomes(real.stdout) == ["REPLAY_OUTCOME_ACCEPTED"]
    rest = suite.run("rejected", "replay", "--source", "till", "-o", "json", status=3)
    assert outcomes(rest.stdout) == ["REPLAY_OUTCOME_REJECTED"]
    assert "1 rejected" in rest.stderr
    assert [one["event_id"] for one in listed(suite)] == ["till-2"]
    table = suite.run("rejected", "list", "--source", "till").stdout
    assert "conversion.event_name" in table


def test_a_replay_of_everything_must_be_asked_for(suite: Suite, tmp_path: Path) -> None:
    done = suite.run("rejected", "replay", status=2)
    assert "give --all" in done.stderr.replace("\n", " ")
    broken = tmp_path / "broken.json"
    broken.write_text('{"eventIdd": 1}')
    done = suite.run("rejected", "replay", "1", "--event", str(broken), status=2)
    assert "cannot be read as an event" in " ".join(done.stderr.split())
    suite.run("rejected", "replay", "1", "2", "--event", str(broken), status=2)
    suite.run("rejected", "show", "999999", status=1)
