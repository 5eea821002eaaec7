"""The events service in this process, to log to, to erase from, and to look into."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import (
    erasure_service_pb2,
    erasure_service_pb2_grpc,
    event_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
    rejected_events_service_pb2,
    rejected_events_service_pb2_grpc,
    retention_service_pb2_grpc,
)

from services.events.composition import compose
from services.events.settings import Settings
from shared.clock import SystemClock
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import Role
from shared.server.run import RunningServer, start_server
from shared.testing.ports import free_port
from shared.testing.serving import Metadata, add_key, bearer

TABLES = ("exposures", "conversions", "touchpoints", "identifies", "evaluations")


def unit(id_: str, kind: str = "user") -> unit_pb2.UnitId:
    return unit_pb2.UnitId(type=kind, id=id_)


def event(event_id: str, id_: str, time: dt.datetime | None = None, **fields: Any):
    """A conversion unless another kind is given."""
    if not {"conversion", "exposure", "touchpoint", "identify", "evaluation"} & fields.keys():
        fields["conversion"] = event_pb2.Conversion(event_name="buy", value=1.0)
    made = event_pb2.Event(event_id=event_id, unit=unit(id_), **fields)
    made.event_time.FromDatetime(time or SystemClock().now() - dt.timedelta(minutes=5))
    return made


@dataclass
class Bench:
    settings: Settings
    running: RunningServer
    channel: grpc.aio.Channel
    owner: Metadata

    def metadata(self, project: str) -> Metadata:
        return bearer(add_key(self.running.application.platform, project, *Role).text)

    async def call(self, stub: Any, rpc: str, request: Any, metadata: Metadata | None = None):
        return await getattr(stub(self.channel), rpc)(request, metadata=metadata or self.owner)

    async def log(self, *events: event_pb2.Event, metadata: Metadata | None = None):
        request = events_service_pb2.LogEventsRequest(events=events)
        return await self.call(
            events_service_pb2_grpc.EventsServiceStub, "LogEvents", request, metadata
        )

    async def erasures(self, rpc: str, request: Any, metadata: Metadata | None = None):
        stub = erasure_service_pb2_grpc.ErasureServiceStub
        return await self.call(stub, rpc, request, metadata)

    async def retention(self, rpc: str, request: Any, metadata: Metadata | None = None):
        stub = retention_service_pb2_grpc.RetentionServiceStub
        return await self.call(stub, rpc, request, metadata)

    async def erase(self, id_: str, **fields: Any):
        request = erasure_service_pb2.EraseUnitRequest(
            parent="projects/acme", unit=unit(id_), reason="ticket 7", **fields
        )
        return await self.erasures("EraseUnit", request)

    async def operation(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        return await self.call(operations_pb2_grpc.OperationsStub, "GetOperation", request)

    async def erased(self, id_: str) -> erasure_service_pb2.Erasure:
        """Erase a unit and wait for the proof."""
        return await self.ended((await self.erase(id_)).operation.name)

    async def ended(self, name: str) -> erasure_service_pb2.Erasure:
        for _ in range(600):
            operation = await self.operation(name)
            if operation.done:
                found = erasure_service_pb2.Erasure()
                assert operation.response.Unpack(found), operation
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not done: {operation}")

    async def rejected(self) -> list[str]:
        request = rejected_events_service_pb2.ListRejectedEventsRequest(parent="projects/acme")
        stub = rejected_events_service_pb2_grpc.RejectedEventsServiceStub
        answer = await self.call(stub, "ListRejectedEvents", request)
        return sorted(one.event_id for one in answer.rejected_events)

    async def visible(self, token: str = "", project: str = "acme") -> list[str]:
        """The ids of every event that readers see, of all tables."""
        tables = LakeEventTables(self.settings.lake_path)
        await tables.wait_until(token, 20)
        found: list[str] = []
        with tables.snapshot(project).read() as read:
            for name in TABLES:
                found += read[name].to_pyarrow()["event_id"].to_pylist()
        return sorted(found)


def stored(folder: Path) -> bytes:
    """Every byte below a folder, read by another process: closing a handle of a SQLite file in
    this one would end the lock that the service holds.
    """
    command = ["find", str(folder), "-type", "f", "-exec", "cat", "{}", "+"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@asynccontextmanager
async def events_service(folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    values: dict[str, Any] = {
        "events_address": f"127.0.0.1:{free_port()}",
        "flush_interval_s": 0.05,
        "erasure_grace_s": 0.0,
    }
    chosen = Settings(data=folder, **(values | settings))
    running = await start_server(compose(chosen))
    key = add_key(running.application.platform, "acme", *Role)
    async with grpc.aio.insecure_channel(running.address) as channel:
        try:
            yield Bench(chosen, running, channel, bearer(key.text))
        finally:
            await running.drain()
