"""touchstone operations: work that goes on after the call that began it."""

from __future__ import annotations

from typing import Annotated

import typer
from google.longrunning import operations_pb2 as pb
from google.rpc import code_pb2

# What an operation holds can be shown only where its types are known.
from touchstone.assignment.v1 import check_service_pb2  # noqa: F401  see above
from touchstone.attribution.v1 import report_service_pb2  # noqa: F401  see above
from touchstone.events.v1 import backup_service_pb2, erasure_service_pb2  # noqa: F401  see above

from services.cli.failures import from_operation
from services.cli.options import Data, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Cell, Format, View, columns, json_text, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, standard_output

app = typer.Typer(
    no_args_is_help=True, help="Follow long-running work: erasures, backups, searches for a salt."
)

_COLLECTION = "operations"
_LISTED = columns("operation", "about", "done", "error")

Name = Annotated[str, typer.Argument(help="Id of the operation, as the list shows it.")]


@app.command(name="list")
def list_operations(
    *,
    running: Annotated[bool, typer.Option("--running", help="Only what has not ended.")] = False,
    limit: Limit = 100,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List operations, newest first."""
    with open_session(data) as session:
        request = pb.ListOperationsRequest(
            name=f"{session.parent}/{_COLLECTION}", filter="done=false" if running else ""
        )
        call = session.event_operations.ListOperations
        reply = collect(call, request, _COLLECTION, limit)
    write(View(reply, _LISTED, [_row(one) for one in reply.operations]), output)


@app.command()
def show(operation: Name, data: Data = None) -> None:
    """Show how far an operation is, as JSON."""
    with open_session(data) as session:
        request = pb.GetOperationRequest(name=session.name(_COLLECTION, operation))
        found = session.event_operations.GetOperation(request)
    with standard_output() as out:
        out.write(json_text(found) + "\n")


@app.command()
def wait(operation: Name, data: Data = None) -> None:
    """Wait until an operation has ended and show it as JSON; fails when the operation failed."""
    with open_session(data) as session:
        found = _ended(session, session.name(_COLLECTION, operation))
    if found.HasField("error"):
        raise from_operation(found.error)
    with standard_output() as out:
        out.write(json_text(found) + "\n")


@app.command()
def cancel(operation: Name, data: Data = None) -> None:
    """Ask an operation to end. What it has done stays; one that has ended stays as it is."""
    with open_session(data) as session:
        name = session.name(_COLLECTION, operation)
        found = session.event_operations.GetOperation(pb.GetOperationRequest(name=name))
        # Only the service that does the work knows whether it can be cancelled.
        calls = session.event_operations
        if "/touchstone.assignment." in found.metadata.type_url:
            calls = session.check_operations
        if "/touchstone.attribution." in found.metadata.type_url:
            calls = session.report_operations
        calls.CancelOperation(pb.CancelOperationRequest(name=name))
    say("it was asked to end; `touchstone operations show` says when it has")


def _ended(session: Session, name: str) -> pb.Operation:
    while True:
        found = session.event_operations.WaitOperation(pb.WaitOperationRequest(name=name))
        if found.done:
            return found


def _row(one: pb.Operation) -> tuple[Cell, ...]:
    about = one.metadata.type_url.rpartition(".")[2].removesuffix("Progress").lower()
    error = code_pb2.Code.Name(one.error.code) if one.HasField("error") else None
    return one.name.rpartition("/")[2], about, one.done, error
