"""A running assignment service, and clients of two projects that know AudienceService too."""

import datetime as dt
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    audience_pb2,
    audience_service_pb2,
    audience_service_pb2_grpc,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    schema_service_pb2,
    schema_service_pb2_grpc,
)
from touchstone.assignment.v1.condition_pb2 import Condition
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.composition import assemble
from services.assignment.settings import Settings
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.server.run import Platform, start_server
from shared.testing.fakes import FixedClock
from shared.testing.ports import free_port
from tests.contract.test_assignment_service import PROJECT, START, Client, key_of

Audience = audience_pb2.Audience


class AudienceClient(Client):
    """Calls the RPCs of experiments, audiences and schemas."""

    modules = (  # type: ignore[assignment]  # other services than those of Client
        assignment_service_pb2,
        experiment_service_pb2,
        audience_service_pb2,
        schema_service_pb2,
    )

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        super().__init__(channel, key)
        self._stubs = (
            assignment_service_pb2_grpc.AssignmentServiceStub(channel),
            experiment_service_pb2_grpc.ExperimentServiceStub(channel),
            audience_service_pb2_grpc.AudienceServiceStub(channel),
            schema_service_pb2_grpc.SchemaServiceStub(channel),
        )

    async def make(self, key: str, audience: Audience, **fields: Any) -> Audience:
        reply = await self.call(
            "CreateAudience", parent=PROJECT, audience_id=key, audience=audience, **fields
        )
        found: Audience = reply.audience
        return found

    async def get(self, key: str) -> Audience:
        found: Audience = (await self.call("GetAudience", name=named(key))).audience
        return found

    async def upload(self, key: str, ids: Iterable[str], part: int = 0, name: str = "up") -> int:
        reply = await self.call(
            "UploadAudienceIds", name=named(key), upload_id=name, part=part, ids=ids
        )
        return int(reply.parts)

    async def commit(self, key: str, parts: int = 1, name: str = "up", **fields: Any) -> Audience:
        reply = await self.call(
            "CommitAudienceIds", name=named(key), upload_id=name, parts=parts, **fields
        )
        found: Audience = reply.audience
        return found

    async def members(self, key: str, *units: Any) -> list[bool]:
        return list((await self.call("TestAudience", name=named(key), units=units)).members)

    def stream(self, method: str, /, **fields: Any) -> Any:
        """The messages of a stream of AssignmentService."""
        request = getattr(assignment_service_pb2, f"{method}Request")(**fields)
        return getattr(self._stubs[0], method)(request, metadata=self._metadata)

    async def reasons(self, experiment: str, *units: Any) -> list[str]:
        """The reason of each unit's decision."""
        reply = await self.call("Assign", units=units, experiments=[experiment])
        name = assignment_service_pb2.DecisionReason.Name
        return [
            name(row.decisions[0].reason).removeprefix("DECISION_REASON_") for row in reply.units
        ]


@dataclass(frozen=True, slots=True)
class AudienceWorld:
    """A running server, and clients of two projects."""

    demo: AudienceClient
    other: AudienceClient
    clock: FixedClock
    platform: Platform
    address: str


@asynccontextmanager
async def open_world(data: Path) -> AsyncIterator[AudienceWorld]:
    """A server on a store of its own, at a time that stands still."""
    settings = Settings(data=data, assignment_address=f"127.0.0.1:{free_port()}")
    clock = FixedClock(START)
    platform = replace(open_platform(settings), clock=clock)
    migrate_assignment(platform.database)
    running = await start_server(assemble(settings, platform))
    async with grpc.aio.insecure_channel(settings.assignment_address) as channel:
        yield AudienceWorld(
            demo=AudienceClient(channel, key_of(platform, "demo", *Role)),
            other=AudienceClient(channel, key_of(platform, "other", *Role)),
            clock=clock,
            platform=platform,
            address=settings.assignment_address,
        )
    await running.drain()


def named(key: str, project: str = PROJECT) -> str:
    return f"{project}/audiences/{key}"


def compare(attribute: str, operator: str, *values: object) -> dict[str, Any]:
    """A comparison as JSON."""
    found = {"attribute": attribute, "operator": f"OPERATOR_{operator}", "values": list(values)}
    return {"compare": found}


def rule(found: dict[str, Any], **fields: Any) -> Audience:
    """An audience by condition, which stands as JSON."""
    return Audience(condition=ParseDict(found, Condition()), **fields)


def listed(unit_type: str = "user") -> Audience:
    return Audience(id_list=audience_pb2.IdList(unit_type=unit_type))


def unit(unit_id: str, kind: str = "user", **attributes: Any) -> Any:
    sent = assignment_service_pb2.UnitContext(ids=[UnitId(type=kind, id=unit_id)])
    sent.attributes.update(attributes)
    return sent


def day(number: int) -> dt.timedelta:
    return dt.timedelta(days=number)
