"""touchstone assign: what a unit gets."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.common.v1 import unit_pb2

from services.cli.figures import enum_text
from services.cli.options import Data, Output, parse_unit
from services.cli.rendering import Cell, Format, View, columns, write
from services.cli.session import open_session


def assign(
    unit: Annotated[list[str], typer.Argument(help="ID of a user, or TYPE=ID.")],
    experiment: Annotated[
        list[str] | None, typer.Option(help="Id of an experiment. Repeat it. [default: all]")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how it came about.")] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Decide which variant units get. This is no exposure: nothing is logged.

    Example: touchstone assign u1 u2 --experiment checkout --explain
    """
    units = [parse_unit(text) for text in unit]
    request = pb.AssignRequest(
        units=[pb.UnitContext(ids=[one]) for one in units],
        experiments=experiment or [],
        explain=explain,
    )
    with open_session(data) as session:
        reply = session.assignment.Assign(request)
    names = ["unit", "experiment", "variant", "reason"]
    if explain:
        names += ["slot", "split_bucket", "detail"]
    rows = [
        _row(one, assigned.experiment, decision, explain)
        for one, answer in zip(units, reply.units, strict=True)
        for assigned, decision in zip(reply.experiments, answer.decisions, strict=True)
    ]
    write(View(reply, columns(*names), rows), output)


def _row(
    unit: unit_pb2.UnitId, experiment: str, decision: pb.Decision, explain: bool
) -> tuple[Cell, ...]:
    row: tuple[Cell, ...] = (
        f"{unit.type}={unit.id}",
        experiment,
        decision.variant or None,
        enum_text(decision, "reason", "DECISION_REASON_").replace("_", " "),
    )
    if not explain:
        return row
    why = decision.explanation
    return (
        *row,
        why.slot if why.HasField("slot") else None,
        why.split_bucket if why.HasField("split_bucket") else None,
        why.detail,
    )
