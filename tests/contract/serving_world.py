"""A running assignment service and a client of every RPC, for tests of what it serves."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    domain_service_pb2,
    domain_service_pb2_grpc,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    layer_service_pb2,
    layer_service_pb2_grpc,
    unit_service_pb2,
    unit_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.composition import assemble
from services.assignment.settings import Settings
from shared.errors import DomainError
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.testing.fakes import FixedClock
from shared.testing.ports import free_port
from shared.testing.serving import add_key, bearer

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
PROJECT = "projects/demo"
_SERVICES = (
    (assignment_service_pb2, assignment_service_pb2_grpc.AssignmentServiceStub),
    (experiment_service_pb2, experiment_service_pb2_grpc.ExperimentServiceStub),
    (layer_service_pb2, layer_service_pb2_grpc.LayerServiceStub),
    (domain_service_pb2, domain_service_pb2_grpc.DomainServiceStub),
    (unit_service_pb2, unit_service_pb2_grpc.UnitServiceStub),
)


@dataclass
class World:
    """One server, its clock, and the key of an owner of the project demo."""

    running: RunningServer
    clock: FixedClock
    channel: grpc.aio.Channel
    metadata: Any

    def open(self, method: str, /, **fields: Any) -> Any:
        """The call of an RPC by its name, begun."""
        for module, stub in _SERVICES:
            if hasattr(module, f"{method}Request"):
                request = getattr(module, f"{method}Request")(**fields)
                return getattr(stub(self.channel), method)(request, metadata=self.metadata)
        raise LookupError(method)

    async def call(self, method: str, /, **fields: Any) -> Any:
        """The reply of an RPC."""
        return await self.open(method, **fields)

    async def refused(self, method: str, /, **fields: Any) -> DomainError:
        """The error of an RPC."""
        try:
            await self.call(method, **fields)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        raise AssertionError(f"{method} was answered")

    async def start(self, key: str, **fields: Any) -> None:
        """Make an experiment of two halves, and start it."""
        halves = [experiment_pb2.Variant(key=name, weight=5000) for name in ("control", "green")]
        sent = experiment_pb2.Experiment(**({"variants": halves} | fields))
        await self.call("CreateExperiment", parent=PROJECT, experiment_id=key, experiment=sent)
        await self.call("StartExperiment", name=f"{PROJECT}/experiments/{key}")

    async def assign(self, units: Sequence[Any], *experiments: str, **fields: Any) -> Any:
        """The reply to Assign."""
        return await self.call("Assign", units=units, experiments=experiments, **fields)

    async def variants(self, units: Sequence[Any], experiment: str) -> list[tuple[str, str, bool]]:
        """What each unit gets in one experiment: variant, reason, tainted."""
        reply = await self.assign(units, experiment)
        return [
            (one.variant, reason_of(one), one.tainted)
            for unit in reply.units
            for one in unit.decisions
        ]


def unit(**ids: str) -> assignment_service_pb2.UnitContext:
    """A unit with ids by type."""
    return assignment_service_pb2.UnitContext(
        ids=[UnitId(type=kind, id=name) for kind, name in ids.items()]
    )


def reason_of(decision: assignment_service_pb2.Decision) -> str:
    """The reason's name without its prefix."""
    name = assignment_service_pb2.DecisionReason.Name(decision.reason)
    return name.removeprefix("DECISION_REASON_")


@asynccontextmanager
async def open_world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """A world over a folder."""
    chosen = Settings(data=folder, assignment_address=f"127.0.0.1:{free_port()}", **settings)
    clock = FixedClock(START)
    platform = replace(open_platform(chosen), clock=clock)
    migrate_assignment(platform.database)
    running = await start_server(assemble(chosen, platform))
    key = add_key(platform, "demo", *Role)
    async with grpc.aio.insecure_channel(chosen.assignment_address) as channel:
        yield World(running, clock, channel, bearer(key.text))
    await running.drain()
