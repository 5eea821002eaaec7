"""touchstone metric: what is measured."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer
from touchstone.results.v1 import metric_pb2 as model_pb
from touchstone.results.v1 import metric_service_pb2 as pb

from services.cli.figures import enum_text, last_part, time_text
from services.cli.importing.names import (
    require_currency,
    require_event_name,
    require_metric_id,
)
from services.cli.options import Data, DryRun, Etag, Limit, Output, parse_days
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session

app = typer.Typer(no_args_is_help=True, help="Define and read metrics.")

Name = Annotated[str, typer.Argument(help="Id of the metric.", metavar="METRIC")]
_COLUMNS = (
    *columns("metric", "kind", "event_name", "direction", "role", "window", "currency"),
    Column("version", right=True),
    *columns("archive_time", "etag"),
)


class Kind(enum.StrEnum):
    """How a unit's events become its number."""

    PROPORTION = "proportion"
    MEAN = "mean"


class Direction(enum.StrEnum):
    """Which way is better."""

    INCREASE = "increase"
    DECREASE = "decrease"


class Role(enum.StrEnum):
    """What a metric is for."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    GUARDRAIL = "guardrail"


@app.command()
def create(
    metric: Name,
    *,
    kind: Annotated[Kind, typer.Option(help="Share of units with an event, or mean of the sums.")],
    event_name: Annotated[str, typer.Option(help="Conversion events. [default: the id]")] = "",
    direction: Annotated[Direction, typer.Option(help="Which way is better.")] = Direction.INCREASE,
    role: Annotated[Role, typer.Option(help="What it is for.")] = Role.SECONDARY,
    window_days: Annotated[
        float, typer.Option(help="Days after the first exposure; 0: no end.")
    ] = 0,
    currency: Annotated[str, typer.Option(help="ISO 4217 code, when the value is money.")] = "",
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Define a proportion or a mean. For every other kind, write a file: touchstone metric apply.

    Example: touchstone metric create revenue --kind mean --event-name purchase --currency EUR
    """
    require_metric_id(metric)
    if event_name:
        require_event_name(event_name)
    require_currency(currency)
    window = parse_days(window_days, "--window-days") if window_days else None
    wanted = model_pb.Metric(
        display_name=title,
        kind=model_pb.MetricKind.Value(f"METRIC_KIND_{kind.name}"),
        event_name=event_name or metric,
        direction=model_pb.Direction.Value(f"DIRECTION_{direction.name}"),
        role=model_pb.MetricRole.Value(f"METRIC_ROLE_{role.name}"),
        conversion_window=window,
        currency=currency,
    )
    with open_session(data) as session:
        reply = session.metrics.CreateMetric(
            pb.CreateMetricRequest(
                parent=session.parent, metric_id=metric, metric=wanted, validate_only=dry_run
            )
        )
    _show_one(reply, output)


@app.command(name="list")
def list_metrics(
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Limit = 1000,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List metrics by name."""
    with open_session(data) as session:
        request = pb.ListMetricsRequest(parent=session.parent, show_archived=archived)
        reply = collect(session.metrics.ListMetrics, request, "metrics", limit)
    write(View(reply, _COLUMNS, [_row(metric) for metric in reply.metrics]), output)


@app.command()
def get(
    metric: Name,
    version: Annotated[
        int, typer.Option(min=0, help="As it was at this version; 0: as it is now.")
    ] = 0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show one metric."""
    with open_session(data) as session:
        request = pb.GetMetricRequest(name=session.name("metrics", metric), version=version)
        _show_one(session.metrics.GetMetric(request), output)


@app.command()
def archive(
    metric: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Put a metric away: results leave it out unless it is asked for by name."""
    with open_session(data) as session:
        request = pb.ArchiveMetricRequest(
            name=session.name("metrics", metric), etag=etag, validate_only=dry_run
        )
        _show_one(session.metrics.ArchiveMetric(request), output)


def _row(metric: model_pb.Metric) -> tuple[Cell, ...]:
    days = metric.conversion_window.ToTimedelta().total_seconds() / 86_400
    return (
        last_part(metric.name),
        enum_text(metric, "kind", "METRIC_KIND_"),
        metric.event_name or " > ".join(step.event_name for step in metric.steps),
        enum_text(metric, "direction", "DIRECTION_"),
        enum_text(metric, "role", "METRIC_ROLE_"),
        f"{days:g} days" if days else "",
        metric.currency,
        metric.version,
        time_text(metric, "archive_time"),
        metric.etag,
    )


def _show_one(reply: Any, output: Format) -> None:
    write(View(reply, _COLUMNS, [_row(reply.metric)]), output)
