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
_VERSIONS = (*_COLUMNS[7:8], *_COLUMNS[1:7], *columns("title"))


class Kind(enum.StrEnum):
    """How a unit's events become its number."""

    PROPORTION = "proportion"
    MEAN = "mean"
    RATIO = "ratio"
    QUANTILE = "quantile"
    FUNNEL = "funnel"
    RETENTION = "retention"
    TIME_TO_EVENT = "time-to-event"


class Aggregation(enum.StrEnum):
    """How the events of one unit become its number."""

    SUM = "sum"
    COUNT = "count"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    DISTINCT_DAYS = "distinct-days"


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
    kind: Annotated[Kind, typer.Option(help="How a unit's events become its number.")],
    event_name: Annotated[str, typer.Option(help="Conversion events. [default: the id]")] = "",
    direction: Annotated[Direction, typer.Option(help="Which way is better.")] = Direction.INCREASE,
    role: Annotated[Role, typer.Option(help="What it is for.")] = Role.SECONDARY,
    window_days: Annotated[
        float, typer.Option(help="Days after the first exposure; 0: no end.")
    ] = 0,
    currency: Annotated[str, typer.Option(help="ISO 4217 code, when the value is money.")] = "",
    aggregation: Annotated[
        Aggregation | None,
        typer.Option(help="Of a mean, a ratio or a quantile: what a unit has. [default: sum]"),
    ] = None,
    denominator: Annotated[
        str, typer.Option(help="EVENT or EVENT=AGGREGATION that a ratio is divided by.")
    ] = "",
    quantile: Annotated[float, typer.Option(help="Which one a quantile is, such as 0.95.")] = 0,
    of_events: Annotated[
        bool, typer.Option("--of-events", help="The quantile is one over events, not over units.")
    ] = False,
    step: Annotated[
        list[str] | None, typer.Option(help="Event of a step of a funnel. Repeat it in order.")
    ] = None,
    days: Annotated[
        str, typer.Option(help="FIRST-LAST day of a retention, such as 1-1 or 7-13.")
    ] = "",
    cap: Annotated[float, typer.Option(help="The most that one unit may count; 0: no cap.")] = 0,
    cap_percentile: Annotated[
        float, typer.Option(help="Or this percentile of the units, such as 0.999.")
    ] = 0,
    margin: Annotated[
        float, typer.Option(help="Share of the control by which a guardrail may be worse.")
    ] = 0,
    minimum_effect: Annotated[
        float, typer.Option(help="Smallest relative effect worth detecting; 0: none stated.")
    ] = 0,
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Define a metric. Filters, covariates and delays are for files: touchstone metric apply.

    Example: touchstone metric create revenue --kind mean --event-name purchase --currency EUR
    """
    require_metric_id(metric)
    if event_name:
        require_event_name(event_name)
    require_currency(currency)
    wanted = model_pb.Metric(
        display_name=title,
        kind=model_pb.MetricKind.Value(f"METRIC_KIND_{kind.name}"),
        event_name=event_name or ("" if kind is Kind.FUNNEL else metric),
        direction=model_pb.Direction.Value(f"DIRECTION_{direction.name}"),
        role=model_pb.MetricRole.Value(f"METRIC_ROLE_{role.name}"),
        conversion_window=parse_days(window_days, "--window-days") if window_days else None,
        currency=currency,
        aggregation=_aggregation(aggregation),
        denominator=_denominator(denominator),
        steps=[model_pb.Source(event_name=name) for name in step or []],
        retention=_retention(days),
        quantile=quantile,
        of_events=of_events,
        cap=_cap(cap, cap_percentile),
        margin=margin,
        minimum_effect=minimum_effect,
    )
    with open_session(data) as session:
        reply = session.metrics.CreateMetric(
            pb.CreateMetricRequest(
                parent=session.parent, metric_id=metric, metric=wanted, validate_only=dry_run
            )
        )
    _show_one(reply, output)


def _aggregation(named: Aggregation | None) -> model_pb.Aggregation.ValueType:
    if named is None:
        return model_pb.AGGREGATION_UNSPECIFIED
    return model_pb.Aggregation.Value(f"AGGREGATION_{named.name}")


def _denominator(text: str) -> model_pb.Source | None:
    """EVENT, or EVENT=AGGREGATION."""
    if not text:
        return None
    event_name, _, named = text.partition("=")
    require_event_name(event_name)
    try:
        aggregation = Aggregation(named) if named else None
    except ValueError as error:
        allowed = ", ".join(Aggregation)
        raise typer.BadParameter(
            f"--denominator is {text!r}; allowed: EVENT or EVENT=AGGREGATION, one of {allowed}"
        ) from error
    return model_pb.Source(event_name=event_name, aggregation=_aggregation(aggregation))


def _retention(text: str) -> model_pb.Retention | None:
    """FIRST-LAST, or one day."""
    if not text:
        return None
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise typer.BadParameter(f"--days is {text!r}; allowed: FIRST-LAST, such as 7-13")
    return model_pb.Retention(first_day=int(first), last_day=int(last or first))


def _cap(absolute: float, percentile: float) -> model_pb.Cap | None:
    if absolute and percentile:
        raise typer.BadParameter("--cap and --cap-percentile; allowed: one of the two")
    if absolute:
        return model_pb.Cap(absolute=absolute)
    return model_pb.Cap(percentile=percentile) if percentile else None


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
def versions(
    metric: Name, limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE
) -> None:
    """List what a metric was and is, newest first. Results name the version that they used."""
    with open_session(data) as session:
        request = pb.ListMetricVersionsRequest(name=session.name("metrics", metric))
        reply = collect(session.metrics.ListMetricVersions, request, "metrics", limit)
    write(View(reply, _VERSIONS, [_version_row(one) for one in reply.metrics]), output)


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


def _version_row(metric: model_pb.Metric) -> tuple[Cell, ...]:
    row = _row(metric)
    return *row[7:8], *row[1:7], metric.display_name


def _show_one(reply: Any, output: Format) -> None:
    write(View(reply, _COLUMNS, [_row(reply.metric)]), output)
