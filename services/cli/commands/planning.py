"""touchstone experiment plan, simulate-null: how large and how long an experiment has to be, and
whether its method keeps its promise.
"""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.results.v1 import planning_service_pb2 as pb

from services.cli.commands.results import METHODS, Method
from services.cli.figures import (
    count,
    ends,
    enum_text,
    estimate,
    last_part,
    p_value,
    percent,
    share,
)
from services.cli.options import Data, Output, parse_time
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

COLUMNS = (
    *columns("metric", "role"),
    Column("history_units", count, right=True),
    Column("mean", right=True),
    Column("explained", share, right=True),
    Column("to_find", percent, right=True),
    Column("units", count, right=True),
    Column("days", right=True),
    Column("found_with", count, right=True),
    Column("finds", percent, right=True),
    *columns("obstacle"),
)
SIMULATED = (
    *columns("metric", "method"),
    Column("looks", right=True),
    Column("units", count, right=True),
    Column("repetitions", count, right=True),
    Column("skipped", count, right=True),
    Column("alpha", right=True),
    Column("rejections", count, right=True),
    Column("rate", share, right=True),
    Column("rate_low", share, right=True),
    Column("rate_high", share, right=True),
    *columns("calibrated"),
    Column("uniformity_p_value", p_value, right=True),
)


def plan(
    *,
    metric: Annotated[list[str], typer.Option(help="Id of a metric. Repeat it. Needed.")],
    event_name: Annotated[
        str, typer.Option(help="History: units with such an event, from --since to --until.")
    ] = "",
    unit_type: Annotated[str, typer.Option(help="Type of these units.")] = "user",
    since: Annotated[str, typer.Option(help="Start of the history, such as 2026-03-02.")] = "",
    until: Annotated[str, typer.Option(help="End of the history, left out.")] = "",
    like: Annotated[
        str, typer.Option(help="Or: the control and the units of this experiment.")
    ] = "",
    lift: Annotated[
        float, typer.Option(help="Relative effect to find, where a metric states none.")
    ] = 0,
    units: Annotated[int, typer.Option(help="Say what can be found with these units.")] = 0,
    days: Annotated[int, typer.Option(help="Or with the units of these days.")] = 0,
    method: Annotated[Method, typer.Option(help="How it will be read.")] = Method.GROUP_SEQUENTIAL,
    looks: Annotated[int, typer.Option(help="How often one looks, group-sequentially.")] = 28,
    alpha: Annotated[float, typer.Option(help="Error probability of the experiment.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance to find what is worth finding.")] = 0.8,
    weight: Annotated[
        list[int] | None, typer.Option(help="Size of an arm, the control first. [default: 1 1]")
    ] = None,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say how many units and days an experiment needs, and what it can find.

    Example: touchstone experiment plan --metric revenue --like checkout --lift 0.02 --days 28
    """
    if bool(event_name) == bool(like):
        raise typer.BadParameter("the history is --event-name or --like; allowed: one of the two")
    design = pb.PlannedDesign(
        weights=weight, method=METHODS[method], looks=looks, alpha=alpha, power=power
    )
    with open_session(data) as session:
        request = pb.PlanExperimentRequest(
            parent=session.parent,
            metrics=[session.name("metrics", one) for one in metric],
            design=design,
            lift=lift,
            units=units,
            days=days,
        )
        if like:
            request.experiment = session.name("experiments", like)
        else:
            request.population.CopyFrom(_population(event_name, unit_type, since, until))
        reply = session.planning.PlanExperiment(request)
    write(View(reply, COLUMNS, [row(one) for one in reply.metrics]), output)
    if output is Format.TABLE:
        days_seen = len(reply.units_per_day)
        say(
            f"{sum(reply.units_per_day):,} units came on {days_seen} days; afterwards "
            f"{reply.later_units_per_day:,.1f} a day are expected"
        )


def simulate_null(
    metric: Annotated[str, typer.Argument(help="Id of the metric.")],
    *,
    event_name: Annotated[
        str, typer.Option(help="History: units with such an event, from --since to --until.")
    ] = "",
    unit_type: Annotated[str, typer.Option(help="Type of these units.")] = "user",
    since: Annotated[str, typer.Option(help="Start of the history, such as 2026-03-02.")] = "",
    until: Annotated[str, typer.Option(help="End of the history, left out.")] = "",
    like: Annotated[str, typer.Option(help="Or: the control of this experiment.")] = "",
    method: Annotated[Method, typer.Option(help="How each split is read.")] = Method.FIXED,
    looks: Annotated[
        int,
        typer.Option(
            min=0,
            max=50,
            help="How often. [default: 1; 28 for group-sequential and hybrid]",
            show_default=False,
        ),
    ] = 0,
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="Error probability that is promised.")
    ] = 0.05,
    repetitions: Annotated[int, typer.Option(min=1, max=10_000, help="How many splits.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another one splits otherwise.")] = 1,
    treated_share: Annotated[float, typer.Option(help="Share of the treatment.")] = 0.5,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Split units of the past at random, again and again, and say how often a difference is found.

    Nothing was done to them, so this is the error probability that a method really has with a
    metric (an A/A test). Several looks with the method fixed show what peeking does.

    Example: touchstone experiment simulate-null revenue --like checkout --method group-sequential
    """
    if bool(event_name) == bool(like):
        raise typer.BadParameter("the history is --event-name or --like; allowed: one of the two")
    with open_session(data) as session:
        request = pb.SimulateNullExperimentRequest(
            parent=session.parent,
            metric=session.name("metrics", metric),
            method=METHODS[method],
            alpha=alpha,
            repetitions=repetitions,
            seed=seed,
            treated_share=treated_share,
            looks=looks,
        )
        if like:
            request.experiment = session.name("experiments", like)
        else:
            request.population.CopyFrom(_population(event_name, unit_type, since, until))
        reply = session.planning.SimulateNullExperiment(request)
    write(View(reply, SIMULATED, [simulated(reply, method)]), output)
    if not reply.calibrated and reply.rejection_rate.WhichOneof("result") == "value":
        warn(f"the method {method} does not keep its promise with {metric} at {reply.looks} looks")


def simulated(reply: pb.SimulateNullExperimentResponse, method: Method) -> tuple[Cell, ...]:
    """One simulation in a row."""
    return (
        last_part(reply.metric),
        method.value,
        reply.looks,
        reply.units,
        reply.repetitions,
        reply.skipped,
        reply.alpha,
        reply.rejections,
        estimate(reply.rejection_rate),
        *ends(reply.rejection_interval, share),
        reply.calibrated,
        estimate(reply.uniformity_p_value),
    )


def _population(event_name: str, unit_type: str, since: str, until: str) -> pb.Population:
    return pb.Population(
        event_name=event_name,
        unit_type=unit_type,
        start_time=parse_time(since, "--since"),
        end_time=parse_time(until, "--until"),
    )


def row(one: pb.MetricForecast) -> tuple[Cell, ...]:
    """One metric as it is shown, with what is not known left out."""
    needed, found = one.needed, one.detectable
    obstacles = [
        enum_text(part, "obstacle", "PLANNING_OBSTACLE_").replace("_", " ")
        for part in (needed, found)
        if part.obstacle
    ]
    return (
        last_part(one.metric),
        enum_text(one, "role", "METRIC_ROLE_"),
        one.history_units,
        estimate(one.mean),
        one.explained,
        needed.lift or None,
        sum(needed.units) if needed.units else None,
        needed.days if needed.units and not needed.obstacle else None,
        found.units or None,
        estimate(found.lift) if one.HasField("detectable") else None,
        ", ".join(dict.fromkeys(obstacles)),
    )
