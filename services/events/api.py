"""EventsService: decode, handle, encode."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.application.log_events import EventLog, LogEvents, Logged, beside, log_events
from services.events.wire import decode_items, encode_logged
from shared.lake.watermark import ConsistencyToken, Watermark
from shared.security.caller import current_caller
from shared.server.validation import item_violations


@dataclass(frozen=True, slots=True)
class EventsServicer(events_service_pb2_grpc.EventsServiceServicer):
    """See touchstone/events/v1/events_service.proto."""

    log: EventLog
    journal_id: str
    watermark: Callable[[], Watermark]
    count: Callable[[Logged], None]
    turns: asyncio.Semaphore
    """One for each heavy request at a time."""

    async def LogEvents(
        self,
        request: events_service_pb2.LogEventsRequest,
        context: grpc.aio.ServicerContext[
            events_service_pb2.LogEventsRequest, events_service_pb2.LogEventsResponse
        ],
    ) -> events_service_pb2.LogEventsResponse:
        """Store a batch; the answer comes when it is durable."""
        if request.ByteSize() <= self.log.limits.inline_bytes:
            logged = await self._log(request.events, heavy=False)
        else:
            async with self.turns:
                logged = await self._log(request.events, heavy=True)
        self.count(logged)
        token = ConsistencyToken(self.journal_id, logged.position).encode()
        return encode_logged(logged, token)

    async def _log(self, events: Sequence[event_pb2.Event], heavy: bool) -> Logged:
        violations = item_violations()
        command = LogEvents(
            project=current_caller().project,
            items=await beside(heavy, lambda: decode_items(events, violations, self.log.limits)),
            # Without an order of its map entries the same event would be kept again and again.
            payload_of=lambda item: events[item].SerializeToString(deterministic=True),
            heavy=heavy,
        )
        return await log_events(command, self.log)

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
            pending_batches=self.log.pending.of(current_caller().project),
        )
