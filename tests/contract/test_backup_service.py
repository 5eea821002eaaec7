"""Backups while the service works, and what is restored from them, over real files."""

import datetime as dt
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from deltalake import DeltaTable
from google.longrunning import operations_pb2, operations_pb2_grpc
from touchstone.common.v1 import access_service_pb2, access_service_pb2_grpc, rpc_pb2, unit_pb2
from touchstone.events.v1 import backup_service_pb2 as pb
from touchstone.events.v1 import backup_service_pb2_grpc as pb_grpc
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.composition import compose
from services.events.settings import Settings
from shared.backup.files import verify
from shared.backup.manifest import FILE_NAME, Manifest, read_manifest
from shared.backup.restore import JOURNAL, restore
from shared.errors import Code, DomainError
from shared.ids import RandomIds
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import PROJECT_ROLES, Role
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.testing.serving import Metadata, add_key, bearer, free_port
from tests.contract.test_lake_tables import ids

NOW = dt.datetime.now(dt.UTC)


@dataclass
class Service:
    """The events service over a data folder, with the keys of a tenant and of an operator."""

    running: RunningServer
    data: Path
    channel: grpc.aio.Channel
    owner: Metadata
    operator: Metadata

    @property
    def backups(self) -> Path:
        return self.data / "backups"

    async def log(self, *names: str, value: float = 1.0) -> Any:
        stub = events_service_pb2_grpc.EventsServiceStub(self.channel)
        request = events_service_pb2.LogEventsRequest(events=[event(n, value) for n in names])
        return await stub.LogEvents(request, metadata=self.owner)

    async def begin(self, backup_id: str, **fields: Any) -> operations_pb2.Operation:
        request = pb.CreateBackupRequest(
            parent="projects/operators", backup_id=backup_id, **fields
        )
        stub = pb_grpc.BackupServiceStub(self.channel)
        return (await stub.CreateBackup(request, metadata=self.operator)).operation

    async def end(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        stub = operations_pb2_grpc.OperationsStub(self.channel)
        request = operations_pb2.WaitOperationRequest(name=operation.name)
        while not operation.done:
            operation = await stub.WaitOperation(request, metadata=self.operator)
        return operation

    async def back_up(self, backup_id: str, **fields: Any) -> Path:
        operation = await self.end(await self.begin(backup_id, **fields))
        assert not operation.HasField("error"), operation.error
        return self.backups / backup_id

    async def listed(self, **fields: Any) -> pb.ListBackupsResponse:
        request = pb.ListBackupsRequest(parent="projects/operators", **fields)
        stub = pb_grpc.BackupServiceStub(self.channel)
        return await stub.ListBackups(request, metadata=self.operator)

    async def delete(self, backup_id: str) -> None:
        request = pb.DeleteBackupRequest(name=f"projects/operators/backups/{backup_id}")
        await pb_grpc.BackupServiceStub(self.channel).DeleteBackup(request, metadata=self.operator)


def event(name: str, value: float = 1.0) -> event_pb2.Event:
    made = event_pb2.Event(
        event_id=name,
        unit=unit_pb2.UnitId(type="user", id=f"u-{name}"),
        conversion=event_pb2.Conversion(event_name="buy", value=value),
    )
    made.event_time.FromDatetime(NOW)
    return made


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[Service]:
    address = f"127.0.0.1:{free_port()}"
    chosen = Settings(data=data, events_address=address, flush_interval_s=0.05, **settings)
    running = await start_server(compose(chosen))
    platform = running.application.platform
    owner = bearer(add_key(platform, "acme", *PROJECT_ROLES).text)
    operator = bearer(add_key(platform, "operators", Role.OPERATOR).text)
    try:
        async with grpc.aio.insecure_channel(running.address) as channel:
            yield Service(running, data, channel, owner, operator)
    finally:
        await running.drain()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "data") as made:
        yield made


def stored(data: Path) -> list[str]:
    return ids(LakeEventTables(data / "lake").snapshot("acme"))


def restored(backup: Path, data: Path) -> Manifest:
    return restore(backup, data, RandomIds()).manifest


async def failing(call: Any) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


async def test_what_was_acknowledged_before_is_there_once_and_the_service_goes_on(
    service: Service, tmp_path: Path
) -> None:
    names = [f"e{number:03d}" for number in range(150)]
    for name in names:
        await service.log(name)
    await service.log("bad", value=float("inf"))
    backup = await service.back_up("first")
    await service.log("after")
    manifest = restored(backup, tmp_path / "new")
    assert stored(tmp_path / "new") == names
    assert manifest.journal_position >= len(names)
    async with serving(tmp_path / "new") as again:
        reply = await again.log(*names[:3], "after", "fresh")
        assert (reply.duplicates, reply.accepted) == (3, 2)
        await again.back_up("second")
    restored(tmp_path / "new" / "backups" / "second", tmp_path / "third")
    assert stored(tmp_path / "third") == sorted([*names, "after", "fresh"])
