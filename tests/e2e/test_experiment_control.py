"""What is done to a running experiment, from the command line, against real services."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as rpc
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc
from touchstone.results.v1 import results_service_pb2, results_service_pb2_grpc

from tests.e2e.suite import Suite

HALVES = ("--variant", "control", "--variant", "green")


def shown(suite: Suite, *arguments: str) -> Any:
    return json.loads(suite.run("experiment", *arguments, "--output", "json").stdout)


def test_kill_revive_force_and_unforce(suite: Suite) -> None:
    suite.run("experiment", "create", "control-room", *HALVES)
    suite.run("experiment", "start", "control-room")
    killed = suite.run("experiment", "kill", "control-room", "--reason", "prices are wrong")
    assert "prices are wrong" in killed.stderr
    assert shown(suite, "get", "control-room")["experiment"]["killed"] is True
    suite.run("experiment", "revive", "control-room")
    assert shown(suite, "get", "control-room")["experiment"]["killed"] is False
    suite.run("experiment", "force", "control-room", "qa-7", "green", "--note", "Ada's phone")
    listed = shown(suite, "forced", "control-room")["forced_variants"]
    assert [(found["unit"]["id"], found["variant"]) for found in listed] == [("qa-7", "green")]
    suite.run("experiment", "unforce", "control-room", "qa-7", "--dry-run")
    assert "qa-7" in suite.run("experiment", "forced", "control-room").stdout
    suite.run("experiment", "unforce", "control-room", "qa-7")
    assert "qa-7" not in suite.run("experiment", "forced", "control-room").stdout
    missing = suite.run("experiment", "unforce", "control-room", "qa-7", status=1)
    assert "qa-7" in missing.stderr


def test_weights_are_for_bandits(suite: Suite) -> None:
    suite.run("experiment", "create", "fixed", *HALVES)
    refused = suite.run("experiment", "weights", "fixed", "control=1", "green=9999", status=1)
    assert "BANDIT" in refused.stderr
    stub = rpc.ExperimentServiceStub(suite.channel("assignment"))
    bandit = experiment_pb2.Experiment(
        allocation=experiment_pb2.ALLOCATION_BANDIT,
        variants=[
            experiment_pb2.Variant(key="control", weight=5000),
            experiment_pb2.Variant(key="green", weight=5000),
        ],
    )
    request = pb.CreateExperimentRequest(
        parent="projects/default", experiment_id="banner", experiment=bandit
    )
    stub.CreateExperiment(request, metadata=suite.metadata)
    found = shown(suite, "weights", "banner", "control=0", "green=10000")
    assert [v["weight"] for v in found["experiment"]["variants"]] == [0, 10_000]
    wrong = suite.run("experiment", "weights", "banner", "control=x", "green=1", status=2)
    assert "from 0 to 10000" in wrong.stderr


def test_who_was_forced_is_in_no_result(suite: Suite) -> None:
    suite.run("experiment", "create", "looked-at", *HALVES)
    suite.run("experiment", "start", "looked-at")
    suite.run("experiment", "force", "looked-at", "listed", "green")
    reasons = {"u1": "SPLIT", "u2": "SPLIT", "qa": "FORCED", "listed": "TARGETING_MATCH"}
    events = []
    for unit, reason in reasons.items():
        event = event_pb2.Event(event_id=f"looked-at-{unit}")
        event.unit.type, event.unit.id = "user", unit
        event.event_time.GetCurrentTime()
        event.exposure.experiment, event.exposure.variant = "looked-at", "green"
        event.exposure.reason = reason
        events.append(event)
    log = events_service_pb2_grpc.EventsServiceStub(suite.channel("events"))
    reply = log.LogEvents(
        events_service_pb2.LogEventsRequest(events=events), metadata=suite.metadata
    )
    results = results_service_pb2_grpc.ResultsServiceStub(suite.channel("results")).GetResults(
        results_service_pb2.GetResultsRequest(
            experiment="projects/default/experiments/looked-at",
            consistency_token=reply.consistency_token,
        ),
        metadata=suite.metadata,
        timeout=60,
    )
    arms = {arm.variant: arm.units for arm in results.results.arms}
    assert arms == {"control": 0, "green": 2}
    assert results.results.forced_units == 2


def test_a_start_that_fell_into_an_absence_is_made_up_for(own_suite: Suite) -> None:
    start = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
    stub = rpc.ExperimentServiceStub(own_suite.channel("assignment"))
    draft = experiment_pb2.Experiment(
        variants=[
            experiment_pb2.Variant(key="control", weight=5000),
            experiment_pb2.Variant(key="green", weight=5000),
        ]
    )
    draft.schedule.start_time.FromDatetime(start)
    request = pb.CreateExperimentRequest(
        parent="projects/default", experiment_id="later", experiment=draft
    )
    stub.CreateExperiment(request, metadata=own_suite.metadata)
    own_suite.stop()
    while dt.datetime.now(dt.UTC) < start:
        time.sleep(0.1)
    own_suite.start()
    for _ in range(300):
        state = shown(own_suite, "get", "later")["experiment"]["state"]
        if state == "STATE_RUNNING":
            break
        time.sleep(0.1)
    assert state == "STATE_RUNNING"
    audited = own_suite.run("audit", "list").stdout
    assert "schedule@local" in audited
