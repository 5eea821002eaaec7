"""opentelemetry.proto.collector.logs.v1.LogsService: decode, log, encode."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc

from services.events.api.intake import Intake
from services.events.api.otlp_records import ReadRecords, RecordRule, clipped, read_records
from services.events.api.otlp_wire import OVERSIZED, EncodedExport, Run
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
            # Nor does it bound how many there are.
            handler_parses=True,
        )
    }
)
_INLINE_BYTES = 64 * 1024
_SHOWN_REJECTIONS = 3
_MESSAGE_BYTES = 2000


@dataclass(slots=True)
class Exported:
    """What became of the records of an export."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Records by exposure, evaluation, refused and ignored."""
    refused: Counter[str] = field(default_factory=Counter)
    """Evaluations that could not be events, by what is wrong with them."""
    rejected: int = 0
    """Events that broke the contract."""
    shown: list[str] = field(default_factory=list)
    """What was wrong with the first of them."""

    def add(self, read: ReadRecords, logged: Logged | None) -> None:
        """One more piece."""
        self.outcomes["exposure"] += read.exposures
        self.outcomes["evaluation"] += read.evaluations
        self.outcomes["ignored"] += read.ignored
        for wrong in read.refused.values():
            self.refuse(wrong, 1)
        for place, why in logged.rejected if logged else ():
            if place not in read.refused:
                self.rejected += 1
                if len(self.shown) < _SHOWN_REJECTIONS:
                    self.shown.append(f"{why.field} {why.message}")

    def refuse(self, wrong: str, records: int) -> None:
        """Records that were refused for one reason."""
        if records:
            self.outcomes["refused"] += records
            self.refused[wrong] += records


@dataclass(frozen=True, slots=True)
class LogsServicer(logs_service_pb2_grpc.LogsServiceServicer):
    """Takes the evaluations of flags out of log records; see docs/how-to/otlp.md."""

    intake: Intake
    rule: RecordRule
    count: Callable[[Mapping[str, int]], None]

    async def Export(
        self,
        request: bytes,
        context: grpc.aio.ServicerContext[bytes, logs_service_pb2.ExportLogsServiceResponse],
    ) -> logs_service_pb2.ExportLogsServiceResponse:
        """Store what the records tell; the answer comes when it is durable."""
        project, admission = current_caller().project, self.intake.admission
        export, exported = EncodedExport(request), Exported()
        with admission.admit(project, 0, len(request)):
            try:
                export.cut()
            finally:
                # Also for what is ignored or refused: it was work.
                admission.owe(project, export.parts)
            exported.refuse(OVERSIZED, export.oversized)
            try:
                for runs in export.pieces:
                    exported.add(*await self._piece(project, request, runs))
            except DecodeError as error:
                raise export.decode_error() from error
        self.count(exported.outcomes)
        return encode_export(exported)

    async def _piece(
        self, project: str, body: bytes, runs: Sequence[Run]
    ) -> tuple[ReadRecords, Logged | None]:
        heavy = sum(run.end - run.start for run in runs) > _INLINE_BYTES

        async def work(begin: Begin) -> tuple[ReadRecords, Logged | None]:
            threads = self.intake.event_log.threads
            async with self.intake.turns.of(project) if heavy else nullcontext():
                begin()
                read = await beside(heavy, lambda: read_records(body, runs, self.rule), threads)
                if not read.request.events:
                    return read, None
                return read, await self.intake.log_admitted(project, read.request, heavy)

        return await self.intake.admission.patiently(work)


def encode_export(exported: Exported) -> logs_service_pb2.ExportLogsServiceResponse:
    """The answer: empty when everything was stored, else what was not, and why."""
    notes = [f"{count} refused {wrong}" for wrong, count in sorted(exported.refused.items())]
    if exported.rejected:
        shown = "; ".join(exported.shown)
        notes.append(f"{exported.rejected} rejected, kept with their reasons: {shown}")
    ignored = exported.outcomes["ignored"]
    if ignored:
        notes.append(f"{ignored} ignored, which are not {EVENT_NAME}")
    response = logs_service_pb2.ExportLogsServiceResponse()
    if notes:
        partial = response.partial_success
        partial.rejected_log_records = exported.refused.total() + exported.rejected
        partial.error_message = clipped(f"log records: {', '.join(notes)}", _MESSAGE_BYTES)
    return response
