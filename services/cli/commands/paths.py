"""touchstone paths: what journeys look like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import attribution_pb2, path_pb2
from touchstone.attribution.v1 import path_service_pb2 as pb

from services.cli.commands.attribution import (
    EventName,
    Lookback,
    Since,
    UnitType,
    Until,
    journey_definition,
)
from services.cli.commands.attribution_report import Grouping, grouping_named
from services.cli.figures import count, enum_text, share
from services.cli.importing.names import require_event_name
from services.cli.options import Data, Output, parse_days, parse_pair
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, warn

app = typer.Typer(no_args_is_help=True, help="Lengths, lags, steps and funnels of journeys.")

MinUnits = Annotated[
    int, typer.Option(min=0, help="The least units of what is told of alone; 0: 50.")
]
AsOf = Annotated[str, typer.Option(help="The watermark of the cut to read.")]
Transforms = Annotated[
    list[str] | None,
    typer.Option(
        "--transform",
        help="unique, exposure, exposure_last, first, last, frequency, or "
        "remove_if_not_all=CHANNEL, remove_if_last_and_not_all=CHANNEL. Repeat it.",
    ),
]
_COUNTS = tuple(Column(name, right=True) for name in ("units", "journeys", "conversions"))
_LENGTHS = (*columns("of", "length"), *_COUNTS)
_LAGS = (
    *columns("lag", "from_days", "to_days"),
    Column("units", right=True),
    Column("lags", right=True),
)
_QUANTILES = (*columns("lag", "level"), Column("days", right=True))
_STEPS = (
    *columns("source", "target"),
    Column("units", right=True),
    Column("count", right=True),
    Column("probability", share, right=True),
)
_FUNNEL = (*columns("channel", "step"), *_COUNTS, Column("left", right=True))
_TOGETHER = "(together)"
_ALL = "(all)"
_DAY_S = 86_400


@app.command()
def lengths(
    *,
    event_name: EventName,
    max_length: Annotated[int, typer.Option(help="Longer journeys share a line.")] = 20,
    transform: Transforms = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    min_units: MinUnits = 0,
    as_of: AsOf = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Count journeys by touches and by channels.

    Example: touchstone paths lengths --event-name purchase
    """
    journeys = _journeys(event_name, unit_type, lookback_days, (since, until), transform)
    request = pb.GetPathLengthsRequest(
        question=_question(journeys, as_of, min_units), max_length=max_length
    )
    with open_session(data) as session:
        _group(session, request.question, channel_grouping)
        reply = session.paths.GetPathLengths(request)
    found = [*_length_rows("touches", reply.touches), *_length_rows("channels", reply.channels)]
    write(View(reply, _LENGTHS, found, title=event_name), output)
    _tell(reply, reply.touches.withheld_bins + reply.channels.withheld_bins, "lengths")


