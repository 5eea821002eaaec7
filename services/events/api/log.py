"""EventsService: decode, handle, encode."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.events.v1 import events_service_pb2, events_service_pb2_grpc

from services.events.api.intake import Intake
from services.events.wire.reply import encode_logged
from shared.lake.watermark import ConsistencyToken, Watermark
from shared.security.caller import current_caller


@dataclass(frozen=True, slots=True)
class EventsServicer(events_service_pb2_grpc.EventsServiceServicer):
    """See touchstone/events/v1/events_service.proto."""

    intake: Intake
    journal_id: str
    watermark: Callable[[], Watermark]

    async def LogEvents(
        self,
        request: events_service_pb2.LogEventsRequest,
        context: grpc.aio.ServicerContext[
            events_service_pb2.LogEventsRequest, events_service_pb2.LogEventsResponse
        ],
    ) -> events_service_pb2.LogEventsResponse:
        """Store a batch; the answer comes when it is durable."""
        logged = await self.intake.log_events(current_caller().project, request)
        token = ConsistencyToken(self.journal_id, logged.position).encode()
        return encode_logged(logged, token)

    async def GetWatermark(
        self,
        request: events_service_pb2.GetWatermarkRequest,
        context: grpc.aio.ServicerContext[
            events_service_pb2.GetWatermarkRequest, events_service_pb2.GetWatermarkResponse
        ],
    ) -> events_service_pb2.GetWatermarkResponse:
        """Say how far readers see."""
        watermark = self.watermark()
        commit_time: Timestamp | None = None
        if watermark.position:
            commit_time = Timestamp()
            commit_time.FromDatetime(watermark.commit_time)
        return events_service_pb2.GetWatermarkResponse(
            consistency_token=watermark.token(),
            commit_time=commit_time,
            pending_batches=self.intake.event_log.pending.of(current_caller().project),
        )
