"""touchstone rejected: events that were not stored."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from touchstone.events.v1 import event_pb2, events_service_pb2
from touchstone.events.v1 import rejected_events_service_pb2 as pb

from services.cli.failures import REJECTED
from services.cli.figures import enum_text, last_part, time_text
from services.cli.options import Data, DryRun, Limit, Output, parse_time
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, json_text, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, standard_output, warn

app = typer.Typer(
    no_args_is_help=True, help="Look at events that were not stored, and replay them."
)

_COLLECTION = "rejectedEvents"
_LISTED = (
    *columns("number", "event_id", "reason", "field", "message", "receive_time", "source", "door"),
    Column("payload_bytes", right=True),
    Column("truncated"),
)
_REPLAYED = columns("number", "outcome", "reason", "field", "message")
_DONE = (pb.REPLAY_OUTCOME_ACCEPTED, pb.REPLAY_OUTCOME_DUPLICATE)
_PAGE = 500


class ReasonName(enum.StrEnum):
    """Why an event was rejected."""

    INVALID_FIELD = "invalid_field"
    EVENT_TIME_OUT_OF_RANGE = "event_time_out_of_range"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    TOO_LARGE = "too_large"
    UNIT_ERASED = "unit_erased"


Reasons = Annotated[list[ReasonName] | None, typer.Option("--reason", help="A reason. Repeat it.")]
Source = Annotated[str, typer.Option(help="The program that sent it.")]
EventId = Annotated[str, typer.Option(help="Its event id.")]
Start = Annotated[str, typer.Option(help="Received at this time or later, UTC.")]
End = Annotated[str, typer.Option(help="Received before this time, UTC.")]


@app.command(name="list")
def list_events(
    *,
    reason: Reasons = None,
    source: Source = "",
    event_id: EventId = "",
    start: Start = "",
    end: End = "",
    limit: Limit = 100,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List rejected events, newest first, without their payloads.

    Example: touchstone rejected list --reason conflicting_duplicate --start 2026-01-31
    """
    wanted = _filter(reason, source, event_id, start, end)
    with open_session(data) as session:
        request = pb.ListRejectedEventsRequest(parent=session.parent, filter=wanted)
        reply = collect(session.rejected.ListRejectedEvents, request, "rejected_events", limit)
    write(View(reply, _LISTED, [_row(one) for one in reply.rejected_events]), output)
    if reply.next_page_token:
        say(f"there are more than {limit}; see them with a larger --limit")


@app.command()
def show(
    number: Annotated[str, typer.Argument(help="Number of the event, as the list shows it.")],
    data: Data = None,
) -> None:
    """Show one rejected event with its payload, as JSON."""
    _require_number(number)
    with open_session(data) as session:
        name = session.name(_COLLECTION, number)
        reply = session.rejected.GetRejectedEvent(pb.GetRejectedEventRequest(name=name))
    with standard_output() as out:
        out.write(json_text(reply.rejected_event) + "\n")


