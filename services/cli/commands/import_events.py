"""touchstone import events: files whose columns are those of the event tables."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.options import Data, Output
from services.cli.rendering import Format


class EventKind(enum.StrEnum):
    """The kinds of events, as their tables are called."""

    EXPOSURES = "exposures"
    CONVERSIONS = "conversions"
    TOUCHPOINTS = "touchpoints"
    IDENTIFIES = "identifies"
    EVALUATIONS = "evaluations"


class Epoch(enum.StrEnum):
    """The units of times that are numbers."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"


class RowFormat(enum.StrEnum):
    """How a file holds its rows."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"


def import_event_files(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Files, patterns such as 'day-*.csv', or - for standard input."
        ),
    ],
    *,
    kind: Annotated[EventKind, typer.Option(help="What the rows are.")],
    file_format: Annotated[
        RowFormat | None, typer.Option("--format", help="The format. [default: by the ending]")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="COLUMN=FIELD: the column of a field. Repeat it."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE: the same in every row. Repeat it."),
    ] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Pass over columns that are no field.")
    ] = False,
    id_prefix: Annotated[
        str, typer.Option(help="What ids made of row numbers begin with. [default: a digest]")
    ] = "",
    time_zone: Annotated[
        str, typer.Option(help="IANA zone of times that name none, such as Europe/Berlin.")
    ] = "",
    epoch: Annotated[
        Epoch | None, typer.Option(help="Unit of times that are numbers since 1970.")
    ] = None,
    max_errors: Annotated[
        int, typer.Option(min=0, help="Stop when more rows than this do not go in.")
    ] = 1000,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="Where the rows that do not go in are told. [default: a new events.rejected.csv]"
        ),
    ] = None,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Import events: a row an event, its columns those of the event tables.

    Example: touchstone import events 'orders-*.parquet' --kind conversions
    --map customer=unit_id --set unit_type=user --set event_name=purchase
    """
    # Arrow and DuckDB take longer to load than most commands take to run.
    from services.cli.importing.bulk.command import EventOptions, run_event_import

    options = EventOptions(
        files=tuple(files),
        kind=kind.value,
        file_format=None if file_format is None else file_format.value,
        maps=tuple(map_ or ()),
        constants=tuple(set_ or ()),
        ignore_unknown=ignore_unknown,
        id_prefix=id_prefix,
        time_zone=time_zone,
        epoch="" if epoch is None else epoch.value,
        max_errors=max_errors,
        rejects=rejects,
    )
    run_event_import(options, data, output)
