"""Runs the reports of schedules in their time, in a task of its own."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.application.report_schedules import schedule_name
from services.attribution.application.reports import delete_report, report_name
from services.attribution.ports import Groupings, Reports, Schedules, StoredSchedule
from services.attribution.wire.channel_groupings import resolved_definition
from services.attribution.wire.schedules import (
    DueRun,
    begun,
    due_run,
    ended,
    kept_reports,
    not_begun,
    require_runnable,
)
from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.operations.store import SqlOperations
from shared.security.audit import SCHEDULE
from shared.security.caller import Call, Caller, acting_as
from shared.state.database import Database

_LOG = logging.getLogger("touchstone.attribution")
LOOK_EVERY_S = 5.0
MOST_AT_ONCE = 100
_SERVICE = "/touchstone.attribution.v1.ReportService/"
_AGAIN = frozenset({Code.ABORTED, Code.UNAVAILABLE})
_UNEXPECTED = DomainError(
    Code.INTERNAL, "INTERNAL", "an unexpected failure; tell the operator the name of the schedule"
)

BeginRun = Callable[[sa.Connection, pb.RunAttributionRequest, str], operations_pb2.Operation]
"""Begins the operation of a request and a project in a transaction."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where schedules, groupings and reports are."""

    schedules: Schedules
    groupings: Groupings
    reports: Reports


class RefreshKeeper:
    """Looks time and again for runs that are due or have ended.

    Any number of processes may look at one database. A run is begun in the transaction that moves
    its schedule on from the state that was read, so that one of them begins it and the others find
    it begun; it goes on by the operations, which survive restarts. A schedule whose run has not
    ended begins no other. While the store is away nothing happens. One schedule that cannot be
    kept holds up no other.
    """

    def __init__(
        self,
        database: Database,
        kept: Kept,
        mutations: Mutations,
        begin: BeginRun,
        clock_and_ids: tuple[Clock, IdGenerator],
    ) -> None:
        self._database, self._kept, self._mutations = database, kept, mutations
        self._begin = begin
        self._clock, self._ids = clock_and_ids
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Goes to work in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def keep_once(self) -> int:
        """Take every step that is due now; how many were taken."""
        now = self._clock.now()
        with self._kept.schedules.read() as store:
            due = store.due(now, MOST_AT_ONCE)
        return sum(self._keep(each, now) for each in due)

    def _keep(self, schedule: StoredSchedule, now: dt.datetime) -> bool:
        try:
            if schedule.operation_id:
                return self._end(schedule, now)
            return self._start(schedule, now)
        except DomainError as error:
            if error.code not in _AGAIN:
                _LOG.warning(
                    "a scheduled report cannot be kept",
                    extra={"schedule": _name(schedule), "detail": error.message},
                )
        except Exception:  # noqa: BLE001  the others go on, whatever this one runs into
            _LOG.exception("a scheduled report failed", extra={"schedule": _name(schedule)})
        return False

    def _start(self, schedule: StoredSchedule, now: dt.datetime) -> bool:
        """Begin the run that is due. One that cannot begin is told of on the schedule."""
        try:
            self._begin_run(schedule, self._run_of(schedule, now), now)
        except DomainError as error:
            if error.code in _AGAIN:
                raise
            self._replace(schedule, not_begun(schedule, error, now))
        except Exception:  # noqa: BLE001  whoever looks at the schedule has to see that it failed
            _LOG.exception("a scheduled report cannot begin", extra={"schedule": _name(schedule)})
            self._replace(schedule, not_begun(schedule, _UNEXPECTED, now))
        return True

    def _run_of(self, schedule: StoredSchedule, now: dt.datetime) -> DueRun:
        run = due_run(schedule, self._report_id(schedule, now))
        with self._kept.groupings.read() as groupings:
            found = resolved_definition(run.request.journeys, schedule.project, groupings)
        run.request.journeys.CopyFrom(found)
        require_runnable(run.request, schedule.project)
        return run

    def _begin_run(self, schedule: StoredSchedule, run: DueRun, now: dt.datetime) -> None:
        project, report_id = schedule.project, run.request.report_id
        name = report_name(project, report_id)

        def work(connection: sa.Connection) -> Message:
            operation = self._begin(connection, run.request, project)
            operation_id = operation.name.rpartition("/")[2]
            store = self._kept.schedules.within(connection)
            store.replace(schedule, begun(schedule, operation_id, name, now))
            store.note_report(project, schedule.schedule_id, report_id, now)
            return pb.RunAttributionResponse(operation=operation)

        self._act(project, "RunAttribution", Mutation(run.request, name), work)

    def _end(self, schedule: StoredSchedule, now: dt.datetime) -> bool:
        error = status_pb2.Status()
        try:
            with self._database.read() as connection:
                operation = SqlOperations(connection).get(schedule.project, schedule.operation_id)
        except DomainError as gone:
            if gone.code is not Code.NOT_FOUND:
                raise
            error.message = "its operation was deleted before its end was noticed"
            error.code = 2
        else:
            if not operation.done:
                return False
            error.ParseFromString(operation.error or b"")
        after = ended(schedule, error if error.code else None, now)
        self._replace(schedule, after)
        if not error.code:
            self._delete_surplus(schedule)
        return True

    def _delete_surplus(self, schedule: StoredSchedule) -> None:
        project = schedule.project
        with self._kept.schedules.read() as store:
            surplus = store.surplus(project, schedule.schedule_id, kept_reports(schedule))
        for report_id in surplus:
            self._delete_report(project, report_id)

    def _delete_report(self, project: str, report_id: str) -> None:
        name = report_name(project, report_id)

        def work(connection: sa.Connection) -> Message:
            self._kept.schedules.within(connection).forget_report(project, report_id)
            reports = self._kept.reports.within(connection)
            # Its run may have failed, or somebody may have deleted it.
            if reports.get(project, report_id) is not None:
                delete_report(project, report_id, reports)
            return pb.DeleteReportResponse()

        self._act(project, "DeleteReport", Mutation(pb.DeleteReportRequest(name=name), name), work)

    def _replace(self, old: StoredSchedule, new: StoredSchedule) -> None:
        with self._database.begin() as connection:
            self._kept.schedules.within(connection).replace(old, new)

    def _act(
        self,
        project: str,
        method: str,
        mutation: Mutation,
        work: Callable[[sa.Connection], Message],
    ) -> None:
        """Change something as the RPC of the method would, with an entry in the audit log."""
        caller = Caller(project, SCHEDULE, frozenset())
        with acting_as(Call(caller, f"{_SERVICE}{method}", self._ids.new(), "")):
            self._mutations.run(mutation, work)

    def _report_id(self, schedule: StoredSchedule, now: dt.datetime) -> str:
        # The last part keeps it apart from reports that people named, which are not its to delete.
        return f"{schedule.schedule_id}-{now:%Y%m%d-%H%M}-{self._ids.new(6)}"

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.keep_once)
            except Exception:  # noqa: BLE001  the task outlives whatever one look runs into
                _LOG.exception("keeping report schedules failed")
            await asyncio.sleep(LOOK_EVERY_S)


def _name(schedule: StoredSchedule) -> str:
    return schedule_name(schedule.project, schedule.schedule_id)
