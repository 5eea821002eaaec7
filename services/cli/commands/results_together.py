"""touchstone results evaluate, interactions, program: what several experiments show together."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

import typer
from touchstone.results.v1 import evaluation_service_pb2 as pb

from services.cli.commands.results import STITCHINGS
from services.cli.figures import count, ends, estimate, last_part, p_value, percent, plain, span
from services.cli.options import Data, Output, PointInTime, parse_pair
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, warn

Alpha = Annotated[
    float, typer.Option(min=1e-9, max=0.5, help="Error probability of tests and intervals.")
]
Metrics = Annotated[list[str], typer.Option(help="Id of a metric. Repeat it. Needed.")]

EVALUATED = (
    *columns("metric", "group"),
    Column("units", count, right=True),
    Column("mean", right=True),
    Column("ratio", right=True),
    Column("ratio_low", right=True),
    Column("ratio_high", right=True),
    Column("lift", percent, right=True),
    Column("lift_low", percent, right=True),
    Column("lift_high", percent, right=True),
    Column("difference", right=True),
    Column("difference_low", right=True),
    Column("difference_high", right=True),
    Column("p_value", p_value, right=True),
    Column("adjusted_p_value", p_value, right=True),
    Column("gained", right=True),
    Column("gained_low", right=True),
    Column("gained_high", right=True),
)
_INTERVAL = Column("interval", right=True)
_EVALUATED_BRIEF = (*EVALUATED[:5], _INTERVAL, EVALUATED[7], EVALUATED[14], EVALUATED[15])
CROSSED = (
    *columns("other", "metric", "variant", "other_variant"),
    Column("difference", right=True),
    Column("difference_low", right=True),
    Column("difference_high", right=True),
    Column("pair_p_value", p_value, right=True),
    Column("p_value", p_value, right=True),
    Column("adjusted_p_value", p_value, right=True),
    Column("dependence_p_value", p_value, right=True),
    Column("dependence_alert"),
)
_CROSSED_BRIEF = (*CROSSED[:5], _INTERVAL, *CROSSED[7:])
PROGRAM = (
    *columns("experiment", "variant"),
    Column("lift", percent, right=True),
    Column("std_err", percent, right=True),
    Column("shipped"),
)


class WaveCorrection(enum.StrEnum):
    """How waves are corrected for being several."""

    SIMULTANEOUS = "simultaneous"
    NONE = "none"
    BONFERRONI = "bonferroni"
    HOLM = "holm"


def evaluate(
    *,
    control: Annotated[
        str, typer.Option(help="EXPERIMENT=VARIANT of those who were kept out. Needed.")
    ],
    wave: Annotated[
        list[str], typer.Option(help="EXPERIMENT=VARIANT of a wave. Repeat it. Needed.")
    ],
    metric: Metrics,
    alpha: Alpha = 0.05,
    correction: Annotated[
        WaveCorrection, typer.Option(help="How waves are corrected for being several.")
    ] = WaveCorrection.SIMULTANEOUS,
    as_of: Annotated[
        str, typer.Option(help="The watermark of an earlier evaluation, to have the same again.")
    ] = "",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Compare the waves of a journey or campaign with those who were kept out.

    Example: touchstone results evaluate --control journey=out --wave journey=coupon --metric paid
    """
    kept_out = parse_pair(control, "--control", "journey=out")
    treated = [parse_pair(one, "--wave", "journey=coupon") for one in wave]
    with open_session(data) as session:
        reply = session.evaluations.EvaluateControlGroup(
            pb.EvaluateControlGroupRequest(
                parent=session.parent,
                control=_group(session, kept_out),
                waves=[_group(session, one) for one in treated],
                metrics=[session.name("metrics", one) for one in metric],
                alpha=alpha,
                correction=pb.WaveCorrection.Value(f"WAVE_CORRECTION_{correction.name}"),
                as_of=as_of,
                stitching=STITCHINGS[point_in_time],
            )
        )
    whole = list(evaluated(reply))
    shown = [(*row[:5], span(row[5], row[6], plain), row[7], row[14], row[15]) for row in whole]
    heading = f"{control} and {len(wave)} waves, {100 * (1 - alpha):.10g}% intervals"
    write(View(reply, EVALUATED, whole, heading, (_EVALUATED_BRIEF, shown)), output)
    for one in reply.metrics:
        if one.HasField("error"):
            warn(f"{last_part(one.metric)} has no result: {one.error.message}")
        if one.unequal_follow_up:
            warn(f"{last_part(one.metric)}: who was exposed earlier had longer; give it a window")


def _group(session: Session, pair: tuple[str, str]) -> pb.ExperimentGroup:
    experiment, variant = pair
    return pb.ExperimentGroup(experiment=session.name("experiments", experiment), variant=variant)


