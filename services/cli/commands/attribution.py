"""touchstone attribution: who gets the credit."""

from __future__ import annotations

import csv
import enum
import json
from collections.abc import Iterator
from typing import Annotated, TextIO

import typer
from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2 as model_pb
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import report_pb2
from touchstone.common.v1 import identity_pb2

from services.cli.figures import count, share, time_text
from services.cli.importing.names import require_event_name, require_unit_type
from services.cli.options import Data, Output, PointInTime, parse_days, parse_time
from services.cli.rendering import Cell, Column, Format, View, columns, neutral, write
from services.cli.session import open_session
from services.cli.terminal import say, standard_output, warn
from shared.errors import unavailable

app = typer.Typer(no_args_is_help=True, help="Credit channels for conversions.")


class ModelName(enum.StrEnum):
    """A model that shares out credit, with its defaults."""

    FIRST_TOUCH = "first_touch"
    LAST_TOUCH = "last_touch"
    LINEAR = "linear"
    POSITION_BASED = "position_based"
    TIME_DECAY = "time_decay"
    MARKOV = "markov"
    LAST_NON_DIRECT = "last_non_direct"
    RANK_DECAY = "rank_decay"
    FULL_PATH = "full_path"
    PARTICIPATION = "participation"
    SAME_TOUCH = "same_touch"
    SHAPLEY = "shapley"
    PROBABILISTIC = "probabilistic"
    BAGGED_LOGISTIC = "bagged_logistic"
    FRACTRIBUTION = "fractribution"
    ADDITIVE_HAZARD = "additive_hazard"


MODELS_HELP = (
    "A model. Repeat it. "
    "[default: first_touch, last_touch, linear, position_based, time_decay, markov]"
)
EventName = Annotated[str, typer.Option(help="The conversion events that are credited.")]
UnitType = Annotated[str, typer.Option(help="Whose touches make a journey.")]
Lookback = Annotated[float, typer.Option(help="Days before its conversion that a touch counts.")]
Since = Annotated[str, typer.Option(help="Conversions from this time on.", show_default=False)]
Until = Annotated[str, typer.Option(help="Conversions before this time.", show_default=False)]
Repeats = Annotated[str, typer.Option(help="Several conversions of a unit: all, first or split.")]

TOGETHER = "(together)"
"""Channels that too few units met to be told of alone."""
UNCREDITED = "(uncredited)"
"""Conversions that a model gives to no channel."""
COLUMNS = (
    *columns("model", "channel"),
    Column("conversions", lambda cell: f"{cell:,.1f}", right=True),
    Column("value", lambda cell: f"{cell:,.2f}", right=True),
    Column("share", share, right=True),
    Column("cost_per_conversion", right=True),
    Column("return_on_spend", right=True),
    Column("removal_effect", lambda cell: f"{cell:.4f}", right=True),
)
_CREDIT_COLUMNS = columns(
    "conversion_id",
    "touch_id",
    "unit_type",
    "unit_id",
    "channel",
    "touch_time",
    "conversion_time",
    "weight",
    "value",
)


