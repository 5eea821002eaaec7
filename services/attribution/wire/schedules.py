"""Schedules of reports between messages, what is stored of them, and the domain."""

import datetime as dt
from dataclasses import dataclass, replace

from google.rpc import code_pb2, error_details_pb2, status_pb2
from touchstone.attribution.v1 import report_service_pb2
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.attribution.application.report_schedules import Change, schedule_name
from services.attribution.domain.schedule_times import Daily, Every, Timing, due_after, first_due
from services.attribution.ports import StoredSchedule
from services.attribution.wire.reports import decode_run
from shared import errors
from shared.resource_names import require_parent, resource_name

DECIDED = ("run", "daily", "interval", "period", "keep", "paused", "display_name")
"""What the owner of a schedule decides, and an update may change."""
_OF_EACH_RUN = ("report_id", "as_of", "request_id")
KEPT = 10


def new_schedule(
    project: str, schedule_id: str, message: pb.ReportSchedule, now: dt.datetime
) -> StoredSchedule:
    """A schedule that has not run; INVALID_ARGUMENT where its parts contradict each other."""
    document = _document(message, project)
    return StoredSchedule(
        project=project,
        schedule_id=schedule_id,
        version=1,
        turn=1,
        create_time=now,
        update_time=now,
        next_time=first_due(_timing(document), now),
        paused=document.paused,
        operation_id="",
        document=document.SerializeToString(deterministic=True),
        state=b"",
    )


def decode_change(message: pb.ReportSchedule, paths: list[str], now: dt.datetime) -> Change:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change.

    Another timing counts from now on, and what fell due during a pause is not made up for.
    """
    wrong = next((path for path in paths if path not in DECIDED), None)
    if wrong is not None or not paths:
        allowed = f"one or more of {', '.join(DECIDED)}"
        raise errors.invalid("update_mask", wrong or "", allowed)

    def change(old: StoredSchedule) -> StoredSchedule:
        before = pb.ReportSchedule.FromString(old.document)
        merged, changes = pb.ReportSchedule.FromString(old.document), _only_decided(message)
        for field in DECIDED:
            (merged if field in paths else changes).ClearField(field)  # type: ignore[arg-type]
        merged.MergeFrom(changes)
        if merged.WhichOneof("timing") is None:
            raise errors.invalid("report_schedule.timing", "none", "daily or interval")
        after = _document(merged, old.project)
        due = old.next_time
        if _timing(before) != _timing(after):
            due = first_due(_timing(after), now)
        elif before.paused and not after.paused and due <= now:
            due = due_after(_timing(after), due, now)
        return replace(
            old,
            version=old.version + 1,
            update_time=now,
            next_time=due,
            paused=after.paused,
            document=after.SerializeToString(deterministic=True),
        )

    return change


def encode_schedule(stored: StoredSchedule) -> pb.ReportSchedule:
    """The schedule as its owner sees it."""
    message = pb.ReportSchedule.FromString(stored.document)
    message.MergeFrom(pb.ReportSchedule.FromString(stored.state))
    message.name = schedule_name(stored.project, stored.schedule_id)
    message.etag = stored.etag
    message.create_time.FromDatetime(stored.create_time)
    message.update_time.FromDatetime(stored.update_time)
    if not stored.paused:
        message.next_run_time.FromDatetime(stored.next_time)
    return message


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that is due, and when: `request` is what it asks for."""

    request: report_service_pb2.RunAttributionRequest
    due: dt.datetime


def due_run(stored: StoredSchedule, report_id: str) -> DueRun:
    """The run of the schedule that is due now."""
    schedule = pb.ReportSchedule.FromString(stored.document)
    request = report_service_pb2.RunAttributionRequest()
    request.CopyFrom(schedule.run)
    request.report_id = report_id
    if schedule.HasField("period"):
        end = stored.next_time
        request.journeys.start_time.FromDatetime(end - schedule.period.ToTimedelta())
        request.journeys.end_time.FromDatetime(end)
    return DueRun(request, stored.next_time)


def kept_reports(stored: StoredSchedule) -> int:
    """How many of its reports are kept."""
    return pb.ReportSchedule.FromString(stored.document).keep or KEPT


def begun(
    stored: StoredSchedule, operation_id: str, report: str, now: dt.datetime
) -> StoredSchedule:
    """The schedule after its due run began."""
    state = pb.ReportSchedule.FromString(stored.state)
    state.running.operation = resource_name(stored.project, "operations", operation_id)
    state.running.report = report
    state.running.due_time.FromDatetime(stored.next_time)
    state.running.begin_time.FromDatetime(now)
    return _moved(stored, state, operation_id, now)


def not_begun(
    stored: StoredSchedule, error: errors.DomainError, now: dt.datetime
) -> StoredSchedule:
    """The schedule after its due run could not begin."""
    state = pb.ReportSchedule.FromString(stored.state)
    state.last_run.Clear()
    state.last_run.due_time.FromDatetime(stored.next_time)
    state.last_run.begin_time.FromDatetime(now)
    state.last_run.end_time.FromDatetime(now)
    state.last_run.error.CopyFrom(_status(error))
    state.failures += 1
    return _moved(stored, state, "", now)


def ended(
    stored: StoredSchedule, error: status_pb2.Status | None, now: dt.datetime
) -> StoredSchedule:
    """The schedule after the run that it waited for ended."""
    state = pb.ReportSchedule.FromString(stored.state)
    state.last_run.CopyFrom(state.running)
    state.last_run.end_time.FromDatetime(now)
    state.ClearField("running")
    if error is not None:
        state.last_run.error.CopyFrom(error)
    state.failures = 0 if error is None else state.failures + 1
    return replace(stored, operation_id="", state=state.SerializeToString(deterministic=True))


def _moved(
    stored: StoredSchedule, state: pb.ReportSchedule, operation_id: str, now: dt.datetime
) -> StoredSchedule:
    timing = _timing(pb.ReportSchedule.FromString(stored.document))
    return replace(
        stored,
        next_time=due_after(timing, stored.next_time, now),
        operation_id=operation_id,
        state=state.SerializeToString(deterministic=True),
    )


def _document(message: pb.ReportSchedule, project: str) -> pb.ReportSchedule:
    made = _only_decided(message)
    require_parent(made.run.parent, project)
    for field in _OF_EACH_RUN:
        if value := getattr(made.run, field):
            path = f"report_schedule.run.{field}"
            raise errors.invalid(path, value, "nothing: every run has one of its own")
    definition = made.run.journeys
    if made.HasField("period"):
        for name in ("start_time", "end_time"):
            if definition.HasField(name):
                path = f"report_schedule.run.journeys.{name}"
                raise errors.invalid(path, "given", "nothing beside a period")
    return made


def _only_decided(message: pb.ReportSchedule) -> pb.ReportSchedule:
    made = pb.ReportSchedule()
    made.CopyFrom(message)
    for field in made.DESCRIPTOR.fields:
        if field.name not in DECIDED:
            made.ClearField(field.name)  # type: ignore[arg-type]
    return made


def require_runnable(request: report_service_pb2.RunAttributionRequest, project: str) -> None:
    """INVALID_ARGUMENT where no run of the request could begin. Its grouping has been looked up."""
    decode_run(request, project)


def _timing(message: pb.ReportSchedule) -> Timing:
    if message.WhichOneof("timing") == "daily":
        return Daily(message.daily.hour, message.daily.minute)
    return Every(message.interval.ToTimedelta())


def _status(error: errors.DomainError) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.value), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="touchstone")
    status.details.add().Pack(info)
    return status
