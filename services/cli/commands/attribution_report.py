"""touchstone attribution report: attribution that is computed once and kept."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from google.longrunning import operations_pb2
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.cli.ascode.export import document
from services.cli.ascode.kinds import KINDS, REPORT
from services.cli.ascode.present import Present
from services.cli.commands.attribution import (
    TOGETHER,
    UNCREDITED,
    credit_view,
    fit_text,
    tell_summary,
)
from services.cli.credit.definition import name_grouping
from services.cli.credit.options import JourneyOptions, ModelOptions, ReportingOptions
from services.cli.failures import from_operation
from services.cli.figures import enum_text, last_part, share, time_text
from services.cli.option_groups import option_groups
from services.cli.options import Data, DryRun, Limit, Output
from services.cli.paging import collect
from services.cli.progress import share_bar
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, standard_output

app = typer.Typer(no_args_is_help=True, help="Run, read and export attribution that is kept.")

COLLECTION = "attributionReports"
Name = Annotated[str, typer.Argument(help="Id of the report.", metavar="REPORT")]
NewName = Annotated[
    str, typer.Argument(help="Id of the report. [default: one is made]", show_default=False)
]
_LISTED = (
    *columns("report", "event_name", "create_time"),
    Column("conversions", right=True),
    *columns("watermark", "digest"),
)
_PATHS = (
    *columns("path", "kind"),
    *(Column(name, right=True) for name in ("units", "conversions", "value", "nulls")),
)


class Figure(enum.StrEnum):
    """What a table of models by channels shows."""

    CONVERSIONS = "conversions"
    VALUE = "value"
    SHARE = "share"


@app.command()
@option_groups
def run(
    report: NewName = "",
    *,
    journeys: JourneyOptions,
    models: ModelOptions,
    reporting: ReportingOptions,
    as_of: Annotated[str, typer.Option(help="The watermark of the cut to read.")] = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Compute a report, wait for it, and show it. Ctrl-C leaves it running.

    Example: touchstone attribution report run weekly --event-name purchase
    """
    request = journeys.read()
    models.apply(request)
    reporting.apply(request)
    request.report_id, request.as_of = report, as_of
    with open_session(data) as session:
        request.parent = session.parent
        name_grouping(session, request.journeys)
        found = _found(session, session.reports.RunAttribution(request).operation)
    _show(found, Figure.CONVERSIONS, output)


