"""ReportService: decode, handle, encode; and the work of its operation."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from touchstone.attribution.v1 import report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb
from touchstone.attribution.v1 import report_service_pb2_grpc as rpc

from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.application.get_attribution import Progress
from services.attribution.application.reports import (
    COLLECTION,
    delete_report,
    find_report,
    report_name,
    require_room_for_report,
    run_report,
)
from services.attribution.domain.models import EVERY_MODEL
from services.attribution.limits import KEPT_LIMITS, AttributionLimits, KeptLimits
from services.attribution.ports import JourneyLog, Reports, StoredReport
from services.attribution.wire.comparison import compared_models
from services.attribution.wire.reports import (
    decode_place,
    decode_run,
    encode_place,
    encode_report,
    encode_report_summary,
    stored_report,
)
from shared.clock import Clock
from shared.errors import already_exists
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.operations.runner import AT_ONCE, Begin, Kind, OperationRunner
from shared.operations.store import SqlOperations
from shared.operations.task import Task, progress_of
from shared.resource_names import require_id, require_parent
from shared.security.caller import current_caller
from shared.state.paging import read_page

KIND = "run-attribution"
_ID_CHARACTERS = 16
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class ReportServicer(rpc.ReportServiceServicer):
    """The reports of the caller's project; the work is done in threads."""

    reports: Reports
    mutations: Mutations
    runner: OperationRunner
    clock: Clock
    ids: IdGenerator
    groupings: KeptGroupings
    limits: KeptLimits = KEPT_LIMITS

    async def RunAttribution(
        self, request: pb.RunAttributionRequest, _context: Any
    ) -> pb.RunAttributionResponse:
        """Begins a report."""
        project = current_caller().project
        require_parent(request.parent, project)
        asked = pb.RunAttributionRequest()
        asked.CopyFrom(request)
        asked.journeys.CopyFrom(await self.groupings.resolved(request.journeys))
        models = decode_run(asked, project).question.models or EVERY_MODEL
        report_id = request.report_id or f"r{self.ids.new(_ID_CHARACTERS)}"
        name = report_name(project, report_id)
        progress = pb.RunAttributionProgress(report=name, models=len(models))

        def begin(connection: sa.Connection) -> pb.RunAttributionResponse:
            reports = self.reports.within(connection)
            waiting = unfinished_reports(connection, project)
            if name in waiting or reports.get(project, report_id) is not None:
                raise already_exists("report", name)
            require_room_for_report(project, len(waiting), reports, self.limits)
            begun = Begin(project, KIND, asked, progress)
            return pb.RunAttributionResponse(operation=self.runner.begin(connection, begun))

        mutation = Mutation(request, name, request.request_id)
        answer = await asyncio.to_thread(self.mutations.run, mutation, begin)
        self.runner.wake()
        return answer

    async def GetReport(self, request: pb.GetReportRequest, _context: Any) -> pb.GetReportResponse:
        """Reads a report."""
        stored = await asyncio.to_thread(self._find, request.name)
        return pb.GetReportResponse(report=encode_report(stored))

    async def ListReports(
        self, request: pb.ListReportsRequest, _context: Any
    ) -> pb.ListReportsResponse:
        """Lists reports."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(r"([0-9]{1,17}):([a-z][0-9a-z_-]{0,62})")

        def answer() -> pb.ListReportsResponse:
            behind = None if place is None else decode_place(*place)
            with self.reports.read() as store:
                found = store.page(project, behind, page.size + 1)
            shown = found[: page.size]
            more = len(found) > page.size
            return pb.ListReportsResponse(
                reports=[encode_report_summary(stored) for stored in shown],
                next_page_token=page.token(encode_place(shown[-1])) if more else "",
            )

        return await asyncio.to_thread(answer)

    async def DeleteReport(
        self, request: pb.DeleteReportRequest, _context: Any
    ) -> pb.DeleteReportResponse:
        """Deletes a report."""
        project = current_caller().project
        report_id = require_id(request.name, project, COLLECTION)
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)

        def work(connection: sa.Connection) -> pb.DeleteReportResponse:
            delete_report(project, report_id, self.reports.within(connection))
            return pb.DeleteReportResponse()

        return await asyncio.to_thread(self.mutations.run, mutation, work)

    async def CompareModels(
        self, request: pb.CompareModelsRequest, _context: Any
    ) -> pb.CompareModelsResponse:
        """Says how far the results of a report differ."""
        return compared_models(await asyncio.to_thread(self._find, request.name))

    async def ListPaths(self, request: pb.ListPathsRequest, _context: Any) -> pb.ListPathsResponse:
        """Lists the paths of a report."""
        page = read_page(request, current_caller().project)
        place = page.place(r"([0-9]{1,9})")
        begin = 0 if place is None else int(place[0])
        stored = await asyncio.to_thread(self._find, request.name)
        paths = report_pb2.ReportPaths.FromString(stored.paths)
        end = begin + page.size
        return pb.ListPathsResponse(
            paths=paths.rows[begin:end],
            next_page_token=page.token(str(end)) if end < len(paths.rows) else "",
            withheld_paths=paths.withheld_paths,
        )

    def _find(self, name: str) -> StoredReport:
        project = current_caller().project
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, COLLECTION), store)


def unfinished_reports(connection: sa.Connection, project: str) -> list[str]:
    """The names of the reports that are computed or wait for it."""
    waiting = SqlOperations(connection).waited_for(project, KIND)
    return [progress_of(each, pb.RunAttributionProgress).report for each in waiting]


_STAGES = (
    pb.RUN_ATTRIBUTION_STAGE_UNSPECIFIED,
    pb.RUN_ATTRIBUTION_STAGE_READING,
    pb.RUN_ATTRIBUTION_STAGE_MODELS,
    pb.RUN_ATTRIBUTION_STAGE_INTERVALS,
    pb.RUN_ATTRIBUTION_STAGE_HELD_OUT,
    pb.RUN_ATTRIBUTION_STAGE_PATHS,
)


def _place(stage: pb.RunAttributionStage.ValueType, done: int) -> tuple[int, int]:
    return _STAGES.index(stage), done


@dataclass(frozen=True, slots=True)
class ReportRun:
    """The work of the operation. It may be begun again: what is kept already is its result."""

    log: JourneyLog
    limits: AttributionLimits
    reports: Reports
    clock: Clock
    counted: Callable[[], AbstractContextManager[None]] = nullcontext
    """Goes around each attempt."""
    places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))
    """Of reports that are computed at once: what they need of memory adds up."""

    def kind(self) -> Kind:
        """The kind of operation; nothing is kept of one that is cancelled."""
        return Kind(KIND, self.run, cancellable=True)

    def run(self, task: Task) -> pb.RunAttributionResult:
        """Compute the report and keep it."""
        with self.counted():
            return self._run(task)

    def _run(self, task: Task) -> pb.RunAttributionResult:
        name = task.stored(pb.RunAttributionProgress).report
        report_id = require_id(name, task.project, COLLECTION)
        with self.reports.read() as store:
            kept = store.get(task.project, report_id)
        if kept is None:
            with self._turn(task):
                computed = self._computed(task, report_id)
            with self.reports.begin() as store:
                # A process that was taken for dead may have come to the end of the same work.
                kept = store.get(task.project, report_id)
                if kept is None:
                    store.insert(computed)
                    kept = computed
        return pb.RunAttributionResult(report=encode_report(kept))

    @contextmanager
    def _turn(self, task: Task) -> Iterator[None]:
        """One of the places. Raises Interrupted while it waits and the service stops."""
        while not self.places.acquire(timeout=_LOOK_EVERY_S):
            task.check()
        try:
            yield
        finally:
            self.places.release()

    def _computed(self, task: Task, report_id: str) -> StoredReport:
        command = decode_run(task.request(pb.RunAttributionRequest), task.project)
        told = task.stored(pb.RunAttributionProgress)
        reached = _place(told.stage, told.models_done)

        def tell(stage: pb.RunAttributionStage.ValueType, done: int) -> None:
            # What an attempt before this one reached is no progress: attempts would never end.
            if _place(stage, done) > reached:
                told.stage, told.models_done = stage, done
                task.progress(told)
            else:
                task.check()

        progress = Progress(
            reading=lambda: tell(pb.RUN_ATTRIBUTION_STAGE_READING, 0),
            model=lambda done: tell(pb.RUN_ATTRIBUTION_STAGE_MODELS, done),
            intervals=lambda: tell(pb.RUN_ATTRIBUTION_STAGE_INTERVALS, told.models),
            held_out=lambda: tell(pb.RUN_ATTRIBUTION_STAGE_HELD_OUT, told.models),
            paths=lambda: tell(pb.RUN_ATTRIBUTION_STAGE_PATHS, told.models),
        )
        found = run_report(command, self.log, self.limits, progress)
        # The last moment at which a cancellation is heard.
        told.stage = pb.RUN_ATTRIBUTION_STAGE_PATHS
        task.progress(told)
        return stored_report(report_id, self.clock.now(), command, found)