@app.command()
def show(
    *,
    event_name: EventName,
    model: Annotated[list[ModelName] | None, typer.Option(help=MODELS_HELP)] = None,
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    repeats: Repeats = "all",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Credit channels by one or several models over the same journeys.

    Example: touchstone attribution show --event-name purchase --model linear --model markov
    """
    definition = journey_definition(event_name, unit_type, lookback_days, (since, until), repeats)
    if point_in_time:
        definition.stitching = identity_pb2.STITCHING_POINT_IN_TIME
    request = pb.GetAttributionRequest(
        journeys=definition, models=[model_message(name) for name in model or []]
    )
    with open_session(data) as session:
        reply = session.attribution.GetAttribution(request)
    write(View(reply, COLUMNS, list(rows(reply)), title=event_name), output)
    tell_summary(reply)


@app.command(name="credits")
def list_credits(
    *,
    event_name: EventName,
    model: Annotated[ModelName, typer.Option(help="The model.")] = ModelName.LINEAR,
    unit_type: UnitType = "user",
    lookback_days: Lookback = 30,
    since: Since = "",
    until: Until = "",
    repeats: Repeats = "all",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.CSV,
) -> None:
    """Print the credit of every touch of every conversion; JSON is one object a line."""
    definition = journey_definition(event_name, unit_type, lookback_days, (since, until), repeats)
    if point_in_time:
        definition.stitching = identity_pb2.STITCHING_POINT_IN_TIME
    request = pb.StreamCreditsRequest(journeys=definition, model=model_message(model))
    with open_session(data) as session:
        parts = session.attribution.StreamCredits(request)
        with standard_output() as out:
            summary = _print_credits(iter(parts), output, out)
    say(f"{summary.credits} credits of {summary.conversions} conversions, value {summary.value:g}")


def model_message(name: ModelName) -> model_pb.Model:
    """The model with its defaults."""
    model = model_pb.Model()
    getattr(model, name.value).SetInParent()
    return model


def rows(
    reply: pb.GetAttributionResponse | report_pb2.AttributionReport,
) -> Iterator[tuple[Cell, ...]]:
    """A row for each model and channel, and for what no channel is told to have."""
    for result in reply.results:
        for channel in result.channels:
            yield _credit_of(result.model_name, channel.channel, channel)
        if result.HasField("suppressed"):
            yield _credit_of(result.model_name, TOGETHER, result.suppressed)
        if result.uncredited:
            yield (result.model_name, UNCREDITED, result.uncredited, *[None] * 5)


def _credit_of(model: str, name: str, found: model_pb.ChannelCredit) -> tuple[Cell, ...]:
    return (
        model,
        name,
        found.conversions,
        found.value,
        found.share,
        found.cost_per_conversion if found.HasField("cost_per_conversion") else None,
        found.return_on_spend if found.HasField("return_on_spend") else None,
        found.removal_effect if found.HasField("removal_effect") else None,
    )


def tell_summary(reply: pb.GetAttributionResponse | report_pb2.AttributionReport) -> None:
    """Says on standard error what the journeys are, and every warning."""
    found = reply.summary
    say(
        f"{count(found.journeys)} journeys of {count(found.units)} units with "
        f"{count(found.touches)} touches; {count(found.converting_journeys)} conversions credited, "
        f"{count(found.conversions_without_touch)} without a touch"
    )
    for warning in reply.warnings:
        warn(f"{warning.channel}: {warning.message}" if warning.channel else warning.message)


def journey_definition(
    event_name: str, unit_type: str, lookback_days: float, between: tuple[str, str], repeats: str
) -> model_pb.JourneyDefinition:
    """The definition that the options of a command give."""
    require_event_name(event_name)
    require_unit_type(unit_type)
    try:
        rule = model_pb.RepeatRule.Value(f"REPEAT_RULE_{repeats.upper()}")
    except ValueError as error:
        raise typer.BadParameter(f"--repeats is {repeats!r}; allowed: all, first, split") from error
    lookback = parse_days(lookback_days, "--lookback-days")
    since, until = between
    return model_pb.JourneyDefinition(
        event_name=event_name,
        unit_type=unit_type,
        lookback=lookback,
        start_time=parse_time(since, "--since") if since else None,
        end_time=parse_time(until, "--until") if until else None,
        repeat_rule=rule,
    )


def _print_credits(
    parts: Iterator[pb.StreamCreditsResponse], output: Format, out: TextIO
) -> pb.CreditStreamSummary:
    table: list[tuple[Cell, ...]] = []
    sheet = csv.writer(out, lineterminator="\n")
    if output is Format.CSV:
        sheet.writerow([column.name for column in _CREDIT_COLUMNS])
    for part in parts:
        if output is Format.JSON:
            for credit in part.credits:
                document = json_format.MessageToDict(credit, preserving_proto_field_name=True)
                out.write(json.dumps(document) + "\n")
        elif output is Format.CSV:
            sheet.writerows(map(neutral, _credit_row(credit)) for credit in part.credits)
        else:
            table.extend(_credit_row(credit) for credit in part.credits)
        if part.HasField("summary"):
            if output is Format.TABLE:
                write(View({}, _CREDIT_COLUMNS, table), Format.TABLE, out)
            return part.summary
    raise unavailable("DEPENDENCY_UNAVAILABLE", "the stream was cut off; ask again")


def _credit_row(credit: model_pb.Credit) -> tuple[Cell, ...]:
    return (
        credit.conversion_id,
        credit.touch_id,
        credit.unit.type,
        credit.unit.id,
        credit.channel,
        time_text(credit, "touch_time"),
        time_text(credit, "conversion_time"),
        credit.weight,
        credit.value,
    )
