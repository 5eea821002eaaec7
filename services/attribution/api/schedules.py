"""ReportScheduleService: decode, handle, encode."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message
from touchstone.attribution.v1 import report_service_pb2
from touchstone.attribution.v1 import schedule_service_pb2 as pb
from touchstone.attribution.v1 import schedule_service_pb2_grpc as rpc

from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.api.reports import KIND
from services.attribution.application.report_schedules import (
    COLLECTION,
    ScheduleToChange,
    create_schedule,
    delete_schedule,
    find_schedule,
    schedule_name,
    update_schedule,
)
from services.attribution.application.reports import report_name
from services.attribution.domain.models import EVERY_MODEL
from services.attribution.limits import KEPT_LIMITS, KeptLimits
from services.attribution.ports import Schedules, ScheduleStore
from services.attribution.wire.reports import decode_run
from services.attribution.wire.schedules import (
    decode_change,
    encode_schedule,
    new_schedule,
    require_runnable,
)
from shared.clock import Clock
from shared.mutations import Mutation, Mutations
from shared.operations.runner import Begin, OperationRunner
from shared.resource_names import require_id, require_parent
from shared.security.caller import current_caller
from shared.state.paging import read_page

M = TypeVar("M", bound=Message)


def begin_runs(
    runner: OperationRunner,
) -> Callable[[sa.Connection, report_service_pb2.RunAttributionRequest, str], Operation]:
    """What begins the operation of a request, in a transaction, as RunAttribution does."""

    def begin(
        connection: sa.Connection, request: report_service_pb2.RunAttributionRequest, project: str
    ) -> Operation:
        models = decode_run(request, project).question.models or EVERY_MODEL
        progress = report_service_pb2.RunAttributionProgress(
            report=report_name(project, request.report_id), models=len(models)
        )
        return runner.begin(connection, Begin(project, KIND, request, progress))

    return begin


@dataclass(frozen=True, slots=True)
class ReportScheduleServicer(rpc.ReportScheduleServiceServicer):
    """The schedules of the caller's project; the work is done in threads."""

    schedules: Schedules
    groupings: KeptGroupings
    mutations: Mutations
    clock: Clock
    limits: KeptLimits = KEPT_LIMITS

    async def CreateReportSchedule(
        self, request: pb.CreateReportScheduleRequest, _context: Any
    ) -> pb.CreateReportScheduleResponse:
        """Keeps a new schedule."""
        project, schedule_id = current_caller().project, request.report_schedule_id
        require_parent(request.parent, project)
        made = new_schedule(project, schedule_id, request.report_schedule, self.clock.now())
        await self._require_runnable(request.report_schedule.run)

        def work(store: ScheduleStore) -> pb.CreateReportScheduleResponse:
            create_schedule(made, store, self.limits)
            return pb.CreateReportScheduleResponse(report_schedule=encode_schedule(made))

        return await self._change(request, schedule_name(project, schedule_id), work)

    async def GetReportSchedule(
        self, request: pb.GetReportScheduleRequest, _context: Any
    ) -> pb.GetReportScheduleResponse:
        """Reads a schedule."""
        project = current_caller().project
        schedule_id = require_id(request.name, project, COLLECTION)

        def answer() -> pb.GetReportScheduleResponse:
            with self.schedules.read() as store:
                found = find_schedule(project, schedule_id, store)
            return pb.GetReportScheduleResponse(report_schedule=encode_schedule(found))

        return await asyncio.to_thread(answer)

    async def ListReportSchedules(
        self, request: pb.ListReportSchedulesRequest, _context: Any
    ) -> pb.ListReportSchedulesResponse:
        """Lists schedules by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)

        def answer() -> pb.ListReportSchedulesResponse:
            with self.schedules.read() as store:
                found = store.page(project, page.after or "", page.size + 1)
            shown, more = found[: page.size], len(found) > page.size
            return pb.ListReportSchedulesResponse(
                report_schedules=[encode_schedule(each) for each in shown],
                next_page_token=page.token(shown[-1].schedule_id) if more else "",
            )

        return await asyncio.to_thread(answer)

    async def UpdateReportSchedule(
        self, request: pb.UpdateReportScheduleRequest, _context: Any
    ) -> pb.UpdateReportScheduleResponse:
        """Changes the fields that the mask names."""
        wanted, paths = request.report_schedule, list(request.update_mask.paths)
        target = _target(wanted.name, wanted.etag)
        change = decode_change(wanted, paths, self.clock.now())
        if "run" in paths:
            await self._require_runnable(wanted.run)

        def work(store: ScheduleStore) -> pb.UpdateReportScheduleResponse:
            changed = update_schedule(target, change, store)
            return pb.UpdateReportScheduleResponse(report_schedule=encode_schedule(changed))

        return await self._change(request, wanted.name, work)

    async def DeleteReportSchedule(
        self, request: pb.DeleteReportScheduleRequest, _context: Any
    ) -> pb.DeleteReportScheduleResponse:
        """Deletes a schedule."""
        target = _target(request.name, request.etag)

        def work(store: ScheduleStore) -> pb.DeleteReportScheduleResponse:
            delete_schedule(target, store)
            return pb.DeleteReportScheduleResponse()

        return await self._change(request, request.name, work)

    async def _require_runnable(self, run: report_service_pb2.RunAttributionRequest) -> None:
        """What could never run is refused now, and not at its first run."""
        tried = report_service_pb2.RunAttributionRequest()
        tried.CopyFrom(run)
        tried.journeys.CopyFrom(await self.groupings.resolved(run.journeys))
        require_runnable(tried, current_caller().project)

    async def _change(self, request: Any, name: str, work: Callable[[ScheduleStore], M]) -> M:
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self.mutations.run,
            mutation,
            lambda connection: work(self.schedules.within(connection)),
        )


def _target(name: str, etag: str) -> ScheduleToChange:
    project = current_caller().project
    return ScheduleToChange(project, require_id(name, project, COLLECTION), etag)
