"""touchstone audit: who did what."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.common.v1 import access_service_pb2 as pb

from services.cli.failures import FAILED
from services.cli.figures import enum_text, time_text
from services.cli.options import Data, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.settings import read_settings
from services.cli.terminal import say

app = typer.Typer(no_args_is_help=True, help="Read and verify the audit log.")

_COLUMNS = (
    Column("sequence", right=True),
    *columns("time", "actor", "method", "resource", "outcome", "detail", "request_id"),
)


Project = Annotated[
    str,
    typer.Option(
        help="Read the chain of this project from the state database itself, as its operator; "
        "`-` is the chain of attempts that no project is to blame for.",
    ),
]


@app.command(name="list")
def list_entries(
    project: Project = "", limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE
) -> None:
    """List entries, oldest first."""
    if project:
        from services.cli.operator_audit import list_chain

        reply = list_chain(read_settings(data), project, limit)
    else:
        with open_session(data) as session:
            request = pb.ListAuditEntriesRequest(parent=session.parent)
            reply = collect(session.audit.ListAuditEntries, request, "entries", limit)
    write(View(reply, _COLUMNS, [_row(entry) for entry in reply.entries]), output)
    if reply.next_page_token:
        say(f"there are more than {limit}; see them with a larger --limit")


@app.command()
def verify(project: Project = "", data: Data = None, output: Output = Format.TABLE) -> None:
    """Recompute the chain; exit 1 when an entry was changed, added or removed."""
    if project:
        from services.cli.operator_audit import verify_chain

        reply = verify_chain(read_settings(data), project)
    else:
        with open_session(data) as session:
            reply = session.audit.VerifyAuditLog(pb.VerifyAuditLogRequest(parent=session.parent))
    names = columns("intact", "checked", "first_bad_sequence", "problem", "head_hash")
    row = (
        reply.intact,
        reply.checked,
        reply.first_bad_sequence or None,
        reply.problem,
        reply.head_hash,
    )
    write(View(reply, names, [row]), output)
    if not reply.intact:
        say(f"error: the audit log does not hold from entry {reply.first_bad_sequence} on")
        raise typer.Exit(FAILED)


def _row(entry: pb.AuditEntry) -> tuple[Cell, ...]:
    return (
        entry.sequence,
        time_text(entry, "create_time"),
        entry.actor,
        entry.method,
        entry.resource,
        enum_text(entry, "outcome", "AUDIT_OUTCOME_"),
        entry.detail,
        entry.request_id,
    )