@app.command()
def lags(
    *,
    event_name: EventName,
    edge_days: Annotated[
        list[float] | None, typer.Option(help="Where a bin ends, in days. Repeat it.")
    ] = None,
    level: Annotated[list[float] | None, typer.Option(help="A quantile. Repeat it.")] = None,
    quantiles: Annotated[
        bool, typer.Option("--quantiles", help="Show the quantiles, not the bins.")
    ] = False,
    transform: Transforms = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    min_units: MinUnits = 0,
    as_of: AsOf = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say how long it takes to convert, and from touch to touch.

    Example: touchstone paths lags --event-name purchase --quantiles
    """
    journeys = _journeys(event_name, unit_type, lookback_days, (since, until), transform)
    request = pb.GetTimeLagsRequest(
        question=_question(journeys, as_of, min_units),
        edges=[parse_days(days, "--edge-days") for days in edge_days or []],
        levels=level or [],
    )
    with open_session(data) as session:
        _group(session, request.question, channel_grouping)
        reply = session.paths.GetTimeLags(request)
    kinds = ("first_touch", "last_touch", "between_touches")
    each = [(kind, getattr(reply, kind)) for kind in kinds]
    view = View(reply, _LAGS, [*bin_rows(each)], title=event_name)
    if quantiles:
        view = View(reply, _QUANTILES, [*_quantile_rows(each)], title=event_name)
    write(view, output)
    _tell(reply, sum(found.withheld_bins for _, found in each), "bins")


@app.command()
def transitions(
    *,
    event_name: EventName,
    self_loops: Annotated[
        bool, typer.Option("--self-loops", help="Count steps from a channel to itself too.")
    ] = False,
    transform: Transforms = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    min_units: MinUnits = 0,
    as_of: AsOf = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Count the steps from channel to channel, from the start to conversion or to nothing.

    Example: touchstone paths transitions --event-name purchase
    """
    journeys = _journeys(event_name, unit_type, lookback_days, (since, until), transform)
    request = pb.GetTransitionsRequest(
        question=_question(journeys, as_of, min_units), self_loops=self_loops
    )
    with open_session(data) as session:
        _group(session, request.question, channel_grouping)
        reply = session.paths.GetTransitions(request)
    found = [
        (_state(row.source), _state(row.target), row.units, row.count, row.probability)
        for row in reply.transitions
    ]
    write(View(reply, _STEPS, found, title=event_name), output)
    _tell(reply, reply.suppressed_transitions, "steps")


@app.command()
def funnel(
    *,
    event_name: EventName,
    step: Annotated[
        list[str],
        typer.Option(help="any, event=NAME or channel=NAME[,NAME]: what reaches it. Repeat it."),
    ],
    transform: Transforms = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    min_units: MinUnits = 0,
    as_of: AsOf = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say who comes to which step, by channel of entry, and where they leave.

    Example: touchstone paths funnel --event-name purchase --step any --step event=lead
    """
    journeys = _journeys(event_name, unit_type, lookback_days, (since, until), transform)
    steps = [_step(text) for text in step]
    request = pb.GetFunnelRequest(question=_question(journeys, as_of, min_units), steps=steps)
    with open_session(data) as session:
        _group(session, request.question, channel_grouping)
        reply = session.paths.GetFunnel(request)
    each = [(_ALL, reply.rows), *((row.channel, row.rows) for row in reply.channels)]
    if any(row.figures.units for row in reply.suppressed):
        each.append((_TOGETHER, reply.suppressed))
    found = [row for name, rows in each for row in funnel_rows(name, rows, step)]
    write(View(reply, _FUNNEL, found, title=event_name), output)
    _tell(reply, reply.suppressed_channels, "channels")


@app.command()
def sequence(
    channels: Annotated[list[str], typer.Argument(help="The channels, one after another.")],
    *,
    event_name: EventName,
    order: Annotated[int, typer.Option(min=1, max=10, help="Touches that the chain sees.")] = 1,
    transform: Transforms = None,
    channel_grouping: Grouping = "",
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    min_units: MinUnits = 0,
    as_of: AsOf = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what part of conversions would be lost without a sequence of channels.

    Example: touchstone paths sequence "Paid Search" Email --event-name purchase --order 2
    """
    journeys = _journeys(event_name, unit_type, lookback_days, (since, until), transform)
    request = pb.GetSequenceEffectRequest(
        question=_question(journeys, as_of, min_units), sequence=channels, order=order
    )
    with open_session(data) as session:
        _group(session, request.question, channel_grouping)
        reply = session.paths.GetSequenceEffect(request)
    names = ("removal_effect", "units", "journeys", "conversions", "all_units", "all_conversions")
    found: Any = reply
    row = [getattr(found, name) if found.HasField(name) else None for name in names]
    shown = (Column("sequence"), *(Column(name, right=True) for name in names))
    write(View(reply, shown, [(" > ".join(channels), *row)], title=event_name), output)
    _tell(reply, 0 if reply.HasField("units") else 1, "figures")


def _journeys(
    event_name: str,
    unit_type: str,
    lookback_days: float,
    between: tuple[str, str],
    transforms: Sequence[str] | None,
) -> attribution_pb2.JourneyDefinition:
    found = journey_definition(event_name, unit_type, lookback_days, between, "all")
    found.path_transforms.extend(_transform(text) for text in transforms or [])
    return found


def _transform(text: str) -> attribution_pb2.PathTransform:
    name, _, channel = text.partition("=")
    try:
        kind = attribution_pb2.PathTransformKind.Value(f"PATH_TRANSFORM_KIND_{name.upper()}")
    except ValueError as error:
        known = [
            each.removeprefix("PATH_TRANSFORM_KIND_").lower()
            for each in attribution_pb2.PathTransformKind.keys()[1:]
        ]
        raise typer.BadParameter(f"--transform is {text!r}; allowed: {', '.join(known)}") from error
    return attribution_pb2.PathTransform(kind=kind, channels=[channel] if channel else [])


def _group(session: Session, question: pb.PathQuestion, grouping: str) -> None:
    if grouping:
        question.journeys.channel_grouping.CopyFrom(grouping_named(session, grouping))


def _question(
    journeys: attribution_pb2.JourneyDefinition, as_of: str, min_units: int
) -> pb.PathQuestion:
    return pb.PathQuestion(journeys=journeys, as_of=as_of, min_units=min_units)


def _step(text: str) -> pb.FunnelStep:
    if text == "any":
        return pb.FunnelStep()
    kind, name = parse_pair(text, "--step", "event=lead")
    if kind == "event":
        require_event_name(name)
        return pb.FunnelStep(event_name=name)
    if kind == "channel":
        return pb.FunnelStep(channels=name.split(","))
    raise typer.BadParameter(f"--step is {text!r}; allowed: any, event=NAME, channel=NAME[,NAME]")


def _length_rows(of: str, found: path_pb2.PathLengths) -> Iterator[tuple[Cell, ...]]:
    for row in found.bins:
        yield of, row.length, row.units, row.journeys, row.conversions
    if found.HasField("suppressed"):
        row = found.suppressed
        yield of, _TOGETHER, row.units, row.journeys, row.conversions


def bin_rows(
    each: Iterable[tuple[str, path_pb2.LagDistribution]],
) -> Iterator[tuple[Cell, ...]]:
    """A row a bin, its ends in days."""
    for name, found in each:
        for row in found.bins:
            end = _days(row.less_than) if row.HasField("less_than") else None
            yield name, _days(row.at_least), end, row.units, row.lags
        if found.HasField("suppressed"):
            yield name, _TOGETHER, None, found.suppressed.units, found.suppressed.lags


def _quantile_rows(
    each: Iterable[tuple[str, path_pb2.LagDistribution]],
) -> Iterator[tuple[Cell, ...]]:
    for name, found in each:
        for row in found.quantiles:
            yield name, row.level, _days(row.lag) if row.HasField("lag") else None


def _days(duration: Duration) -> float:
    return duration.ToMicroseconds() / (_DAY_S * 1_000_000)


def _state(state: path_pb2.PathState) -> str:
    return state.channel or f"({enum_text(state, 'kind', 'PATH_STATE_KIND_')})"


def funnel_rows(
    channel: str, rows: Iterable[path_pb2.FunnelRow], steps: Sequence[str]
) -> Iterator[tuple[Cell, ...]]:
    """A row a step; what is held back is empty."""
    for row in rows:
        name, found = steps[row.step], row.figures
        if not row.HasField("figures"):
            yield channel, name, None, None, None, None
        else:
            left = found.left if found.HasField("left") else None
            yield channel, name, found.units, found.journeys, found.conversions, left


def _tell(reply: Any, held: int, what: str) -> None:
    """Says on standard error what was read, what is not there, and what is held back."""
    if absent := getattr(reply, "absent_channels", ()):
        warn(f"no journey holds {', '.join(map(repr, absent))}: look how channels are spelt")
    said = f"read up to {reply.provenance.watermark or 'the beginning'}"
    few = f"; {count(held)} {what} of fewer than {count(reply.min_units)} units are held back"
    say(said + (few if held else ""))
