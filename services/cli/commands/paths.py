"""touchstone paths: what journeys look like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import path_pb2
from touchstone.attribution.v1 import path_service_pb2 as pb

from services.cli.credit.definition import name_grouping
from services.cli.credit.options import JourneyOptions
from services.cli.figures import count, enum_text, share
from services.cli.importing.names import require_event_name
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output, parse_days, parse_pair
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

app = typer.Typer(no_args_is_help=True, help="Lengths, lags, steps and funnels of journeys.")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """Which cut is read, and what of it is told."""

    min_units: Annotated[
        int, typer.Option(min=0, help="The least units of what is told of alone; 0: 50.")
    ] = 0
    as_of: Annotated[
        str,
        typer.Option(help="The watermark of the cut to read.", show_default=False),
    ] = ""


@app.command()
@option_groups
def lengths(
    *,
    max_length: Annotated[int, typer.Option(help="Longer journeys share a line.")] = 20,
    journeys: JourneyOptions,
    cut: CutOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Count journeys by touches and by channels.

    Example: touchstone paths lengths --event-name purchase
    """
    question = _question(journeys, cut)
    request = pb.GetPathLengthsRequest(question=question, max_length=max_length)
    with open_session(data) as session:
        name_grouping(session, request.question.journeys)
        reply = session.paths.GetPathLengths(request)
    found = [*_length_rows("touches", reply.touches), *_length_rows("channels", reply.channels)]
    write(View(reply, _LENGTHS, found, title=question.journeys.event_name), output)
    _tell(reply, reply.touches.withheld_bins + reply.channels.withheld_bins, "lengths")


@app.command()
@option_groups
def lags(
    *,
    edge_days: Annotated[
        list[float] | None, typer.Option(help="Where a bin ends, in days. Repeat it.")
    ] = None,
    level: Annotated[list[float] | None, typer.Option(help="A quantile. Repeat it.")] = None,
    quantiles: Annotated[
        bool, typer.Option("--quantiles", help="Show the quantiles, not the bins.")
    ] = False,
    journeys: JourneyOptions,
    cut: CutOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say how long it takes to convert, and from touch to touch.

    Example: touchstone paths lags --event-name purchase --quantiles
    """
    question = _question(journeys, cut)
    request = pb.GetTimeLagsRequest(
        question=question,
        edges=[parse_days(days, "--edge-days") for days in edge_days or []],
        levels=level or [],
    )
    with open_session(data) as session:
        name_grouping(session, request.question.journeys)
        reply = session.paths.GetTimeLags(request)
    kinds = ("first_touch", "last_touch", "between_touches")
    each = [(kind, getattr(reply, kind)) for kind in kinds]
    view = View(reply, _LAGS, [*bin_rows(each)], title=question.journeys.event_name)
    if quantiles:
        view = View(reply, _QUANTILES, [*_quantile_rows(each)], title=question.journeys.event_name)
    write(view, output)
    _tell(reply, sum(found.withheld_bins for _, found in each), "bins")


@app.command()
@option_groups
def transitions(
    *,
    self_loops: Annotated[
        bool, typer.Option("--self-loops", help="Count steps from a channel to itself too.")
    ] = False,
    journeys: JourneyOptions,
    cut: CutOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Count the steps from channel to channel, from the start to conversion or to nothing.

    Example: touchstone paths transitions --event-name purchase
    """
    question = _question(journeys, cut)
    request = pb.GetTransitionsRequest(question=question, self_loops=self_loops)
    with open_session(data) as session:
        name_grouping(session, request.question.journeys)
        reply = session.paths.GetTransitions(request)
    found = [
        (_state(row.source), _state(row.target), row.units, row.count, row.probability)
        for row in reply.transitions
    ]
    write(View(reply, _STEPS, found, title=question.journeys.event_name), output)
    _tell(reply, reply.suppressed_transitions, "steps")


@app.command()
@option_groups
def funnel(
    *,
    step: Annotated[
        list[str],
        typer.Option(help="any, event=NAME or channel=NAME[,NAME]: what reaches it. Repeat it."),
    ],
    journeys: JourneyOptions,
    cut: CutOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say who comes to which step, by channel of entry, and where they leave.

    Example: touchstone paths funnel --event-name purchase --step any --step event=lead
    """
    question = _question(journeys, cut)
    steps = [_step(text) for text in step]
    request = pb.GetFunnelRequest(question=question, steps=steps)
    with open_session(data) as session:
        name_grouping(session, request.question.journeys)
        reply = session.paths.GetFunnel(request)
    each = [(_ALL, reply.rows), *((row.channel, row.rows) for row in reply.channels)]
    if any(row.figures.units for row in reply.suppressed):
        each.append((_TOGETHER, reply.suppressed))
    found = [row for name, rows in each for row in funnel_rows(name, rows, step)]
    write(View(reply, _FUNNEL, found, title=question.journeys.event_name), output)
    _tell(reply, reply.suppressed_channels, "channels")


@app.command()
@option_groups
def sequence(
    channels: Annotated[list[str], typer.Argument(help="The channels, one after another.")],
    *,
    order: Annotated[int, typer.Option(min=1, max=10, help="Touches that the chain sees.")] = 1,
    ignore_nulls: Annotated[
        bool, typer.Option("--ignore-nulls", help="Leave out journeys without a conversion.")
    ] = False,
    journeys: JourneyOptions,
    cut: CutOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what part of conversions would be lost without a sequence of channels.

    Example: touchstone paths sequence "Paid Search" Email --event-name purchase --order 2
    """
    question = _question(journeys, cut)
    request = pb.GetSequenceEffectRequest(
        question=question, sequence=channels, order=order, ignore_non_converting=ignore_nulls
    )
    with open_session(data) as session:
        name_grouping(session, request.question.journeys)
        reply = session.paths.GetSequenceEffect(request)
    names = ("removal_effect", "units", "journeys", "conversions", "all_units", "all_conversions")
    found: Any = reply
    row = [getattr(found, name) if found.HasField(name) else None for name in names]
    shown = (Column("sequence"), *(Column(name, right=True) for name in names))
    write(
        View(reply, shown, [(" > ".join(channels), *row)], title=question.journeys.event_name),
        output,
    )
    _tell(reply, 0 if reply.HasField("units") else 1, "figures")


def _question(journeys: JourneyOptions, cut: CutOptions) -> pb.PathQuestion:
    asked = journeys.read()
    min_units = cut.min_units or asked.min_units
    return pb.PathQuestion(journeys=asked.journeys, as_of=cut.as_of, min_units=min_units)


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
