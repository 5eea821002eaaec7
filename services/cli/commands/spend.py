"""touchstone spend: what was paid for channels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import spend_service_pb2 as pb

from services.cli.importing.sources import open_source
from services.cli.importing.spend_rows import SpendFile, SpendMapping, spend_file
from services.cli.options import Data, DryRun, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Column, Format, View, columns, write
from services.cli.session import open_session
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
    mapping = SpendMapping(
        source, day, channel, amount, campaign, currency, currency_column, source_column
    )
    found = spend_file(mapping, open_source(file))
    rows = found.rows
    if not rows:
        raise typer.BadParameter(f"{file} holds no row; allowed: one row of spend or more")
    existing = pb.EXISTING_SPEND_REFUSE if refuse else pb.EXISTING_SPEND_REPLACE
    done = pb.ImportSpendResponse()
    with open_session(data) as session:
        # All of it is checked before any of it is kept.
        for checking in (True,) if dry_run else (True, False):
            done = pb.ImportSpendResponse()
            for begin in range(0, len(rows), AT_ONCE):
                request = pb.ImportSpendRequest(
                    parent=session.parent,
                    rows=rows[begin : begin + AT_ONCE],
                    existing=existing,
                    validate_only=checking,
                )
                part = session.spend.ImportSpend(request)
                done.added += part.added
                done.replaced += part.replaced
                done.unchanged += part.unchanged
    names = ("added", "replaced", "unchanged")
    shown = [(name, getattr(done, name)) for name in names]
    write(View(done, (*columns("rows"), Column("count", right=True)), shown), output)
    tell_repeated(found)
    if dry_run:
        say("nothing was changed")


def tell_repeated(found: SpendFile) -> None:
    """Says which lines were no rows of their own: of a finer export they would be money lost."""
    if not found.repeated:
        return
    some = ", ".join(map(str, found.repeated[:5]))
    more = f" and {len(found.repeated) - 5} more" if len(found.repeated) > 5 else ""
    warn(
        f"lines {some}{more} say what an earlier line says, and count once; if they are of parts "
        "of a campaign, add them up first"
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
