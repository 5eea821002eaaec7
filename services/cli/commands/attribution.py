"""touchstone attribution: who gets the credit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TextIO, TypeAlias

import typer
from touchstone.attribution.v1 import attribution_pb2 as model_pb
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import held_out_pb2, report_pb2

from services.cli.credit.definition import name_grouping
from services.cli.credit.models import read_model
from services.cli.credit.options import JourneyOptions, ModelOptions, ReportingOptions
from services.cli.figures import count, plain, share, span
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.score_stream import COLUMNS as CREDIT_COLUMNS
from services.cli.score_stream import LineFormat, credit_row, write_credits, write_header
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
Figures: TypeAlias = tuple[tuple[str, Callable[[Cell], str] | None], ...]
FIGURES: Figures = (
    ("conversions", lambda cell: f"{cell:,.1f}"),
    ("value", lambda cell: f"{cell:,.2f}"),
    ("share", share),
    ("cost_per_conversion", None),
    ("return_on_spend", None),
    ("removal_effect", lambda cell: f"{cell:.4f}"),
)
"""What a channel gets, and how a table shows it."""


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
    write(credit_view(reply, asked.journeys.event_name), output)
    tell_summary(reply)
    for fit in reply.fits:
        say(fit_text(fit))


@app.command(name="credits")
@option_groups
def list_credits(
    *,
    model: Annotated[
        str,
        typer.Option(
            help="The model: NAME, or NAME:FIELD=VALUE,FIELD=VALUE. "
            "[default: the one of the file, otherwise linear]",
            show_default=False,
        ),
    ] = "",
    journeys: JourneyOptions,
    data: Data = None,
    output: Output = Format.CSV,
) -> None:
    """Print the credit of every touch of every conversion; JSON is one object a line.

    Example: touchstone attribution credits --event-name purchase --model time_decay:half_life=3d
    """
    asked = journeys.read()
    if len(asked.models) > 1 and not model:
        raise typer.BadParameter(
            f"--definition names {len(asked.models)} models; allowed: one, or --model beside it"
        )
    chosen = asked.models[0] if asked.models and not model else read_model(model or "linear")
    request = pb.StreamCreditsRequest(journeys=asked.journeys, model=chosen)
    with open_session(data) as session:
        name_grouping(session, request.journeys)
        parts = session.attribution.StreamCredits(request)
        with standard_output() as out:
            summary = _print_credits(iter(parts), output, out)
    say(f"{summary.credits} credits of {summary.conversions} conversions, value {summary.value:g}")


def credit_view(reply: Summarised, title: str, figures: Figures = FIGURES) -> View:
    """A row for each model and channel, with each figure and the ends of its interval; a table
    shows the interval of conversions alone, where there is one.
    """
    shown = [
        Column(f"{name}{end}", show, right=True)
        for name, show in figures
        for end in ("", "_low", "_high")
    ]
    table = list(_rows(reply, figures))
    known = any(row[3] is not None for row in table)
    between = [[span(row[3], row[4], plain)] if known else [] for row in table]
    brief = (
        (
            *columns("model", "channel"),
            *(Column(name, show, right=True) for name, show in figures),
            *columns(*(["conversions_between"] if known else [])),
        ),
        [(*row[:2], *row[2::3], *more) for row, more in zip(table, between, strict=True)],
    )
    return View(reply, (*columns("model", "channel"), *shown), table, title=title, brief=brief)


def _rows(reply: Summarised, figures: Figures) -> Iterator[tuple[Cell, ...]]:
    """A row for each model and channel, and for what no channel is told to have."""
    for result in reply.results:
        named = [(channel.channel, channel) for channel in result.channels]
        if result.HasField("suppressed"):
            named.append((TOGETHER, result.suppressed))
        for name, credit in named:
            yield (result.model_name, name, *_cells(credit, figures))
        if result.uncredited:
            rest = model_pb.ChannelCredit(conversions=result.uncredited)
            cells = [*_cells(rest, figures)]
            # It has conversions alone.
            yield (result.model_name, UNCREDITED, cells[0], *[None] * (len(cells) - 1))


def _cells(credit: model_pb.ChannelCredit, figures: Figures) -> Iterator[Cell]:
    """Each figure with the ends of its interval, as far as they are known."""
    found: Any = credit
    for figure, _ in figures:
        optional = found.DESCRIPTOR.fields_by_name[figure].has_presence
        here = not optional or found.HasField(figure)
        yield getattr(found, figure) if here else None
        interval = getattr(found.intervals, figure)
        known = found.intervals.HasField(figure)
        yield from (interval.low, interval.high) if known else (None, None)


def tell_summary(reply: Summarised) -> None:
    """Says on standard error what the journeys are, which orders were taken, and every
    warning.
    """
    found = reply.summary
    say(
        f"{count(found.journeys)} journeys of {count(found.units)} units with "
        f"{count(found.touches)} touches; {count(found.converting_journeys)} conversions credited, "
        f"{count(found.conversions_without_touch)} without a touch"
    )
    tell_doubts(reply)


def tell_doubts(reply: Summarised) -> None:
    """Says on standard error which order was taken, and every warning."""
    # A Markov model has several results, of one choice.
    chosen = [each.order_selection for each in reply.results if each.HasField("order_selection")]
    for text in dict.fromkeys(map(_order_text, chosen)):
        say(text)
    for warning in reply.warnings:
        about = ", ".join(filter(None, (warning.model_name, warning.channel)))
        warn(f"{about}: {warning.message}" if about else warning.message)


def _order_text(found: held_out_pb2.OrderSelection) -> str:
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
    form = LineFormat.CSV if output is Format.CSV else LineFormat.NDJSON
    if output is not Format.TABLE:
        write_header(form, out)
    for part in parts:
        if output is Format.TABLE:
            table.extend(map(credit_row, part.credits))
        else:
            write_credits(part.credits, form, out)
        if part.HasField("summary"):
            if output is Format.TABLE:
                write(View({}, CREDIT_COLUMNS, table), Format.TABLE, out)
            return part.summary
    raise unavailable("DEPENDENCY_UNAVAILABLE", "the stream was cut off; ask again")
