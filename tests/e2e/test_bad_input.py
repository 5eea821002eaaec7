"""Bad input from the first day: each gets a clear error, and what was accepted stays."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import assignment_service_pb2 as assign_pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assign_grpc
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.results.v1 import results_service_pb2 as results_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from shared.errors import Code, DomainError
from shared.server.status import from_rpc_error
from tests.e2e.suite import Suite

PROJECT = "projects/default"


def failure(call: Callable[[], object]) -> DomainError:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(cast("grpc.Call", caught.value))


def experiments(suite: Suite) -> experiment_grpc.ExperimentServiceStub:
    """The stub of the experiments' life."""
    return experiment_grpc.ExperimentServiceStub(suite.channel("assignment"))


def creation(experiment_id: str, *weights: int) -> experiment_pb.CreateExperimentRequest:
    """A request for an experiment with these weights."""
    return experiment_pb.CreateExperimentRequest(
        parent=PROJECT,
        experiment_id=experiment_id,
        experiment=experiment_pb2.Experiment(
            variants=[
                experiment_pb2.Variant(key=f"arm-{number}", weight=weight)
                for number, weight in enumerate(weights)
            ]
        ),
    )


def conversion(event_id: str, value: float = 1.0, unit: str = "u1") -> event_pb2.Event:
    """A conversion event."""
    return event_pb2.Event(
        event_id=event_id,
        event_time=Timestamp(seconds=1_770_000_000),
        unit=unit_pb2.UnitId(type="user", id=unit),
        conversion=event_pb2.Conversion(event_name="purchase", value=value),
    )


def log(suite: Suite, events: list[event_pb2.Event]) -> events_pb.LogEventsResponse:
    """Logs a batch."""
    stub = events_grpc.EventsServiceStub(suite.channel("events"))
    return stub.LogEvents(events_pb.LogEventsRequest(events=events), metadata=suite.metadata)


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("assignment", "/touchstone.assignment.v1.AssignmentService/Assign"),
        ("events", "/touchstone.events.v1.EventsService/LogEvents"),
        ("results", "/touchstone.results.v1.ResultsService/GetResults"),
        ("attribution", "/touchstone.attribution.v1.AttributionService/GetAttribution"),
    ],
)
def test_malformed_protobuf_is_invalid_argument(suite: Suite, service: str, method: str) -> None:
    """Bytes that are no message are the caller's fault, and the service goes on."""
    call: Any = suite.channel(service).unary_unary(method)
    error = failure(lambda: call(b"\x0a\xff\xff\xff\xff\x0f", metadata=suite.metadata))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")


def test_bad_items_are_rejected_one_by_one_and_the_rest_is_stored(suite: Suite) -> None:
    """NaN, infinities, empty and enormous ids, no payload, a time out of range."""
    far = conversion("far")
    far.event_time.seconds = 10**10
    bad = [
        conversion("nan", math.nan),
        conversion("infinite", math.inf),
        conversion(""),
        conversion("enormous-" + "x" * 10_000),
        conversion("no-unit", unit=""),
        conversion("huge-unit", unit="u" * 1_000_000),
        event_pb2.Event(event_id="no-payload", event_time=Timestamp(seconds=1)),
        far,
    ]
    reply = log(suite, [conversion("good-1"), *bad, conversion("good-2")])
    assert reply.accepted == 2
    assert [item.item for item in reply.rejected] == list(range(1, 9))
    by_item = {item.item: item for item in reply.rejected}
    assert by_item[1].field == "conversion.value"
    assert by_item[3].field == "event_id"
    assert by_item[8].field == "event_time"
    assert all(item.message for item in reply.rejected)
    assert all(len(item.message) < 1000 for item in reply.rejected)
    again = log(suite, [conversion("good-1"), conversion("good-2")])
    assert (again.accepted, again.duplicates) == (0, 2)


def test_an_oversized_batch_is_refused_whole(suite: Suite) -> None:
    """More items than allowed, and more bytes than allowed."""
    many = [conversion(f"many-{number}") for number in range(5001)]
    error = failure(lambda: log(suite, many))
    assert error.code is Code.INVALID_ARGUMENT
    assert "5000" in error.violations[0].description
    wide = [conversion(f"wide-{n}", unit="u" * 20_000) for n in range(1000)]
    error = failure(lambda: log(suite, wide))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert log(suite, [conversion("many-1")]).accepted == 1


