"""An erasure is killed with SIGKILL again and again, at any step, and ends all the same."""

from __future__ import annotations

import asyncio
import os
import random as seeded
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from touchstone.events.v1 import erasure_service_pb2 as pb
from touchstone.events.v1 import (
    erasure_service_pb2_grpc,
    events_service_pb2,
    events_service_pb2_grpc,
)

from services.events.settings import Settings
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.testing.ports import free_port
from shared.testing.serving import add_key, bearer
from tests.contract.erasure_bench import TABLES, event, stored, unit
from tests.contract.test_erasure_service import everything

SECRET = "customer-4711-0815"
KILLS = 6


class Process:
    """The events service as a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")},
            "TOUCHSTONE_DATA": str(data),
            "TOUCHSTONE_EVENTS_ADDRESS": self.address,
            "TOUCHSTONE_EVENTS_HTTP_ADDRESS": "",
            "TOUCHSTONE_FLUSH_INTERVAL_S": "0.05",
            "TOUCHSTONE_ERASURE_GRACE_S": "0.3",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.data.parent / "events.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.events"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


async def until_it_answers(stub, rpc: str, request, metadata, timeout_s: float = 40):
    end = time.monotonic() + timeout_s
    while True:
        try:
            return await getattr(stub, rpc)(request, metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            if time.monotonic() > end:
                raise AssertionError("the service does not answer") from error
            await asyncio.sleep(0.1)


async def test_erasures_survive_kills_at_any_step(tmp_path: Path) -> None:
    data = tmp_path / "data"
    service = Process(data)
    platform = open_platform(Settings(data=data))
    metadata = bearer(add_key(platform, "acme", *Role).text)
    platform.database.close()
    service.start()
    generator = seeded.Random(20260101)
    names = []
    async with grpc.aio.insecure_channel(service.address) as channel:
        log = events_service_pb2_grpc.EventsServiceStub(channel)
        for day in range(4):
            request = events_service_pb2.LogEventsRequest(events=everything(f"b{day}", "other"))
            for number in range(KILLS):
                request.events.extend(everything(f"a{day}-{number}", f"{SECRET}-{number}"))
            for one in request.events:
                one.event_time.seconds -= day * 86_400
            await until_it_answers(log, "LogEvents", request, metadata)
        for number in range(KILLS):
            asked = pb.EraseUnitRequest(
                parent="projects/acme", unit=unit(f"{SECRET}-{number}"), request_id=f"r{number}"
            )
            erasures = erasure_service_pb2_grpc.ErasureServiceStub(channel)
            begun = await until_it_answers(erasures, "EraseUnit", asked, metadata)
            names.append(begun.operation.name)
            await asyncio.sleep(generator.uniform(0.0, 0.5))
            service.kill()
            service.start()
        operations = operations_pb2_grpc.OperationsStub(channel)
        for name in names:
            found = await proved(operations, name, metadata)
            # A crash between a deletion and its note leaves it out of the count, never in the data.
            assert sum(table.rows for table in found.proof.tables) <= 4 * 6
        late = events_service_pb2.LogEventsRequest(events=everything("late", f"{SECRET}-0"))
        answer = await until_it_answers(log, "LogEvents", late, metadata)
        assert (answer.accepted, len(answer.rejected)) == (0, 6)
        fresh = events_service_pb2.LogEventsRequest(events=[event("fresh", "other")])
        answer = await until_it_answers(log, "LogEvents", fresh, metadata)
        tables = LakeEventTables(data / "lake")
        await tables.wait_until(answer.consistency_token, 20)
    with tables.snapshot("acme").read() as read:
        rows = [row for name in TABLES for row in read[name].to_pyarrow().to_pylist()]
    kept = sorted(row["event_id"] for row in rows)
    expected = [one.event_id for day in range(4) for one in everything(f"b{day}", "other")]
    assert kept == sorted([*expected, "fresh"])
    assert service.stop() == 0
    assert SECRET.encode() not in stored(data)


async def proved(stub, name: str, metadata) -> pb.Erasure:
    look = operations_pb2.GetOperationRequest(name=name)
    for _ in range(400):
        operation = await until_it_answers(stub, "GetOperation", look, metadata)
        if operation.done:
            found = pb.Erasure()
            assert operation.response.Unpack(found), operation
            assert found.state == pb.ERASURE_STATE_PROVED
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"not done: {operation}")
