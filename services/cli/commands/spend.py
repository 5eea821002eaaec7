"""touchstone spend: what was paid for channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import spend_service_pb2 as pb

from services.cli.importing.sources import open_source
from services.cli.importing.spend_rows import SpendFile, SpendMapping, spend_file
from services.cli.options import Data, DryRun, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, warn

app = typer.Typer(no_args_is_help=True, help="What was paid for channels, by day.")

AT_ONCE = 5_000
"""Rows of one call: it takes 10,000, and four million bytes."""

COLUMNS = (
    *columns("channel", "campaign", "day", "source"),
    Column("amount", lambda cell: f"{cell:,.2f}", right=True),
    *columns("currency"),
)
OnlyChannel = Annotated[str, typer.Option(help="Only of this channel.", show_default=False)]
FirstDay = Annotated[str, typer.Option(help="From this day on.", show_default=False)]
LastDay = Annotated[
    str, typer.Option(help="Up to this day, which is included.", show_default=False)
]


@app.command(name="import")
def import_spend(
    file: Annotated[
        Path, typer.Argument(help="A CSV file (UTF-8, with a header), Parquet or NDJSON.")
    ],
    *,
    source: Annotated[str, typer.Option(help="Who says so: a platform, an account.")] = "import",
    day: Annotated[str, typer.Option(help="Column of the day.")] = "day",
    channel: Annotated[str, typer.Option(help="Column of the channel.")] = "channel",
    amount: Annotated[str, typer.Option(help="Column of what was paid.")] = "amount",
    campaign: Annotated[str, typer.Option(help="Column of the campaign.", show_default=False)] = "",
    currency: Annotated[
        str, typer.Option(help="ISO 4217 code of all amounts.", show_default=False)
    ] = "",
    currency_column: Annotated[
        str, typer.Option(help="Or: column of the currency.", show_default=False)
    ] = "",
    source_column: Annotated[
        str,
        typer.Option(help="Column of the source, in the place of --source.", show_default=False),
    ] = "",
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Refuse to change what is there already.")
    ] = False,
    replace_days: Annotated[
        bool,
        typer.Option(
            "--replace-days",
            help="Delete what the source told of these days and does not tell now.",
        ),
    ] = False,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Import spend, a row a source, channel, campaign and day; the same again replaces it.

    A file with a row that is wrong is not imported at all. Example: touchstone spend import
    spend.csv --source ads-platform --currency CNY
    """
    if bool(currency) == bool(currency_column):
        raise typer.BadParameter("name --currency or --currency-column; allowed: one of the two")
    if refuse and replace_days:
        raise typer.BadParameter("name --refuse or --replace-days; allowed: one of the two")
    mapping = SpendMapping(
        source, day, channel, amount, campaign, currency, currency_column, source_column
    )
    found = spend_file(mapping, open_source(file))
    rows = found.rows
    if not rows:
        raise typer.BadParameter(f"{file} holds no row; allowed: one row of spend or more")
    existing = pb.EXISTING_SPEND_REFUSE if refuse else pb.EXISTING_SPEND_REPLACE
    if replace_days:
        existing = pb.EXISTING_SPEND_REPLACE_DAYS
    with open_session(data) as session:
        done = _imported(session, rows, existing, dry_run=dry_run)
    names = ("added", "replaced", "unchanged", *(("deleted",) if replace_days else ()))
    shown = [(name, getattr(done, name)) for name in names]
    write(View(done, (*columns("rows"), Column("count", right=True)), shown), output)
    tell_repeated(found)
    if dry_run:
        say("nothing was changed")


def _imported(
    session: Session,
    rows: list[pb.Spend],
    existing: pb.ExistingSpend.ValueType,
    *,
    dry_run: bool,
) -> pb.ImportSpendResponse:
    """All of it is checked before any of it is kept."""
    done = pb.ImportSpendResponse()
    for checking in (True,) if dry_run else (True, False):
        done = pb.ImportSpendResponse()
        for part in parts(rows):
            request = pb.ImportSpendRequest(
                parent=session.parent, rows=part, existing=existing, validate_only=checking
            )
            told = session.spend.ImportSpend(request)
            done.added += told.added
            done.replaced += told.replaced
            done.unchanged += told.unchanged
            done.deleted += told.deleted
    return done


def parts(rows: list[pb.Spend]) -> Iterator[list[pb.Spend]]:
    """Rows for one call each; a day of a source is in one of them, as it may replace that day."""
    part: list[pb.Spend] = []
    ordered = sorted(rows, key=lambda row: (row.source, row.day))
    for _, day in groupby(ordered, key=lambda row: (row.source, row.day)):
        own = list(day)
        if part and len(part) + len(own) > AT_ONCE:
            yield part
            part = []
        part = part + own
    if part:
        yield part


def tell_repeated(found: SpendFile) -> None:
    """Says which lines were no rows of their own: of a finer export they would be money lost."""
    if not found.repeated:
        return
    some = ", ".join(map(str, found.repeated[:5]))
    more = f" and {len(found.repeated) - 5} more" if len(found.repeated) > 5 else ""
    warn(
        f"what is in lines {some}{more} is said by an earlier line too, and counts once; if these "
        "are parts of a campaign, add them up first"
    )


@app.command(name="list")
def list_spend(
    *,
    source: Annotated[str, typer.Option(help="Only of this source.", show_default=False)] = "",
    channel: OnlyChannel = "",
    first_day: FirstDay = "",
    last_day: LastDay = "",
    limit: Limit = 1_000,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List spend by channel, campaign, day and source."""
    with open_session(data) as session:
        request = pb.ListSpendRequest(
            parent=session.parent,
            source=source,
            channel=channel,
            first_day=first_day,
            last_day=last_day,
        )
        reply = collect(session.spend.ListSpend, request, "rows", limit)
    shown = [(r.channel, r.campaign, r.day, r.source, r.amount, r.currency) for r in reply.rows]
    write(View(reply, COLUMNS, shown), output)
    if reply.next_page_token:
        say(f"only the first {limit}; see --limit")


@app.command()
def delete(
    source: Annotated[str, typer.Argument(help="The source whose spend is deleted.")],
    *,
    channel: OnlyChannel = "",
    first_day: FirstDay = "",
    last_day: LastDay = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Delete the spend of a source. Example: touchstone spend delete ads-platform --dry-run"""
    with open_session(data) as session:
        request = pb.DeleteSpendRequest(
            parent=session.parent,
            source=source,
            channel=channel,
            first_day=first_day,
            last_day=last_day,
            validate_only=dry_run,
        )
        reply = session.spend.DeleteSpend(request)
    shown = [("deleted", reply.deleted)]
    write(View(reply, (*columns("rows"), Column("count", right=True)), shown), output)
    if dry_run:
        say("nothing was changed")
