"""Options that several commands share."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import unit_pb2

from services.cli.rendering import Format

MAX_DAYS = 366

Data = Annotated[
    Path | None,
    typer.Option(help="Data folder. [default: TOUCHSTONE_DATA or .touchstone]", show_default=False),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the answer.")]
Etag = Annotated[
    str, typer.Option(help="Change it only if it still has this etag.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")]
PointInTime = Annotated[
    bool, typer.Option("--point-in-time", help="Links between ids count from their time on only.")
]
Limit = Annotated[int, typer.Option(min=1, help="The most lines to list.")]


def parse_time(text: str, option: str) -> Timestamp:
    """A time as `2026-01-31` or `2026-01-31T12:00:00Z`; UTC where no offset is given."""
    try:
        time = dt.datetime.fromisoformat(text)
        # In UTC, where the first and the last hours of the calendar may not exist.
        time = time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{option} is {text!r}; allowed: a date or time such as 2026-01-31T12:00:00Z"
        ) from error
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def parse_days(days: float, option: str) -> Duration:
    """A number of days as a duration. The contracts take at most 366."""
    if not 0 <= days <= MAX_DAYS:
        raise typer.BadParameter(f"{option} is {days:g}; allowed: from 0 to {MAX_DAYS}")
    duration = Duration()
    duration.FromTimedelta(dt.timedelta(days=days))
    return duration


def parse_unit(text: str) -> unit_pb2.UnitId:
    """The unit of TYPE=ID, or of a user's ID."""
    if "=" not in text:
        return unit_pb2.UnitId(type="user", id=text)
    kind, unit_id = parse_pair(text, "UNIT", "device=d1")
    return unit_pb2.UnitId(type=kind, id=unit_id)


def parse_pair(text: str, option: str, example: str) -> tuple[str, str]:
    """The two parts of NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise typer.BadParameter(f"{option} is {text!r}; allowed: NAME=VALUE, such as {example}")
    return name, value
