"""RetentionService: decode, handle, encode."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.events.v1 import retention_service_pb2 as pb
from touchstone.events.v1 import retention_service_pb2_grpc

from services.events.application.retention import RetentionStore
from services.events.domain.retention import REJECTED, Retention
from shared import errors
from shared.clock import Clock
from shared.mutations import Mutation, Mutations
from shared.resource_names import OtherTenantError, project_name
from shared.security.caller import current_caller
from shared.state.database import Database

_FIELDS = {
    "exposures": "exposure_days",
    "conversions": "conversion_days",
    "touchpoints": "touchpoint_days",
    "identifies": "identify_days",
    "evaluations": "evaluation_days",
    REJECTED: "rejected_days",
}


@dataclass(frozen=True, slots=True)
class RetentionServicer(retention_service_pb2_grpc.RetentionServiceServicer):
    """See touchstone/events/v1/retention_service.proto. `changed` is told of every change."""

    database: Database
    store: Callable[[sa.Connection], RetentionStore]
    mutations: Mutations
    clock: Clock
    changed: Callable[[], None]

    async def GetRetention(
        self, request: pb.GetRetentionRequest, context: grpc.ServicerContext
    ) -> pb.GetRetentionResponse:
        """Reads how long each kind of event is kept."""
        project = current_caller().project
        _require_name(request.name, project)

        def answer() -> pb.GetRetentionResponse:
            with self.database.read() as connection:
                return pb.GetRetentionResponse(
                    retention=_encode(self.store(connection).get(project))
                )

        return await asyncio.to_thread(answer)

    async def UpdateRetention(
        self, request: pb.UpdateRetentionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateRetentionResponse:
        """Replaces the rules."""
        project = current_caller().project
        sent = request.retention
        _require_name(sent.name, project)
        days = {table: int(getattr(sent, field)) for table, field in _FIELDS.items()}
        new = Retention(project, {table: count for table, count in days.items() if count})

        def work(connection: sa.Connection) -> pb.UpdateRetentionResponse:
            stored = self.store(connection).replace(new, sent.etag, self.clock.now())
            return pb.UpdateRetentionResponse(retention=_encode(stored))

        mutation = Mutation(request, sent.name, request.request_id, request.validate_only)
        answer = await asyncio.to_thread(self.mutations.run, mutation, work)
        await asyncio.to_thread(self.changed)
        return answer


def _require_name(name: str, project: str) -> None:
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "projects" or parts[2] != "retention":
        raise errors.invalid("name", name, "projects/{project}/retention")
    if parts[1] != project:
        raise OtherTenantError("retention", name)


def _encode(rules: Retention) -> pb.Retention:
    message = pb.Retention(name=f"{project_name(rules.project)}/retention", etag=rules.etag)
    for table, field in _FIELDS.items():
        setattr(message, field, rules.days.get(table, 0))
    if rules.update_time is not None:
        stamp = Timestamp()
        stamp.FromDatetime(rules.update_time)
        message.update_time.CopyFrom(stamp)
    return message
