"""AssignmentService.Assign in a process of its own, beside an echo of equally many raw bytes."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.settings import Settings
from shared.security.bootstrap import make_owner_key
from shared.server.platform import open_platform
from tests.bench.report import BenchRow, compared

UNITS_A_CALL = 1000
CALLS = 300
WARM_UP = 30
ASSIGN = "/touchstone.assignment.v1.AssignmentService/Assign"
LEAST = "/touchstone.common.v1.AccessService/GetCaller"
ECHO = """
import asyncio, sys
import grpc
reply = bytes(int(sys.argv[2]))
async def answer(request, context):
    return reply
async def main():
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Call": handler}),)
    )
    server.add_insecure_port(sys.argv[1])
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""


def assign_beside_echo() -> list[BenchRow]:
    """The time of a call that decides for 1,000 units, and of one that decides for one.

    Calls to the servers take turns, so that what else the machine does meets all alike.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        settings = Settings(
            data=Path(folder),
            assignment_address=free_address(),
            assignment_http_address="",
        )
        metadata = (("authorization", f"Bearer {owner_key(settings)}"),)
        _, channel = stack.enter_context(running(settings))
        start_experiment(channel, metadata)
        wire = _Wire(channel, metadata)
        return [_many(wire, stack), *_one(wire, stack)]


@dataclass(frozen=True, slots=True)
class _Wire:
    """A connection to the service, with bytes on both sides: clients are not what is measured."""

    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]

    def call(self, method: str, body: bytes) -> bytes:
        """The reply to a request."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(method)
        return call(body, metadata=self.metadata)


def _many(wire: _Wire, stack: ExitStack) -> BenchRow:
    body = _request(UNITS_A_CALL).SerializeToString()
    reply = wire.call(ASSIGN, body)
    assert len(assignment_service_pb2.AssignResponse.FromString(reply).units) == UNITS_A_CALL
    echo = stack.enter_context(_echo(len(reply)))
    ours, theirs = _median_milliseconds(lambda: wire.call(ASSIGN, body), lambda: echo(body))
    return compared(
        "assignment",
        f"Assign: {UNITS_A_CALL} units a call over gRPC",
        ours=ours,
        reference=theirs,
        reference_name="grpc.aio echo of raw bytes of the same sizes",
        unit="ms",
        goal="<= 2",
    )


def _one(wire: _Wire, stack: ExitStack) -> list[BenchRow]:
    """One unit beside the least that any RPC of the server can do, and beside a bare echo."""
    body = _request(1).SerializeToString()
    echo = stack.enter_context(_echo(len(wire.call(ASSIGN, body))))
    ours, least, bare = _median_milliseconds(
        lambda: wire.call(ASSIGN, body), lambda: wire.call(LEAST, b""), lambda: echo(body)
    )
    references = [
        ("GetCaller on the same server", least, "<= 1.3"),
        ("grpc.aio echo of raw bytes", bare, ""),
    ]
    return [
        compared(
            "assignment",
            "Assign: 1 unit a call over gRPC",
            ours=ours,
            reference=reference,
            reference_name=name,
            unit="ms",
            goal=goal,
        )
        for name, reference, goal in references
    ]


@contextmanager
def running(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    """The service in a process of its own, and a channel to it."""
    environment = os.environ | {
        "TOUCHSTONE_DATA": str(settings.data),
        "TOUCHSTONE_ASSIGNMENT_ADDRESS": settings.assignment_address,
        "TOUCHSTONE_ASSIGNMENT_HTTP_ADDRESS": "",
        "TOUCHSTONE_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "services.assignment"]
    with _process(command, settings.assignment_address, environment) as found:
        yield found


@contextmanager
def _echo(reply_bytes: int) -> Iterator[Callable[[bytes], bytes]]:
    address = free_address()
    command = [sys.executable, "-c", ECHO, address, str(reply_bytes)]
    with _process(command, address, dict(os.environ)) as (_, channel):
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Echo/Call")
        yield call


def _median_milliseconds(*calls: Callable[[], object]) -> list[float]:
    """The median time of each call; they take turns, and the first turns only warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[WARM_UP:]) * 1e3 for taken in times]


def _request(units: int) -> assignment_service_pb2.AssignRequest:
    return assignment_service_pb2.AssignRequest(
        units=[
            assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=f"user-{number}")])
            for number in range(units)
        ],
        experiments=["button"],
    )


def start_experiment(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
    """Make and start an experiment on half of the units."""
    stub = experiment_service_pb2_grpc.ExperimentServiceStub(channel)
    halves = [experiment_pb2.Variant(key=key, weight=5000) for key in ("control", "green")]
    created = stub.CreateExperiment(
        experiment_service_pb2.CreateExperimentRequest(
            parent="projects/bench",
            experiment_id="button",
            experiment=experiment_pb2.Experiment(variants=halves, traffic_slots=5000),
        ),
        metadata=metadata,
    )
    request = experiment_service_pb2.StartExperimentRequest(name=created.experiment.name)
    stub.StartExperiment(request, metadata=metadata)


def owner_key(settings: Settings) -> str:
    """The key of an owner of the project `bench`."""
    platform = open_platform(settings)
    key = make_owner_key(
        platform.database, platform.audit_keys, platform.clock, platform.ids, "bench"
    )
    platform.database.close()
    return key.text


def free_address() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def _process(
    command: list[str], address: str, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    process = subprocess.Popen(command, env=environment)
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            yield process, channel
    finally:
        process.terminate()
        process.wait(timeout=30)
