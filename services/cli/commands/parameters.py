"""touchstone parameters: what code that asks for a parameter gets."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from google.protobuf import json_format
from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.cli.options import Data, Output, parse_unit
from services.cli.rendering import Cell, Format, View, columns, write
from services.cli.session import open_session


def parameters(
    unit: Annotated[list[str], typer.Argument(help="ID of a user, or TYPE=ID.")],
    key: Annotated[
        list[str] | None, typer.Option(help="Key of a parameter. Repeat it. [default: all]")
    ] = None,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what parameters are for units, and which experiments set them.

    Example: touchstone parameters u1 u2 --key button_size
    """
    units = [parse_unit(text) for text in unit]
    request = pb.GetParametersRequest(
        units=[pb.UnitContext(ids=[one]) for one in units], keys=key or []
    )
    with open_session(data) as session:
        reply = session.assignment.GetParameters(request)
    rows: list[tuple[Cell, ...]] = [
        (
            f"{one.type}={one.id}",
            name,
            json.dumps(json_format.MessageToDict(found.values[name].value)),
            found.values[name].experiment or None,
            found.values[name].variant or None,
        )
        for one, found in zip(units, reply.units, strict=True)
        for name in sorted(found.values)
    ]
    write(View(reply, columns("unit", "parameter", "value", "experiment", "variant"), rows), output)
