"""touchstone experiment find-balanced-salt: variants that were alike before."""

from __future__ import annotations

from typing import Annotated

import typer
from google.longrunning import operations_pb2
from touchstone.assignment.v1 import check_service_pb2 as pb

from services.cli.failures import from_operation
from services.cli.figures import last_part
from services.cli.options import Data, Output, parse_time
from services.cli.rendering import Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say


def find_balanced_salt(
    experiment: Annotated[str, typer.Argument(help="Id of a draft.", metavar="EXPERIMENT")],
    *,
    conversion: Annotated[
        list[str], typer.Option(help="What the variants are to be alike in. Repeat it.")
    ],
    start: Annotated[str, typer.Option(help="From when on the units are looked at.")],
    end: Annotated[str, typer.Option(help="Until when. [default: now]", show_default=False)] = "",
    candidates: Annotated[
        int, typer.Option(help="Salts to try. [default: 200]", show_default=False)
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and show it.")] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Give a draft the salt under which its variants differ least in what units did before.

    Example: touchstone experiment find-balanced-salt checkout --conversion purchase
    --start 2026-01-01 --wait
    """
    with open_session(data) as session:
        request = pb.FindBalancedSaltRequest(
            experiment=session.name("experiments", experiment),
            conversions=conversion,
            start_time=parse_time(start, "--start"),
            end_time=parse_time(end, "--end") if end else None,
            candidates=candidates,
        )
        operation = session.checks.FindBalancedSalt(request).operation
        name = last_part(operation.name)
        if not wait:
            say(f"it goes on by itself: touchstone operations wait {name}")
        say(f"to end it without a change: touchstone operations cancel {name}")
        found = _found(session, operation) if wait else operation
    if isinstance(found, pb.FindBalancedSaltResult):
        _write(found, output)
    else:
        write(View(found, columns("operation"), [(name,)]), output)


def _found(session: Session, operation: operations_pb2.Operation) -> pb.FindBalancedSaltResult:
    told = -1
    while not operation.done:
        progress = pb.FindBalancedSaltProgress()
        operation.metadata.Unpack(progress)
        if progress.tried != told:
            told = progress.tried
            say(f"{told} of {progress.candidates} salts tried on {progress.units} units")
        operation = session.check_operations.WaitOperation(
            operations_pb2.WaitOperationRequest(name=operation.name)
        )
    if operation.HasField("error"):
        raise from_operation(operation.error)
    found = pb.FindBalancedSaltResult()
    operation.response.Unpack(found)
    return found


def _write(found: pb.FindBalancedSaltResult, output: Format) -> None:
    shown = (*columns("covariate"), Column("difference", right=True))
    rows = [(one.covariate, one.difference) for one in found.covariates]
    write(View(found, shown, rows), output)
    say(
        f"{last_part(found.experiment)} has the salt {found.salt}: the largest standardized "
        f"difference is {found.largest_difference:.4g}, under the median of {found.candidates} "
        f"salts {found.median_difference:.4g}, of {found.units} units"
    )
