"""Options that several commands share."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from services.cli.rendering import Format

Data = Annotated[
    Path | None,
    typer.Option(help="Data folder. [default: TOUCHSTONE_DATA or .touchstone]", show_default=False),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the answer.")]
Etag = Annotated[
    str, typer.Option(help="Change it only if it still has this etag.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")]
Limit = Annotated[int, typer.Option(min=1, help="The most lines to list.")]


def parse_time(text: str, option: str) -> Timestamp:
    """A time as `2026-01-31` or `2026-01-31T12:00:00Z`; UTC where no offset is given."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{option} is {text!r}; allowed: a date or time such as 2026-01-31T12:00:00Z"
        ) from error
    stamp = Timestamp()
    stamp.FromDatetime(time if time.tzinfo else time.replace(tzinfo=dt.UTC))
    return stamp


def parse_pair(text: str, option: str, example: str) -> tuple[str, str]:
    """The two parts of NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise typer.BadParameter(f"{option} is {text!r}; allowed: NAME=VALUE, such as {example}")
    return name, value
