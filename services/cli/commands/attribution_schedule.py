"""touchstone attribution schedule: reports that are run again and again."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.attribution.v1 import report_service_pb2
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.cli.commands.attribution import (
    EventName,
    Lookback,
    Repeats,
    UnitType,
    journey_definition,
    model_message,
)
from services.cli.commands.attribution_report import Grouping, MinUnits, Models, grouping_named
from services.cli.figures import last_part, time_text
from services.cli.options import Data, DryRun, Etag, Limit, Output, parse_days
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say

app = typer.Typer(no_args_is_help=True, help="Run attribution reports again and again.")

COLLECTION = "reportSchedules"
Name = Annotated[str, typer.Argument(help="Id of the schedule.", metavar="SCHEDULE")]
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_COLUMNS = (
    *columns("schedule", "event_name", "due", "next_run", "last_report", "last_error"),
    Column("failures", right=True),
)


@app.command()
def create(
    schedule: Name,
    *,
    event_name: EventName,
    daily: Annotated[
        str, typer.Option(help="Every day at this time in UTC, such as 06:00.", show_default=False)
    ] = "",
    every_hours: Annotated[
        float, typer.Option(help="Or so many hours after the run before; the first at once.")
    ] = 0,
    period_days: Annotated[
        float, typer.Option(help="Conversions of so many days before each run; 0: all.")
    ] = 0,
    keep: Annotated[int, typer.Option(min=0, help="Reports to keep; 0: 10.")] = 0,
    model: Models = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    repeats: Repeats = "all",
    min_units: MinUnits = 0,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a report every day, or every so many hours.

    Example: touchstone attribution schedule create daily --event-name purchase --daily 06:00
    """
    definition = journey_definition(event_name, unit_type, lookback_days, ("", ""), repeats)
    wanted = _timing(daily, every_hours)
    wanted.keep = keep
    if period_days:
        wanted.period.CopyFrom(parse_days(period_days, "--period-days"))
    with open_session(data) as session:
        if channel_grouping:
            definition.channel_grouping.CopyFrom(grouping_named(session, channel_grouping))
        wanted.run.CopyFrom(
            report_service_pb2.RunAttributionRequest(
                parent=session.parent,
                journeys=definition,
                models=[model_message(name) for name in model or []],
                min_units=min_units,
            )
        )
        request = pb.CreateReportScheduleRequest(
            parent=session.parent,
            report_schedule_id=schedule,
            report_schedule=wanted,
            validate_only=dry_run,
        )
        reply = session.schedules.CreateReportSchedule(request)
    write(View(reply, _COLUMNS, [_row(reply.report_schedule)]), output)


@app.command(name="list")
def list_schedules(limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE) -> None:
    """List schedules by name, with what became of their last runs."""
    with open_session(data) as session:
        request = pb.ListReportSchedulesRequest(parent=session.parent)
        call = session.schedules.ListReportSchedules
        reply = collect(call, request, "report_schedules", limit)
    write(View(reply, _COLUMNS, [_row(each) for each in reply.report_schedules]), output)


@app.command()
def get(schedule: Name, data: Data = None, output: Output = Format.TABLE) -> None:
    """Show a schedule, with what became of its last run."""
    with open_session(data) as session:
        request = pb.GetReportScheduleRequest(name=session.name(COLLECTION, schedule))
        reply = session.schedules.GetReportSchedule(request)
    write(View(reply, _COLUMNS, [_row(reply.report_schedule)]), output)


@app.command()
def pause(schedule: Name, etag: Etag = "", data: Data = None) -> None:
    """Begin no run until it is resumed."""
    _set_paused(schedule, etag, data, paused=True)


@app.command()
def resume(schedule: Name, etag: Etag = "", data: Data = None) -> None:
    """Run again. What fell due during the pause is not made up for."""
    _set_paused(schedule, etag, data, paused=False)


@app.command()
def delete(schedule: Name, etag: Etag = "", dry_run: DryRun = False, data: Data = None) -> None:
    """Delete a schedule. Its reports stay, and a run that has begun goes on."""
    with open_session(data) as session:
        session.schedules.DeleteReportSchedule(
            pb.DeleteReportScheduleRequest(
                name=session.name(COLLECTION, schedule), etag=etag, validate_only=dry_run
            )
        )
    say("nothing was changed" if dry_run else f"deleted {schedule}")


def _set_paused(schedule: str, etag: str, data: Data, *, paused: bool) -> None:
    with open_session(data) as session:
        # The contract takes whole schedules alone, though the mask names what is looked at.
        request = pb.GetReportScheduleRequest(name=session.name(COLLECTION, schedule))
        whole = session.schedules.GetReportSchedule(request).report_schedule
        whole.etag, whole.paused = etag, paused
        session.schedules.UpdateReportSchedule(
            pb.UpdateReportScheduleRequest(
                report_schedule=whole, update_mask=FieldMask(paths=["paused"])
            )
        )
    say(f"{'paused' if paused else 'resumed'} {schedule}")


def _timing(daily: str, every_hours: float) -> pb.ReportSchedule:
    if bool(daily) == bool(every_hours):
        raise typer.BadParameter("give one of --daily and --every-hours")
    if not daily:
        return pb.ReportSchedule(interval=parse_days(every_hours / 24, "--every-hours"))
    found = _TIME.fullmatch(daily)
    if found is None:
        raise typer.BadParameter(f"--daily is {daily!r}; allowed: a time such as 06:00")
    return pb.ReportSchedule(daily=pb.TimeOfDay(hour=int(found[1]), minute=int(found[2])))


def _row(found: pb.ReportSchedule) -> tuple[Cell, ...]:
    hours = found.interval.ToTimedelta().total_seconds() / 3600
    at = f"daily {found.daily.hour:02}:{found.daily.minute:02}"
    return (
        last_part(found.name),
        found.run.journeys.event_name,
        at if found.WhichOneof("timing") == "daily" else f"every {hours:g} h",
        "paused" if found.paused else time_text(found, "next_run_time"),
        last_part(found.last_run.report),
        found.last_run.error.message,
        found.failures,
    )