def test_unknown_experiments(suite: Suite) -> None:
    """An unknown id is an answer to Assign, and NOT_FOUND where it is what was asked for."""
    stub = assign_grpc.AssignmentServiceStub(suite.channel("assignment"))
    unit = assign_pb.UnitContext(ids=[unit_pb2.UnitId(type="user", id="u1")])
    reply = stub.Assign(
        assign_pb.AssignRequest(units=[unit], experiments=["no-such-experiment"]),
        metadata=suite.metadata,
    )
    (decision,) = reply.units[0].decisions
    assert decision.reason == assign_pb.DECISION_REASON_UNKNOWN_EXPERIMENT
    name = f"{PROJECT}/experiments/no-such-experiment"
    results = results_grpc.ResultsServiceStub(suite.channel("results"))
    for call in (
        lambda: results.GetResults(
            results_pb.GetResultsRequest(experiment=name), metadata=suite.metadata
        ),
        lambda: experiments(suite).GetExperiment(
            experiment_pb.GetExperimentRequest(name=name), metadata=suite.metadata
        ),
    ):
        error = failure(call)
        assert (error.code, error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert "no-such-experiment" in error.message


@pytest.mark.parametrize("weights", [(5000, 4000), (5000, 6000), (10_000,), (), (0, 10_000)])
def test_weights_that_do_not_sum(suite: Suite, weights: tuple[int, ...]) -> None:
    """The error names the field, and says what is allowed."""
    error = failure(
        lambda: experiments(suite).CreateExperiment(
            creation("bad-weights", *weights), metadata=suite.metadata
        )
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert any("variants" in violation.field for violation in error.violations)


def test_a_stopped_experiment(suite: Suite) -> None:
    """It assigns nobody and cannot be started again."""
    stub = experiments(suite)
    stub.CreateExperiment(creation("short-lived", 5000, 5000), metadata=suite.metadata)
    name = f"{PROJECT}/experiments/short-lived"
    stub.StartExperiment(experiment_pb.StartExperimentRequest(name=name), metadata=suite.metadata)
    stub.StopExperiment(experiment_pb.StopExperimentRequest(name=name), metadata=suite.metadata)
    error = failure(
        lambda: stub.StartExperiment(
            experiment_pb.StartExperimentRequest(name=name), metadata=suite.metadata
        )
    )
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    unit = assign_pb.UnitContext(ids=[unit_pb2.UnitId(type="user", id="u1")])
    reply = assign_grpc.AssignmentServiceStub(suite.channel("assignment")).Assign(
        assign_pb.AssignRequest(units=[unit], experiments=["short-lived"]),
        metadata=suite.metadata,
    )
    (decision,) = reply.units[0].decisions
    assert (decision.variant, decision.reason) == (
        "",
        assign_pb.DECISION_REASON_NOT_RUNNING,
    )


def test_a_stale_etag_is_aborted(suite: Suite) -> None:
    """Of two editors who read the same experiment, the second to write is told."""
    stub = experiments(suite)
    made = stub.CreateExperiment(
        creation("two-editors", 5000, 5000), metadata=suite.metadata
    ).experiment

    def rename(title: str) -> experiment_pb.UpdateExperimentRequest:
        request = experiment_pb.UpdateExperimentRequest(
            experiment=experiment_pb2.Experiment(name=made.name, etag=made.etag, display_name=title)
        )
        request.update_mask.paths.append("display_name")
        return request

    stub.UpdateExperiment(rename("first"), metadata=suite.metadata)
    error = failure(lambda: stub.UpdateExperiment(rename("second"), metadata=suite.metadata))
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_ETAG")


def test_a_wrong_or_missing_key(suite: Suite) -> None:
    """Neither is told more than that it is not good."""
    stub = experiments(suite)
    request = experiment_pb.ListExperimentsRequest(parent=PROJECT)
    key_id = suite.key.split("_")[1]
    credentials: tuple[tuple[tuple[str, str | bytes], ...], ...] = (
        (),
        (("authorization", "Bearer nonsense"),),
        (("authorization", f"Basic {suite.key}"),),
        (("authorization", f"Bearer ts_{key_id}_{'0' * 32}"),),
    )
    for metadata in credentials:
        error = failure(partial(stub.ListExperiments, request, metadata=metadata))
        assert (error.code, error.reason) == (Code.UNAUTHENTICATED, "INVALID_CREDENTIAL")
        assert key_id not in error.message


def start_events(data: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Starts the events service alone and waits until it has given up."""
    environment = {
        **os.environ,
        "TOUCHSTONE_DATA": str(data),
        "TOUCHSTONE_EVENTS_ADDRESS": address,
    }
    return subprocess.run(
        [sys.executable, "-m", "services.events"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use(suite: Suite, tmp_path: Path) -> None:
    """The second program on a port says so and ends."""
    done = start_events(tmp_path / "other", suite.addresses["assignment"])
    assert done.returncode == 1
    assert suite.addresses["assignment"] in done.stderr
    assert "TOUCHSTONE_EVENTS_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where the folder should be: nobody, not even root, can write below it."""
    (tmp_path / "file").write_text("not a folder")
    done = start_events(tmp_path / "file" / "data", "127.0.0.1:1")
    assert done.returncode == 1
    assert "TOUCHSTONE_DATA" in done.stderr
    assert "Traceback" not in done.stderr


def test_state_of_a_newer_version(tmp_path: Path) -> None:
    """A program refuses what a newer one wrote, and leaves it as it is."""
    data = tmp_path / "data"
    data.mkdir()
    with sqlite3.connect(data / "state.db") as connection:
        connection.execute("CREATE TABLE alembic_version_platform (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version_platform VALUES ('platform_9999')")
    connection.close()
    done = start_events(data, "127.0.0.1:1")
    assert done.returncode == 1
    assert "newer" in done.stderr
    assert "Traceback" not in done.stderr
