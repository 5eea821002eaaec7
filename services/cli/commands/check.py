"""touchstone check: does the assignment do what every analysis takes for granted?"""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.assignment.v1 import assignment_service_pb2, check_service_pb2

from services.cli.failures import REJECTED
from services.cli.figures import last_part
from services.cli.options import Data, Output, parse_unit
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say

app = typer.Typer(no_args_is_help=True, help="Test salts and proportions, and ask who is held out.")

ALPHA = 0.001
"""The p-value below which proportions are no chance; as CheckSalts takes it, too."""


@app.command()
def salts(
    *,
    units: Annotated[
        int, typer.Option(help="Synthetic units to draw. [default: 20000]", show_default=False)
    ] = 0,
    alpha: Annotated[
        float, typer.Option(help="Chance of any false alarm at all. [default: 0.001]",
                            show_default=False)
    ] = 0.0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Test every salt for uniformity, and every pair for independence. Ends with 3 when one fails.

    Example: touchstone check salts
    """
    with open_session(data) as session:
        reply = session.checks.CheckSalts(
            check_service_pb2.CheckSaltsRequest(parent=session.parent, units=units, alpha=alpha)
        )
    shown = (
        *columns("first", "second"),
        Column("statistic", right=True),
        Column("p_value", right=True),
    )
    rows = [(one.first, one.second or None, one.statistic, one.p_value) for one in reply.findings]
    if rows or output is not Format.TABLE:
        write(View(reply, shown, rows), output)
    say(
        f"{reply.salts} salts, {reply.tests} tests, {len(rows)} failed; "
        f"the smallest p-value is {reply.least_p_value:.3g}"
    )
    if rows:
        raise typer.Exit(REJECTED)


@app.command(name="sample-ratio")
def sample_ratio(
    experiment: Annotated[str, typer.Argument(help="Id of an experiment.")],
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Test the proportions of the units that the service assigned. Ends with 3 at p < 0.001.

    It is about different units of a sample of the calls since the service started.

    Example: touchstone check sample-ratio checkout
    """
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        reply = session.checks.CheckSampleRatio(
            check_service_pb2.CheckSampleRatioRequest(experiment=name)
        )
    shown = (*columns("variant"), Column("units", right=True), Column("expected", right=True))
    rows = [(one.variant, one.units, one.expected) for one in reply.variants]
    write(View(reply, shown, rows), output)
    if not reply.HasField("p_value"):
        say("too few units were seen to test their proportions")
        return
    say(f"chi-square {reply.statistic:.4g}, p-value {reply.p_value:.3g}")
    if reply.p_value < ALPHA:
        raise typer.Exit(REJECTED)


@app.command()
def holdouts(
    unit: Annotated[list[str], typer.Argument(help="ID of a user, or TYPE=ID.")],
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say which holdouts keep units out.

    Example: touchstone check holdouts u1 device=d1
    """
    units = [parse_unit(text) for text in unit]
    request = assignment_service_pb2.CheckHoldoutsRequest(
        units=[assignment_service_pb2.UnitContext(ids=[one]) for one in units]
    )
    with open_session(data) as session:
        reply = session.assignment.CheckHoldouts(request)
    rows: list[tuple[Cell, ...]] = [
        (f"{one.type}={one.id}", " ".join(map(last_part, found.holdouts)) or None)
        for one, found in zip(units, reply.units, strict=True)
    ]
    write(View(reply, columns("unit", "held_out_by"), rows), output)
