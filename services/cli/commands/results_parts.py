"""touchstone results slices and funnel: parts of the population, and the steps of a funnel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from touchstone.results.v1 import results_pb2 as model_pb
from touchstone.results.v1 import results_service_pb2 as pb

from services.cli.commands.results import STITCHINGS, AsOf
from services.cli.commands.results_reading import READ, reading
from services.cli.figures import count, ends, estimate, last_part, p_value, percent, plain, span
from services.cli.options import Data, Output, PointInTime
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

SLICES = (
    *columns("metric", "dimension", "slice", "variant"),
    Column("units", count, right=True),
    Column("mean", right=True),
    *READ,
    Column("shrunken_difference", right=True),
    Column("shrunken_low", right=True),
    Column("shrunken_high", right=True),
)
STEPS = (
    *columns("metric", "step", "variant"),
    Column("units", count, right=True),
    Column("reached", percent, right=True),
    Column("passed", percent, right=True),
    Column("left", count, right=True),
    *READ,
)
_SLICES_BRIEF = (*SLICES[:6], SLICES[9], Column("interval", right=True), SLICES[12])
_STEPS_BRIEF = (*STEPS[:7], STEPS[10], Column("interval", right=True), STEPS[13])

Metrics = Annotated[
    list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
]


def slices(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Metrics = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            help="Split by this, such as properties.country, source or evaluator. Repeat it. "
            "[default: those of the analysis plan]"
        ),
    ] = None,
    *,
    as_of: AsOf = "",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what an experiment does in parts of the population, and whether they differ.

    The shrunken difference has borrowed from the other slices: it needs no correction for looking
    at the largest.

    Example: touchstone results slices checkout --metric visit --dimension properties.country
    """
    with open_session(data) as session:
        reply = session.results.GetResults(
            pb.GetResultsRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", name) for name in metric or []],
                dimensions=dimension or [],
                as_of=as_of,
                stitching=STITCHINGS[point_in_time],
            )
        )
    whole = list(slice_rows(reply.results))
    shown = [(*row[:6], row[9], span(row[10], row[11], percent), row[12]) for row in whole]
    write(View(reply, SLICES, whole, f"{experiment} by slice", (_SLICES_BRIEF, shown)), output)
    tell_errors(reply.results)
    if not whole:
        warn("there are no slices: name a --dimension, or dimensions in the analysis plan")
    for line in differences(reply.results):
        say(line)


def funnel(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Metrics = None,
    *,
    as_of: AsOf = "",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the steps of funnel metrics: who reached each, who went on, who left, in every arm.

    The comparisons are of the share of the step before that goes on.

    Example: touchstone results funnel checkout --metric account-opening
    """
    with open_session(data) as session:
        reply = session.results.GetResults(
            pb.GetResultsRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", name) for name in metric or []],
                as_of=as_of,
                stitching=STITCHINGS[point_in_time],
            )
        )
    whole = list(step_rows(reply.results))
    shown = [(*row[:7], row[10], span(row[11], row[12], percent), row[13]) for row in whole]
    write(View(reply, STEPS, whole, f"{experiment} by step", (_STEPS_BRIEF, shown)), output)
    tell_errors(reply.results)
    if not whole:
        warn("there are no steps: none of these metrics is a funnel")


def slice_rows(results: model_pb.Results) -> Iterator[tuple[Cell, ...]]:
    """A row for each metric, slice and arm; the control's has no comparison."""
    for metric in results.metrics:
        for part in metric.slices:
            compared = {one.variant: one for one in part.comparisons}
            for arm in part.arms:
                found = compared.get(arm.variant)
                yield (
                    *(last_part(metric.metric), part.dimension, slice_name(part), arm.variant),
                    *(arm.units, estimate(arm.mean), *reading(found and found.reading)),
                    *(_shrunken(found) if found else (None,) * 3),
                )


def step_rows(results: model_pb.Results) -> Iterator[tuple[Cell, ...]]:
    """A row for each funnel, step and arm; the control's has no comparison."""
    for metric in results.metrics:
        for step in metric.steps:
            compared = {one.variant: one.reading for one in step.comparisons}
            for arm in step.arms:
                yield (
                    *(last_part(metric.metric), step.event_name, arm.variant, arm.units),
                    *(estimate(arm.reached), estimate(arm.passed), arm.left),
                    *reading(compared.get(arm.variant)),
                )


def slice_name(part: model_pb.SliceResults) -> str:
    """The value of a slice, or which units without one of their own it holds."""
    if part.no_value:
        return "(no value)"
    return f"({part.other_values} other values)" if part.other_values else part.value


def differences(results: model_pb.Results) -> Iterator[str]:
    """A line for each test that the effect is the same in all slices."""
    for metric in results.metrics:
        for test in metric.heterogeneity:
            value = estimate(test.adjusted_p_value)
            told = f"p {p_value(value)}, corrected" if isinstance(value, float) else str(value)
            share = estimate(test.i_squared)
            known = isinstance(share, float)
            more = f"; {share:.0%} of what differs is not chance" if known else ""
            yield (
                f"{last_part(metric.metric)}, {test.variant}: the same effect in all slices of "
                f"{test.dimension}: {told}{more}"
            )


def tell_errors(results: model_pb.Results) -> None:
    """Says on standard error which metrics have no result, and why."""
    for metric in results.metrics:
        if metric.HasField("error"):
            warn(f"{last_part(metric.metric)} has no result: {metric.error.message}")


def _shrunken(found: model_pb.SliceComparison) -> tuple[Cell, ...]:
    number = estimate(found.shrunken_difference)
    if number is None:
        return (None,) * 3
    return number, *ends(found.shrunken_interval, plain)