def evaluated(reply: pb.EvaluateControlGroupResponse) -> Iterator[tuple[Cell, ...]]:
    """A row for each metric and group: the control, each wave, and all waves as one."""
    names = [f"{last_part(one.group.experiment)}={one.group.variant}" for one in reply.groups]
    for metric in (one for one in reply.metrics if not one.HasField("error")):
        name, control = last_part(metric.metric), metric.control
        yield name, names[0], control.units, estimate(control.mean), *(None,) * 14
        for group, wave in zip(names[1:], metric.waves, strict=True):
            yield name, group, *_wave_cells(wave)
        if metric.HasField("pooled") and len(metric.waves) > 1:
            yield name, "all waves", *_wave_cells(metric.pooled)


def _wave_cells(wave: pb.WaveResults) -> tuple[Cell, ...]:
    return (
        wave.estimate.units,
        estimate(wave.estimate.mean),
        estimate(wave.ratio),
        *ends(wave.ratio_interval, plain),
        estimate(wave.lift),
        *ends(wave.lift_interval, percent),
        estimate(wave.difference),
        *ends(wave.difference_interval, plain),
        estimate(wave.p_value),
        estimate(wave.adjusted_p_value),
        estimate(wave.gained),
        *ends(wave.gained_interval, plain),
    )


def interactions(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    *,
    metric: Metrics,
    alpha: Alpha = 0.05,
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say whether experiments that run at the same time act on each other.

    The difference is by how much the effect of the variant changes among those who also have the
    other one; p_value is over all variants of both, pair_p_value of the two in the row alone.

    Example: touchstone results interactions checkout --metric revenue
    """
    with open_session(data) as session:
        reply = session.evaluations.GetInteractions(
            pb.GetInteractionsRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", one) for one in metric],
                alpha=alpha,
                stitching=STITCHINGS[point_in_time],
            )
        )
    whole = list(crossed(reply))
    shown = [(*row[:5], span(row[5], row[6], plain), *row[7:]) for row in whole]
    heading = f"{experiment} beside others, {100 * (1 - alpha):.10g}% intervals"
    write(View(reply, CROSSED, whole, heading, (_CROSSED_BRIEF, shown)), output)
    for one in reply.experiments:
        if one.dependence_alert:
            warn(f"{last_part(one.experiment)} does not assign independently: effects are mixed up")
    if reply.left_out:
        say(f"{reply.left_out} more run and were not looked at")


def crossed(reply: pb.GetInteractionsResponse) -> Iterator[tuple[Cell, ...]]:
    """A row for each other experiment, metric and pair of treatments."""
    for other in reply.experiments:
        dependence = (estimate(other.dependence_p_value), other.dependence_alert)
        for metric in other.metrics:
            tested = (estimate(metric.p_value), estimate(metric.adjusted_p_value))
            for pair in metric.pairs:
                yield (
                    last_part(other.experiment),
                    last_part(metric.metric),
                    pair.variant,
                    pair.other_variant,
                    estimate(pair.difference),
                    *ends(pair.difference_interval, plain),
                    estimate(pair.p_value),
                    *tested,
                    *dependence,
                )


def program(
    metric: Annotated[str, typer.Argument(help="Id of the metric.")],
    *,
    alpha: Annotated[
        float,
        typer.Option(
            min=1e-9, max=0.5, help="Level of the test that had to be passed, and of intervals."
        ),
    ] = 0.05,
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what the finished experiments of the project gained together, without flattery.

    Example: touchstone results program revenue
    """
    with open_session(data) as session:
        reply = session.evaluations.GetProgramEffect(
            pb.GetProgramEffectRequest(
                parent=session.parent,
                metric=session.name("metrics", metric),
                alpha=alpha,
                stitching=STITCHINGS[point_in_time],
            )
        )
    rows = [
        (
            last_part(one.experiment),
            one.variant,
            estimate(one.lift),
            estimate(one.std_err),
            one.shipped,
        )
        for one in reply.experiments
    ]
    write(View(reply, PROGRAM, rows, f"finished experiments by {metric}"), output)
    for line in sums(reply):
        say(line)


def sums(reply: pb.GetProgramEffectResponse) -> Iterator[str]:
    """What the experiments gained together, a line each."""

    def shown(cell: Cell) -> str:
        return percent(cell) if isinstance(cell, int | float) else str(cell)

    def between(low: Cell, high: Cell) -> str:
        return str(span(low, high, percent))

    corrected = between(*ends(reply.corrected_interval, percent))
    borrowed = between(*ends(reply.borrowed_interval, percent))
    yield f"{reply.shipped} of {len(reply.experiments)} experiments passed the test"
    yield f"sum of their lifts: {shown(estimate(reply.naive))}"
    yield f"of that flattery: {shown(estimate(reply.flattery))}"
    yield f"without it: {shown(estimate(reply.corrected))}, {corrected}"
    yield f"if true effects are normal: {shown(estimate(reply.borrowed))}, {borrowed}"
    if reply.several_treatments:
        yield f"{reply.several_treatments} experiments with several treatments are left out"
    if reply.left_out:
        yield f"{reply.left_out} older experiments are left out"
