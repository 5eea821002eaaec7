"""touchstone erase and touchstone erasures: everything about a unit, gone with a proof."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from google.longrunning import operations_pb2
from touchstone.assignment.v1 import unit_service_pb2
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import erasure_service_pb2 as pb
from touchstone.events.v1 import identity_service_pb2 as identity_pb

from services.cli.failures import from_operation
from services.cli.figures import enum_text, last_part, time_text
from services.cli.options import Data, DryRun, Limit, Output, parse_pair
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say

USER = "user"
_LISTED = (
    *columns("erasure", "state", "unit_digest", "reason", "erase_time", "prove_time"),
    Column("rows", right=True),
    Column("rejected_events", right=True),
    Column("files_removed", right=True),
)
_STEPS = {
    pb.ERASURE_STEP_DELETING: "deleting from the tables, the journal and the rejected events",
    pb.ERASURE_STEP_WAITING_FOR_READERS: "no new reader sees it; the replaced files go when "
    "readers that began before have ended",
    pb.ERASURE_STEP_PROVING: "removing the replaced files and searching everything",
}


def erase(
    unit: Annotated[
        str, typer.Argument(help="ID of a user, TYPE=ID, or - to read it from standard input.")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why, for the record; nothing personal.")] = "",
    whole_identity: Annotated[
        bool, typer.Option("--whole-identity", help="All ids that are linked with it, too.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the proof, an hour unless set otherwise.")
    ] = False,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Erase everything that is stored about a unit. It cannot be undone.

    Other users of a machine see arguments: where that matters, hand the unit to standard input.

    Example: touchstone erase customer=4711 --reason ticket-17 --wait
    """
    if unit == "-":
        unit = sys.stdin.readline().strip()
    kind, id_ = parse_pair(unit, "UNIT", "device=d1") if "=" in unit else (USER, unit)
    with open_session(data) as session:
        sent = unit_pb2.UnitId(type=kind, id=id_)
        # Its links are erased with it, so they are looked up before.
        units = _identity(session, sent) if whole_identity else [sent]
        # First, because it may be repeated: an erasure that began needs no second call.
        _forget(session, units, dry_run)
        reply = session.erasures.EraseUnit(
            pb.EraseUnitRequest(
                parent=session.parent,
                unit=sent,
                reason=reason,
                validate_only=dry_run,
                whole_identity=whole_identity,
            )
        )
        found = reply.erasure
        if wait and not dry_run:
            found = _proved(session, reply.operation)
    rows = [_row(one, trial=dry_run) for one in (found, *reply.linked_erasures)]
    write(View(found, _LISTED, rows), output)
    if dry_run:
        say("a trial: nothing was erased; without --dry-run it is erased for good")
    elif not wait:
        say(f"it goes on by itself: touchstone operations wait {last_part(reply.operation.name)}")


def erasures(limit: Limit = 100, data: Data = None, output: Output = Format.TABLE) -> None:
    """List erasures with their proofs, newest first. No id of a unit is kept, only a digest."""
    with open_session(data) as session:
        request = pb.ListErasuresRequest(parent=session.parent)
        reply = collect(session.erasures.ListErasures, request, "erasures", limit)
    write(View(reply, _LISTED, [_row(one) for one in reply.erasures]), output)


def _identity(session: Session, unit: unit_pb2.UnitId) -> list[unit_pb2.UnitId]:
    request = identity_pb.ResolveIdentityRequest(parent=session.parent, unit=unit)
    return [member.unit for member in session.identity.ResolveIdentity(request).identity.members]


def _forget(session: Session, units: Sequence[unit_pb2.UnitId], dry_run: bool) -> None:
    """What assignment keeps of the units goes at once: it needs no proof of files."""
    for unit in units:
        session.units.ForgetUnit(
            unit_service_pb2.ForgetUnitRequest(
                parent=session.parent, unit=unit, validate_only=dry_run
            )
        )


def _proved(session: Session, operation: operations_pb2.Operation) -> pb.Erasure:
    told = pb.ERASURE_STEP_UNSPECIFIED
    while not operation.done:
        progress = pb.ErasureProgress()
        operation.metadata.Unpack(progress)
        if progress.step != told:
            told = progress.step
            say(_STEPS.get(told, "working"))
        operation = session.event_operations.WaitOperation(
            operations_pb2.WaitOperationRequest(name=operation.name)
        )
    if operation.HasField("error"):
        raise from_operation(operation.error)
    found = pb.Erasure()
    operation.response.Unpack(found)
    return found


def _row(one: pb.Erasure, *, trial: bool = False) -> tuple[Cell, ...]:
    proved = one.HasField("proof")
    return (
        last_part(one.name),
        "not erased" if trial else enum_text(one, "state", "ERASURE_STATE_"),
        one.unit_digest,
        one.reason,
        time_text(one, "erase_time"),
        time_text(one, "prove_time"),
        sum(table.rows for table in one.proof.tables) if proved else None,
        one.proof.rejected_events if proved else None,
        one.proof.files_removed if proved else None,
    )
