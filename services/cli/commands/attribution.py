"""touchstone attribution: who gets the credit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TextIO, TypeAlias

import typer
from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2 as model_pb
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import held_out_pb2, report_pb2

from services.cli.credit.definition import name_grouping
from services.cli.credit.models import read_model
from services.cli.credit.options import JourneyOptions, ModelOptions, ReportingOptions
from services.cli.figures import count, plain, share, span, time_text
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, neutral, write
from services.cli.session import open_session
from services.cli.terminal import say, standard_output, warn
from shared.errors import unavailable

app = typer.Typer(no_args_is_help=True, help="Credit channels for conversions.")


Summarised: TypeAlias = (
    pb.GetAttributionResponse | pb.EvaluatePathsResponse | report_pb2.AttributionReport
)

TOGETHER = "(together)"
"""Channels that too few units met to be told of alone."""
UNCREDITED = "(uncredited)"
"""Conversions that a model gives to no channel."""
_ALWAYS_THERE = ("conversions", "value", "share")
_FIGURES: tuple[tuple[str, Callable[[Cell], str] | None], ...] = (
    ("conversions", lambda cell: f"{cell:,.1f}"),
    ("value", lambda cell: f"{cell:,.2f}"),
    ("share", share),
    ("cost_per_conversion", None),
    ("return_on_spend", None),
    ("removal_effect", lambda cell: f"{cell:.4f}"),
)
COLUMNS = (
    *columns("model", "channel"),
    *(
        Column(f"{name}{end}", show, right=True)
        for name, show in _FIGURES
        for end in ("", "_low", "_high")
    ),
)
"""Each figure, and the ends of its interval."""
_BRIEF = (
    *columns("model", "channel"),
    *(Column(name, show, right=True) for name, show in _FIGURES),
    *columns("conversions_between"),
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
@option_groups
def show(
    *,
    journeys: JourneyOptions,
    models: ModelOptions,
    reporting: ReportingOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Credit channels by one or several models over the same journeys.

    Example: touchstone attribution show --event-name purchase --model linear --model markov
    """
    asked = journeys.read()
    models.apply(asked)
    reporting.apply(asked)
    with open_session(data) as session:
        name_grouping(session, asked.journeys)
        request = pb.GetAttributionRequest(
            journeys=asked.journeys,
            models=asked.models,
            bootstrap=asked.bootstrap if asked.HasField("bootstrap") else None,
            held_out=asked.held_out if asked.HasField("held_out") else None,
            min_units=asked.min_units,
        )
        reply = session.attribution.GetAttribution(request)
    table = list(rows(reply))
    title = asked.journeys.event_name
    write(View(reply, COLUMNS, table, title=title, brief=brief(table)), output)
    tell_summary(reply)
    for fit in reply.fits:
        say(fit_text(fit))


@app.command(name="credits")
@option_groups
def list_credits(
    *,
    model: Annotated[
        str, typer.Option(help="The model: NAME, or NAME:FIELD=VALUE,FIELD=VALUE.")
    ] = "linear",
    journeys: JourneyOptions,
    data: Data = None,
    output: Output = Format.CSV,
) -> None:
    """Print the credit of every touch of every conversion; JSON is one object a line.

    Example: touchstone attribution credits --event-name purchase --model time_decay:half_life=3d
    """
    asked = journeys.read()
    request = pb.StreamCreditsRequest(journeys=asked.journeys, model=read_model(model))
    with open_session(data) as session:
        name_grouping(session, request.journeys)
        parts = session.attribution.StreamCredits(request)
        with standard_output() as out:
            summary = _print_credits(iter(parts), output, out)
    say(f"{summary.credits} credits of {summary.conversions} conversions, value {summary.value:g}")


def rows(reply: Summarised) -> Iterator[tuple[Cell, ...]]:
    """A row for each model and channel, and for what no channel is told to have."""
    for result in reply.results:
        for channel in result.channels:
            yield _credit_of(result.model_name, channel.channel, channel)
        if result.HasField("suppressed"):
            yield _credit_of(result.model_name, TOGETHER, result.suppressed)
        if result.uncredited:
            nothing = [None] * (len(COLUMNS) - 3)
            yield (result.model_name, UNCREDITED, result.uncredited, *nothing)


def brief(table: Sequence[tuple[Cell, ...]]) -> tuple[Sequence[Column], list[tuple[Cell, ...]]]:
    """The figures without the ends of intervals, but for those of conversions where there are."""
    known = any(row[3] is not None for row in table)
    found = [
        (*row[:2], *row[2::3], *([span(row[3], row[4], plain)] if known else [])) for row in table
    ]
    return _BRIEF if known else _BRIEF[:-1], found


def _credit_of(model: str, name: str, credit: model_pb.ChannelCredit) -> tuple[Cell, ...]:
    cells: list[Cell] = [model, name]
    found: Any = credit
    for figure, _ in _FIGURES:
        here = figure in _ALWAYS_THERE or found.HasField(figure)
        cells.append(getattr(found, figure) if here else None)
        interval = getattr(found.intervals, figure)
        known = found.intervals.HasField(figure)
        cells += [interval.low, interval.high] if known else [None, None]
    return tuple(cells)


def tell_summary(reply: Summarised) -> None:
    """Says on standard error what the journeys are, which order was taken, and every warning."""
    found = reply.summary
    say(
        f"{count(found.journeys)} journeys of {count(found.units)} units with "
        f"{count(found.touches)} touches; {count(found.converting_journeys)} conversions credited, "
        f"{count(found.conversions_without_touch)} without a touch"
    )
    # A Markov model has several results, of one choice.
    chosen = [each.order_selection for each in reply.results if each.HasField("order_selection")]
    for text in dict.fromkeys(map(order_text, chosen)):
        say(text)
    for warning in reply.warnings:
        warn(f"{warning.channel}: {warning.message}" if warning.channel else warning.message)


def order_text(found: held_out_pb2.OrderSelection) -> str:
    """Which order a Markov model was given, and by what."""
    tried = ", ".join(
        f"{each.order}: {each.penalised_auc:.4f}"
        for each in found.orders
        if each.HasField("penalised_auc")
    )
    text = f"markov: order {found.chosen}, by the penalised area on held-out journeys ({tried})"
    return f"{text}; {found.why_fewer}" if found.why_fewer else text


def fit_text(fit: held_out_pb2.ModelFit) -> str:
    """How well a model predicts held-out journeys, or why nothing is known of it."""
    if fit.why_none:
        return f"{fit.model_name} on held-out journeys: {fit.why_none}"
    auc = f"{fit.auc:.3f}" if fit.HasField("auc") else "-"
    slope = f"{fit.calibration_slope:.2f}" if fit.HasField("calibration_slope") else "-"
    return (
        f"{fit.model_name} on {count(fit.journeys)} held-out journeys: AUC {auc}, log-loss "
        f"{fit.log_loss:.4f} ({fit.base_log_loss:.4f} without a model), calibration slope {slope}"
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
