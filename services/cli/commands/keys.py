"""touchstone keys: who gets in."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import rpc_pb2

from services.cli.figures import enum_name, last_part, time_text
from services.cli.options import Data, Limit, Output
from services.cli.owner import prepare
from services.cli.paging import collect
from services.cli.rendering import Cell, Format, View, columns, write
from services.cli.session import open_session
from services.cli.settings import DEFAULT_PROJECT, OPERATOR_PROJECT, read_settings
from services.cli.terminal import say, warn
from shared.clock import SystemClock
from shared.resource_names import resource_name

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

MAX_DAYS = 3650
_COLUMNS = columns("key", "display_name", "roles", "create_time", "expire_time", "revoke_time")


class RoleName(enum.StrEnum):
    """What a key may do."""

    VIEWER = "viewer"
    EXPERIMENTER = "experimenter"
    ADMIN = "admin"
    ASSIGN = "assign"
    INGEST = "ingest"


@app.command()
def create(
    role: Annotated[list[RoleName], typer.Option(help="A role. Repeat it.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[
        float,
        typer.Option(max=MAX_DAYS, help="Days until it stops working, 1 to 3650; 0: it does not."),
    ] = 0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a key. Its secret is shown here, once.

    Example: touchstone keys create --role assign --role ingest --name checkout-backend --days 90
    """
    if days and not 1 <= days <= MAX_DAYS:
        raise typer.BadParameter(f"--days is {days:g}; allowed: from 1 to {MAX_DAYS}, or 0")
    expire = None
    if days:
        expire = Timestamp()
        expire.FromDatetime(SystemClock().now() + dt.timedelta(days=days))
    with open_session(data) as session:
        reply = session.access.CreateKey(
            pb.CreateKeyRequest(
                parent=session.parent,
                display_name=name,
                roles=[rpc_pb2.Role.Value(f"ROLE_{one.name}") for one in role],
                expire_time=expire,
            )
        )
    row = _row(reply.key)
    # On a narrow terminal the secret must stay in one piece.
    brief = (columns("key", "secret"), [(row[0], reply.secret)])
    view = View(reply, (*_COLUMNS, *columns("secret")), [(*row, reply.secret)], brief=brief)
    write(view, output)
    if reply.secret:
        say("keep the secret now: it is not shown again")
    else:
        warn("the answer with the secret was lost on its way: revoke this key and make another")


@app.command()
def bootstrap(
    project: Annotated[
        str | None,
        typer.Option(help=f"Id of the project. [default: {DEFAULT_PROJECT}]"),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Where its key is kept. [default: owner.key in the data folder]"),
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="Make a key for backups of the whole installation, and for nothing else: in "
            f"operator.key and the project {OPERATOR_PROJECT}, unless others are named.",
        ),
    ] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a project and its owner key, on the state database itself. Safe to repeat.

    For whoever operates the database: no service needs to run, and no key is asked for.

    Example: touchstone keys bootstrap --project acme --key-file acme.key
    """
    settings = read_settings(data)
    path = key_file or (settings.operator_key_path if operator else settings.owner_key_path)
    of = project or (OPERATOR_PROJECT if operator else DEFAULT_PROJECT)
    key = prepare(settings, of, path, operator=operator)
    shown = View(
        pb.Key(
            name=resource_name(key.project, "keys", key.key_id),
            display_name=key.display_name,
            roles=[rpc_pb2.Role.ValueType(number) for number in sorted(r.value for r in key.roles)],
        ),
        columns("key", "project", "key_file"),
        [(key.key_id, key.project, str(path))],
    )
    write(shown, output)


@app.command(name="list")
def list_keys(limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE) -> None:
    """List the project's keys, newest first, without their secrets."""
    with open_session(data) as session:
        request = pb.ListKeysRequest(parent=session.parent)
        reply = collect(session.access.ListKeys, request, "keys", limit)
    write(View(reply, _COLUMNS, [_row(key) for key in reply.keys]), output)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id of the key, as the list shows it.")],
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Revoke a key for good. Every service refuses it within seconds."""
    with open_session(data) as session:
        reply = session.access.RevokeKey(pb.RevokeKeyRequest(name=session.name("keys", key)))
    write(View(reply, _COLUMNS, [_row(reply.key)]), output)


def _row(key: pb.Key) -> tuple[Cell, ...]:
    roles = [enum_name(rpc_pb2.Role.DESCRIPTOR, number, "ROLE_") for number in key.roles]
    return (
        last_part(key.name),
        key.display_name,
        " ".join(roles),
        time_text(key, "create_time"),
        time_text(key, "expire_time"),
        time_text(key, "revoke_time"),
    )
