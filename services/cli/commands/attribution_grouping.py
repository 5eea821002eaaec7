"""touchstone attribution grouping: which channel a touch is of, kept in versions."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import grouping_service_pb2 as pb

from services.cli.ascode.kinds import GROUPINGS
from services.cli.commands.ascode import (
    DryRunOfFiles,
    Folder,
    Job,
    Paths,
    Prune,
    bring_about,
    loaded,
    show_difference,
    write_files,
)
from services.cli.figures import last_part, time_text
from services.cli.options import Data, DryRun, Etag, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say

app = typer.Typer(no_args_is_help=True, help="Keep channel groupings, from files.")

COLLECTION = "channelGroupings"
Name = Annotated[str, typer.Argument(help="Id of the grouping.", metavar="GROUPING")]
_COLUMNS = (
    *columns("grouping", "title"),
    Column("version", right=True),
    Column("rules", right=True),
    *columns("otherwise", "update_time", "etag"),
)


@app.command(name="list")
def list_groupings(limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE) -> None:
    """List channel groupings by name."""
    with open_session(data) as session:
        request = pb.ListChannelGroupingsRequest(parent=session.parent)
        call = session.groupings.ListChannelGroupings
        reply = collect(call, request, "channel_groupings", limit)
    write(View(reply, _COLUMNS, [_row(each) for each in reply.channel_groupings]), output)


@app.command()
def get(
    grouping: Name,
    version: Annotated[
        int, typer.Option(min=0, help="As it was at this version; 0: as it is now.")
    ] = 0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the rules of a channel grouping, in the order in which they are tried."""
    with open_session(data) as session:
        request = pb.GetChannelGroupingRequest(
            name=session.name(COLLECTION, grouping), version=version
        )
        reply = session.groupings.GetChannelGrouping(request)
    found = reply.channel_grouping
    rules: list[tuple[Cell, ...]] = [
        (number, rule.channel) for number, rule in enumerate(found.rules)
    ]
    rules.append(("otherwise", found.otherwise or "(as it was sent)"))
    title = f"{last_part(found.name)} at version {found.version}"
    write(View(reply, columns("rule", "channel"), rules, title=title), output)


@app.command()
def versions(
    grouping: Name, limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE
) -> None:
    """List the versions of a channel grouping, newest first."""
    with open_session(data) as session:
        request = pb.ListChannelGroupingVersionsRequest(name=session.name(COLLECTION, grouping))
        call = session.groupings.ListChannelGroupingVersions
        reply = collect(call, request, "channel_groupings", limit)
    write(View(reply, _COLUMNS, [_row(each) for each in reply.channel_groupings]), output)


@app.command()
def delete(grouping: Name, etag: Etag = "", dry_run: DryRun = False, data: Data = None) -> None:
    """Delete a channel grouping with its versions. Reports keep the rules they were run with."""
    with open_session(data) as session:
        session.groupings.DeleteChannelGrouping(
            pb.DeleteChannelGroupingRequest(
                name=session.name(COLLECTION, grouping), etag=etag, validate_only=dry_run
            )
        )
    say("nothing was changed" if dry_run else f"deleted {grouping}")


@app.command()
def validate(paths: Paths) -> None:
    """Check files of channel groupings without a service.

    Example: touchstone attribution grouping validate channels.yaml
    """
    count = sum(each.kind.name in GROUPINGS for each in loaded(paths))
    say(f"{count} channel groupings are right")


@app.command()
def diff(
    paths: Paths, prune: Prune = False, data: Data = None, output: Output = Format.TABLE
) -> None:
    """Show what apply would do to channel groupings. Changes nothing; the rest is left alone.

    Ends with 0 when nothing differs, 3 when something does, 1 when a difference is refused.

    Example: touchstone attribution grouping diff channels.yaml
    """
    show_difference(Job(paths, prune, GROUPINGS), data, output)


@app.command()
def apply(
    paths: Paths,
    prune: Prune = False,
    dry_run: DryRunOfFiles = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Bring channel groupings to what the files say: each change is a version.

    Example: touchstone attribution grouping apply channels.yaml
    """
    bring_about(Job(paths, prune, GROUPINGS), data, output, dry_run=dry_run)


@app.command()
def export(folder: Folder = None, data: Data = None) -> None:
    """Write the channel groupings as YAML, which diff finds no difference to.

    Example: touchstone attribution grouping export --folder definitions
    """
    write_files(GROUPINGS, folder, data)


def _row(found: attribution_pb2.ChannelGrouping) -> tuple[Cell, ...]:
    return (
        last_part(found.name),
        found.display_name,
        found.version,
        len(found.rules),
        found.otherwise,
        time_text(found, "update_time"),
        found.etag,
    )
