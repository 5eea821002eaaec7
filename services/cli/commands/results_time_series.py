"""touchstone results time-series: how an experiment stood at the end of each day."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from touchstone.results.v1 import results_service_pb2 as pb
from touchstone.results.v1 import time_series_pb2 as model_pb

from services.cli.commands.results import STITCHINGS
from services.cli.commands.results_reading import READ, reading
from services.cli.figures import count, estimate, last_part, percent, span
from services.cli.options import Data, Output, PointInTime
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import warn

COLUMNS = (
    *columns("metric", "day", "variant"),
    Column("units", count, right=True),
    Column("new_units", count, right=True),
    Column("mean", right=True),
    Column("added", right=True),
    *READ,
)
BRIEF = (*COLUMNS[:7], COLUMNS[10], Column("interval", right=True), COLUMNS[13])


def time_series(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            max=0.5,
            help="Error probability of tests and intervals. [default: that of the analysis plan]",
        ),
    ] = None,
    *,
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how every variant stood at the end of each day (UTC), from the first exposure on.

    Intervals hold at every look unless the plan's method is fixed. Takes no look.

    Example: touchstone results time-series checkout --metric revenue --output csv
    """
    with open_session(data) as session:
        reply = session.results.GetTimeSeries(
            pb.GetTimeSeriesRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", name) for name in metric or []],
                alpha=alpha or 0,
                stitching=STITCHINGS[point_in_time],
            )
        )
    whole = list(rows(reply.time_series))
    shown = [(*row[:7], row[10], span(row[11], row[12], percent), row[13]) for row in whole]
    write(View(reply, COLUMNS, whole, f"{experiment} by day", (BRIEF, shown)), output)
    for one in reply.time_series.metrics:
        if one.HasField("error"):
            warn(f"{last_part(one.metric)} has no days: {one.error.message}")


def rows(series: model_pb.TimeSeries) -> Iterator[tuple[Cell, ...]]:
    """A row for each metric, day and arm; the control's has no comparison."""
    for metric in series.metrics:
        for day in metric.days:
            compared = {one.variant: one.reading for one in day.comparisons}
            for variant, arm in zip(series.variants, day.arms, strict=True):
                yield (
                    last_part(metric.metric),
                    day.day,
                    variant,
                    arm.units,
                    arm.new_units,
                    estimate(arm.mean),
                    estimate(arm.added),
                    *reading(compared.get(variant)),
                )