@app.command()
def replay(
    number: Annotated[list[str] | None, typer.Argument(help="Numbers of events.")] = None,
    *,
    event: Annotated[
        Path | None,
        typer.Option(help="File with the corrected event as JSON, to store instead of the one."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every rejected event.")] = False,
    reason: Reasons = None,
    source: Source = "",
    event_id: EventId = "",
    start: Start = "",
    end: End = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Send rejected events into the log again: these, or those to which the options apply.

    Example: touchstone rejected replay 17 --event corrected.json
    """
    wanted = _filter(reason, source, event_id, start, end)
    chosen = [bool(number), every, wanted != pb.RejectedEventsFilter()]
    if sum(chosen) != 1:
        raise typer.BadParameter("name events by their numbers, or give options, or give --all")
    if event is not None and len(number or []) != 1:
        raise typer.BadParameter("--event corrects one event: give one number with it")
    for one in number or []:
        _require_number(one)
    corrected = None if event is None else _read_event(event)
    with open_session(data) as session:
        if number:
            reply = _replay_named(session, number, corrected, dry_run)
        else:
            reply = _replay_filter(session, wanted, dry_run)
    write(View(reply, _REPLAYED, [_result_row(one) for one in reply.results]), output)
    _summarise(reply, dry_run)
    if any(one.outcome not in _DONE for one in reply.results):
        raise typer.Exit(REJECTED)


def _replay_named(
    session: Session, numbers: list[str], corrected: event_pb2.Event | None, dry_run: bool
) -> pb.ReplayRejectedEventsResponse:
    whole = pb.ReplayRejectedEventsResponse()
    for start in range(0, len(numbers), _PAGE):
        items = [
            pb.RejectedEventReplay(name=session.name(_COLLECTION, one), corrected_event=corrected)
            for one in numbers[start : start + _PAGE]
        ]
        reply = session.rejected.ReplayRejectedEvents(
            pb.ReplayRejectedEventsRequest(
                parent=session.parent,
                named=pb.RejectedEventReplays(items=items),
                validate_only=dry_run,
            )
        )
        whole.MergeFrom(reply)
    return whole


def _replay_filter(
    session: Session, wanted: pb.RejectedEventsFilter, dry_run: bool
) -> pb.ReplayRejectedEventsResponse:
    """Page by page to the end; a failure of a later page is told with what was done before it."""
    whole = pb.ReplayRejectedEventsResponse()
    while True:
        reply = session.rejected.ReplayRejectedEvents(
            pb.ReplayRejectedEventsRequest(
                parent=session.parent,
                filter=wanted,
                page_size=_PAGE,
                page_token=whole.next_page_token,
                validate_only=dry_run,
            )
        )
        whole.results.extend(reply.results)
        whole.remaining = reply.remaining
        whole.next_page_token = reply.next_page_token
        whole.consistency_token = reply.consistency_token or whole.consistency_token
        stuck = any(one.outcome == pb.REPLAY_OUTCOME_NOT_TRIED for one in reply.results)
        if not reply.next_page_token or stuck:
            return whole


def _summarise(reply: pb.ReplayRejectedEventsResponse, dry_run: bool) -> None:
    counts = Counter(enum_text(one, "outcome", "REPLAY_OUTCOME_") for one in reply.results)
    done = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing"
    say(f"{'a trial, nothing was stored: ' if dry_run else ''}{done}".replace("_", " "))
    if counts["not_tried"] or reply.next_page_token:
        warn("the service could not go on; give the same command again")


def _filter(
    reasons: list[ReasonName] | None, source: str, event_id: str, start: str, end: str
) -> pb.RejectedEventsFilter:
    start_time = parse_time(start, "--start") if start else None
    end_time = parse_time(end, "--end") if end else None
    if start_time and end_time and start_time.ToNanoseconds() >= end_time.ToNanoseconds():
        raise typer.BadParameter(
            f"--start is {start!r} and --end is {end!r}; allowed: a --start before --end"
        )
    return pb.RejectedEventsFilter(
        reasons=[
            events_service_pb2.RejectionReason.Value(f"REJECTION_REASON_{one.name}")
            for one in reasons or []
        ],
        source=source,
        event_id=event_id,
        start_time=start_time,
        end_time=end_time,
    )


def _require_number(text: str) -> str:
    number = last_part(text)
    if number.isascii() and number.isdecimal():
        return text
    raise typer.BadParameter(
        f"NUMBER is {text!r}; allowed: the number of a rejected event, such as 17, as `touchstone "
        "rejected list` shows it; --event-id of that list finds one by the id of the event"
    )


def _read_event(path: Path) -> event_pb2.Event:
    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), event_pb2.Event())
    except (OSError, UnicodeError, json_format.ParseError) as error:
        raise typer.BadParameter(
            f"--event is {str(path)!r}, which cannot be read as an event ({error}); allowed: the "
            "JSON that `touchstone rejected show` prints under `event`"
        ) from error


def _row(one: pb.RejectedEvent) -> tuple[Cell, ...]:
    return (
        last_part(one.name),
        one.event_id,
        enum_text(one, "reason", "REJECTION_REASON_"),
        one.field,
        one.message,
        time_text(one, "receive_time"),
        one.source,
        one.door,
        one.payload_bytes,
        one.truncated,
    )


def _result_row(one: pb.ReplayResult) -> tuple[Cell, ...]:
    reason = enum_text(one, "reason", "REJECTION_REASON_") if one.reason else ""
    outcome = enum_text(one, "outcome", "REPLAY_OUTCOME_")
    return (last_part(one.name), outcome, reason, one.field, one.message)
