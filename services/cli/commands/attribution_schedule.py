"""touchstone attribution schedule: reports that are run again and again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.cli.credit.definition import name_grouping, read_definition
from services.cli.credit.fields import wrong
from services.cli.credit.options import (
    DEFINITION_HELP,
    JourneyOptions,
    ModelOptions,
    ReportingOptions,
)
from services.cli.figures import last_part, time_text
from services.cli.option_groups import option_groups
from services.cli.options import MAX_DAYS, Data, DryRun, Etag, Limit, Output, parse_days
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingOptions:
    """When a schedule runs, over what, and how many of its reports stay."""

    daily: Annotated[
        str, typer.Option(help="Every day at this time in UTC, such as 06:00.", show_default=False)
    ] = ""
    every_hours: Annotated[
        float | None,
        typer.Option(help="Or so many hours after the run before; the first at once."),
    ] = None
    period_days: Annotated[
        float | None,
        typer.Option(
            help="Conversions of so many days before each run; 0: all.", show_default=False
        ),
    ] = None
    keep: Annotated[
        int | None, typer.Option(min=0, help="Reports to keep. [default: 10]", show_default=False)
    ] = None

    def apply(self, wanted: pb.ReportSchedule) -> list[str]:
        """Set what is named; the fields that it is."""
        paths = []
        if self.daily and self.every_hours is not None:
            raise typer.BadParameter("--daily and --every-hours are both there; allowed: one")
        if self.every_hours is not None:
            if not 1 / 6 <= self.every_hours <= 24 * MAX_DAYS:
                allowed = f"allowed: from a sixth to {24 * MAX_DAYS}"
                raise wrong("--every-hours", f"{self.every_hours:g}", allowed)
            wanted.interval.CopyFrom(parse_days(self.every_hours / 24, "--every-hours"))
            paths.append("interval")
        if self.daily:
            found = _TIME.fullmatch(self.daily)
            if found is None:
                raise wrong("--daily", self.daily, "allowed: a time such as 06:00")
            wanted.daily.CopyFrom(pb.TimeOfDay(hour=int(found[1]), minute=int(found[2])))
            paths.append("daily")
        if self.period_days is not None:
            if self.period_days:
                wanted.period.CopyFrom(parse_days(self.period_days, "--period-days"))
            paths.append("period")
        if self.keep is not None:
            wanted.keep = self.keep
            paths.append("keep")
        return paths


@app.command()
@option_groups
def create(
    schedule: Name,
    *,
    journeys: JourneyOptions,
    models: ModelOptions,
    reporting: ReportingOptions,
    timing: TimingOptions,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Run a report every day, or every so many hours.

    Example: touchstone attribution schedule create daily --event-name purchase --daily 06:00
    """
    wanted = pb.ReportSchedule(run=journeys.read())
    models.apply(wanted.run)
    reporting.apply(wanted.run)
    timing.apply(wanted)
    if not wanted.WhichOneof("timing"):
        raise typer.BadParameter("no time is named; allowed: --daily or --every-hours")
    with open_session(data) as session:
        wanted.run.parent = session.parent
        name_grouping(session, wanted.run.journeys)
        request = pb.CreateReportScheduleRequest(
            parent=session.parent,
            report_schedule_id=schedule,
            report_schedule=wanted,
            validate_only=dry_run,
        )
        reply = session.schedules.CreateReportSchedule(request)
    write(View(reply, _COLUMNS, [_row(reply.report_schedule)]), output)


@app.command()
@option_groups
def update(
    schedule: Name,
    *,
    definition: Annotated[
        Path | None, typer.Option("--definition", "-f", help=DEFINITION_HELP, show_default=False)
    ] = None,
    timing: TimingOptions,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Change what a schedule runs, or when. What is not named stays.

    Example: touchstone attribution schedule update daily --definition report.yaml --keep 30
    """
    changed = pb.ReportSchedule(run=read_definition(definition))
    paths = timing.apply(changed) + (["run"] if definition else [])
    if not paths:
        raise typer.BadParameter(
            "nothing to change is named; allowed: --definition, --daily, --every-hours, "
            "--period-days, --keep"
        )
    with open_session(data) as session:
        # The contract takes whole schedules alone, though the mask names what is looked at.
        name = session.name(COLLECTION, schedule)
        whole = session.schedules.GetReportSchedule(
            pb.GetReportScheduleRequest(name=name)
        ).report_schedule
        if definition:
            changed.run.parent = session.parent
            name_grouping(session, changed.run.journeys)
        cleared: Any = whole
        for path in paths:
            cleared.ClearField(path)
        if not definition:
            changed.ClearField("run")
        whole.MergeFrom(changed)
        whole.etag = etag
        request = pb.UpdateReportScheduleRequest(
            report_schedule=whole, update_mask=FieldMask(paths=paths), validate_only=dry_run
        )
        reply = session.schedules.UpdateReportSchedule(request)
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
