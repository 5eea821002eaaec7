"""touchstone identity: which ids are one thing, why, and by which policy."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import identity_service_pb2 as pb

from services.cli.figures import enum_text, time_text
from services.cli.options import Data, DryRun, Limit, Output, parse_pair, parse_time
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say

app = typer.Typer(no_args_is_help=True, help="See which ids are one thing, and say by which rules.")

IdType = Annotated[str, typer.Argument(help="Type of the id, such as device.", metavar="TYPE")]
Id = Annotated[str, typer.Argument(help="The id.", metavar="ID")]
_MEMBERS = columns("type", "id", "first_seen_time", "canonical")
_EDGES = columns(
    "event_id", "event_time", "type", "id", "other_type", "other_id", "state", "reason"
)
# Of a limit and of a rank, by the contract.
_HIGHEST = 1000
_POLICY = (*columns("type"), Column("limit", right=True), Column("rank", right=True))


@app.command()
def resolve(
    unit_type: IdType,
    unit_id: Id,
    as_of: Annotated[
        str, typer.Option(help="By the links up to this time only.", show_default=False)
    ] = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show all ids that are one thing with this one.

    Example: touchstone identity resolve device phone-7
    """
    unit = unit_pb2.UnitId(type=unit_type, id=unit_id)
    with open_session(data) as session:
        request = pb.ResolveIdentityRequest(
            parent=session.parent,
            unit=unit,
            as_of_time=parse_time(as_of, "--as-of") if as_of else None,
        )
        reply = session.identity.ResolveIdentity(request)
    found = reply.identity
    rows: list[tuple[Cell, ...]] = [
        (
            member.unit.type,
            member.unit.id,
            time_text(member, "first_seen_time"),
            member.unit == found.canonical,
        )
        for member in found.members
    ]
    write(View(reply, _MEMBERS, rows), output)
    say(f"identity version {reply.identity_version or '(no links)'}")


@app.command()
def edges(
    unit_type: IdType,
    unit_id: Id,
    limit: Limit = 1000,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List what the log says of an id: links that count, were unlinked or were refused, and why."""
    unit = unit_pb2.UnitId(type=unit_type, id=unit_id)
    with open_session(data) as session:
        request = pb.ListIdentityEdgesRequest(parent=session.parent, unit=unit)
        reply = collect(session.identity.ListIdentityEdges, request, "edges", limit)
    write(View(reply, _EDGES, [_edge_row(edge) for edge in reply.edges]), output)


@app.command()
def policy(
    *,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="TYPE=NUMBER: how many ids of a type are one thing. Repeat it."),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(help="TYPE=NUMBER: the highest rank gives the canonical id. Repeat it."),
    ] = None,
    default_limit: Annotated[
        int, typer.Option(help="The number for all other types; 0: as it is.")
    ] = 0,
    block: Annotated[
        list[str] | None, typer.Option(help="An id that never links. Repeat it.")
    ] = None,
    unblock: Annotated[
        list[str] | None, typer.Option(help="An id that may link again. Repeat it.")
    ] = None,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the policy, or change it first: every version is kept.

    Example: touchstone identity policy --allow customer=4 --block demo
    """
    with open_session(data) as session:
        found = _policy(session)
        types = {one.type: one for one in found.id_types}
        for field, option, pairs in (("limit", "--allow", allow), ("rank", "--rank", rank)):
            for pair in pairs or []:
                _set_type(types, field, option, pair)
        blocked = ({*found.blocked_ids} | {*(block or [])}) - {*(unblock or [])}
        if allow or rank or default_limit or block or unblock:
            wanted = pb.IdentityPolicy(
                name=found.name,
                etag=found.etag,
                id_types=types.values(),
                default_limit=default_limit or found.default_limit,
                blocked_ids=sorted(blocked),
            )
            mask = FieldMask(paths=["id_types", "default_limit", "blocked_ids"])
            request = pb.UpdateIdentityPolicyRequest(
                policy=wanted, update_mask=mask, validate_only=dry_run
            )
            found = session.identity.UpdateIdentityPolicy(request).policy
    rows = [(one.type, one.limit or found.default_limit, one.rank) for one in found.id_types]
    rows.append(("(any other)", found.default_limit, 0))
    write(View(found, _POLICY, rows), output)
    say(f"version {found.version}; never linked: {', '.join(found.blocked_ids)}")


def _policy(session: Session) -> pb.IdentityPolicy:
    request = pb.GetIdentityPolicyRequest(name=f"{session.parent}/identityPolicy")
    reply: pb.GetIdentityPolicyResponse = session.identity.GetIdentityPolicy(request)
    return reply.policy


def _set_type(types: dict[str, pb.IdTypePolicy], field: str, option: str, pair: str) -> None:
    name, value = parse_pair(pair, option, "customer=4")
    # A limit of 0 would be the default, and not none at all.
    lowest = 1 if field == "limit" else 0
    digits = value.isascii() and value.isdecimal() and len(value) <= len(str(_HIGHEST))
    if not digits or not lowest <= int(value) <= _HIGHEST:
        raise typer.BadParameter(
            f"{option} is {pair!r}; allowed: TYPE=NUMBER with a number from {lowest} to "
            f"{_HIGHEST}, such as customer=4"
            + ("; to let an id never link, use --block" if field == "limit" else "")
        )
    setattr(types.setdefault(name, pb.IdTypePolicy(type=name)), field, int(value))


def _edge_row(edge: Any) -> tuple[Cell, ...]:
    return (
        edge.event_id,
        time_text(edge, "event_time"),
        edge.unit.type,
        edge.unit.id,
        edge.other_unit.type,
        edge.other_unit.id,
        enum_text(edge, "state", "IDENTITY_EDGE_STATE_"),
        edge.reason,
    )
