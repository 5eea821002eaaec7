"""opentelemetry.proto.collector.logs.v1.LogsService: decode, log, encode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc

from services.events.api.intake import Intake
from services.events.api.otlp_records import ReadRecords, RecordRule, clipped, read_records
from services.events.application.admission import Begin
from services.events.application.log_events import Logged, beside
from services.events.domain.flag_evaluation import EVENT_NAME
from shared.security.caller import Role, current_caller
from shared.server.rules import Rule

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Export": Rule(
            roles=frozenset({Role.INGEST}),
            any_role=False,
            mutation=False,
            per_item="",
            max_duration_s=15,
            # The contract has no rules; what is made of the records is held against ours.
            handler_validates=True,
        )
    }
)
_INLINE_BYTES = 256 * 1024
_SHOWN_REJECTIONS = 3
_MESSAGE_BYTES = 2000


@dataclass(frozen=True, slots=True)
class LogsServicer(logs_service_pb2_grpc.LogsServiceServicer):
    """Takes the evaluations of flags out of log records; see docs/how-to/otlp.md."""

    intake: Intake
    rule: RecordRule
    count: Callable[[Mapping[str, int]], None]

    async def Export(
        self,
        request: logs_service_pb2.ExportLogsServiceRequest,
        context: grpc.aio.ServicerContext[
            logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse
        ],
    ) -> logs_service_pb2.ExportLogsServiceResponse:
        """Store what the records tell; the answer comes when it is durable."""
        project = current_caller().project
        read = await self.intake.admission.patiently(
            lambda begin: self._read(project, request, begin)
        )
        logged = [await self.intake.log_events(project, batch) for batch in read.batches]
        self.count(read.outcomes)
        return encode_export(read, logged)

    async def _read(
        self, project: str, request: logs_service_pb2.ExportLogsServiceRequest, begin: Begin
    ) -> ReadRecords:
        size = request.ByteSize()
        with self.intake.admission.room(project, size):
            if size <= _INLINE_BYTES:
                begin()
                return read_records(request, self.rule)
            async with self.intake.turns.of(project):
                threads = self.intake.event_log.threads
                return await beside(True, lambda: read_records(request, self.rule), threads)


def encode_export(
    read: ReadRecords, logged: Sequence[Logged]
) -> logs_service_pb2.ExportLogsServiceResponse:
    """The answer: empty when everything was stored, else what was not, and why."""
    rejections = [why for one in logged for _, why in one.rejected]
    notes = [f"{count} refused {wrong}" for wrong, count in sorted(read.refused.items())]
    if rejections:
        shown = [f"{why.field} {why.message}" for why in rejections[:_SHOWN_REJECTIONS]]
        notes.append(f"{len(rejections)} rejected, kept with their reasons: {'; '.join(shown)}")
    if read.ignored:
        notes.append(f"{read.ignored} ignored, which are not {EVENT_NAME}")
    response = logs_service_pb2.ExportLogsServiceResponse()
    if notes:
        partial = response.partial_success
        partial.rejected_log_records = read.refused.total() + len(rejections)
        partial.error_message = clipped(f"log records: {', '.join(notes)}", _MESSAGE_BYTES)
    return response