@app.command()
def get(
    report: Name,
    figure: Annotated[Figure, typer.Option(help="What the table shows.")] = Figure.CONVERSIONS,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a report: models by channels. JSON and CSV hold every figure.

    Example: touchstone attribution report get weekly --figure share
    """
    with open_session(data) as session:
        request = pb.GetReportRequest(name=session.name(COLLECTION, report))
        found = session.reports.GetReport(request).report
    _show(found, figure, output)


@app.command()
def definition(report: Name, data: Data = None) -> None:
    """Print the file that says a report again. Run at the same watermark it is the same report.

    Example: touchstone attribution report definition weekly > report.yaml
    """
    with open_session(data) as session:
        request = pb.GetReportRequest(name=session.name(COLLECTION, report))
        found = session.reports.GetReport(request).report
    asked = pb.RunAttributionRequest(
        journeys=found.provenance.journeys,
        min_units=found.min_units,
        bootstrap=found.bootstrap,
        held_out=found.held_out,
    )
    if asked.journeys.channel_grouping.name:
        # The version says what the rules are.
        asked.journeys.channel_grouping.ClearField("rules")
        asked.journeys.channel_grouping.ClearField("otherwise")
    # A Markov model has several results.
    for result in found.results:
        if result.model not in asked.models:
            asked.models.append(result.model)
    with standard_output() as out:
        out.write(document(Present(KINDS[REPORT], last_part(found.name), asked)))
    say(f"--as-of {found.provenance.watermark}")


@app.command(name="list")
def list_reports(limit: Limit = 100, data: Data = None, output: Output = Format.TABLE) -> None:
    """List reports, newest first."""
    with open_session(data) as session:
        request = pb.ListReportsRequest(parent=session.parent)
        reply = collect(session.reports.ListReports, request, "reports", limit)
    table = [
        (
            last_part(each.name),
            each.provenance.journeys.event_name,
            time_text(each, "create_time"),
            each.summary.converting_journeys,
            each.provenance.watermark,
            each.digest[:12],
        )
        for each in reply.reports
    ]
    write(View(reply, _LISTED, table), output)


@app.command()
def delete(report: Name, dry_run: DryRun = False, data: Data = None) -> None:
    """Delete a report."""
    with open_session(data) as session:
        session.reports.DeleteReport(
            pb.DeleteReportRequest(name=session.name(COLLECTION, report), validate_only=dry_run)
        )
    say("nothing was changed" if dry_run else f"deleted {report}")


@app.command()
def paths(
    report: Name, limit: Limit = 20, data: Data = None, output: Output = Format.TABLE
) -> None:
    """Show the paths of a report that led to most conversions."""
    with open_session(data) as session:
        request = pb.ListPathsRequest(name=session.name(COLLECTION, report))
        reply = collect(session.reports.ListPaths, request, "paths", limit)
    table = [
        (
            " > ".join(row.channels) or f"({row.paths} paths)",
            enum_text(row, "kind", "PATH_ROW_KIND_"),
            row.units,
            row.conversions,
            row.value,
            row.nulls,
        )
        for row in reply.paths
    ]
    write(View(reply, _PATHS, table), output)
    if reply.withheld_paths:
        say(f"{reply.withheld_paths} paths are withheld: too few units took them")


@app.command()
def compare(report: Name, data: Data = None, output: Output = Format.TABLE) -> None:
    """Show how far the models of a report differ, and in which channel most.

    Standard error says how well each predicts journeys that it was not fitted to.
    """
    with open_session(data) as session:
        request = pb.CompareModelsRequest(name=session.name(COLLECTION, report))
        reply = session.reports.CompareModels(request)
    shown = (
        *columns("left", "right"),
        Column("total_variation", share, right=True),
        Column("rank_correlation", right=True),
        *columns("differs_most"),
        *(Column(name, share, right=True) for name in ("left_share", "right_share")),
    )
    write(View(reply, shown, [_pair(pair) for pair in reply.pairs]), output)
    for fit in reply.fits:
        say(fit_text(fit))


def _found(session: Session, operation: operations_pb2.Operation) -> report_pb2.AttributionReport:
    """The report that the operation ends with."""
    with share_bar() as bar:
        task = bar.add_task("attribution", total=1, told="")
        while not operation.done:
            at = pb.RunAttributionProgress()
            operation.metadata.Unpack(at)
            told = enum_text(at, "stage", "RUN_ATTRIBUTION_STAGE_")
            done = at.models_done / max(at.models, 1)
            bar.update(task, completed=done, told=f"{told} {at.models_done}/{at.models}")
            operation = session.report_operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation.name)
            )
    if operation.HasField("error"):
        raise from_operation(operation.error)
    result = pb.RunAttributionResult()
    operation.response.Unpack(result)
    return result.report


def _show(report: report_pb2.AttributionReport, figure: Figure, output: Format) -> None:
    title = f"{last_part(report.name)}: {figure.value}"
    view = replace(credit_view(report, title), brief=by_channel(report, figure))
    write(view, output)
    tell_summary(report)
    grouping = report.provenance.journeys.channel_grouping
    if grouping.name:
        say(f"channels by {last_part(grouping.name)} at version {grouping.version}")
    say(f"watermark {report.provenance.watermark or 'none'}, digest {report.digest[:12]}")


def by_channel(
    report: report_pb2.AttributionReport, figure: Figure
) -> tuple[Sequence[Column], Sequence[Sequence[Cell]]]:
    """A line a channel, a column a result; what no channel is told to have stands last."""
    form = share if figure is Figure.SHARE else lambda cell: f"{cell:,.2f}"
    shown = [Column("channel")]
    table: dict[str, list[Cell]] = {}
    for number, result in enumerate(report.results):
        shown.append(Column(result.model_name, form, right=True))
        found = [(channel.channel, channel) for channel in result.channels]
        if result.HasField("suppressed"):
            found.append((TOGETHER, result.suppressed))
        if result.uncredited and figure is Figure.CONVERSIONS:
            rest = attribution_pb2.ChannelCredit(conversions=result.uncredited)
            found.append((UNCREDITED, rest))
        for name, credit in found:
            line = table.setdefault(name, [None] * len(report.results))
            optional = credit.DESCRIPTOR.fields_by_name[figure.value].has_presence
            known: Any = credit
            if not optional or known.HasField(figure.value):
                line[number] = getattr(credit, figure.value)
    last = [name for name in (TOGETHER, UNCREDITED) if name in table]
    order = [*sorted(table.keys() - set(last)), *last]
    return shown, [[name, *table[name]] for name in order]


def _pair(pair: pb.ModelDivergence) -> tuple[Cell, ...]:
    most = pair.channels[0] if pair.channels else pb.ChannelDivergence()
    return (
        pair.left,
        pair.right,
        pair.total_variation,
        pair.rank_correlation if pair.HasField("rank_correlation") else None,
        most.channel,
        most.left,
        most.right,
    )
