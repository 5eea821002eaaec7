"""touchstone results looks: which looks were taken at an experiment, and what they cost."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.results.v1 import analysis_plan_service_pb2 as pb

from services.cli.figures import count, last_part, share, time_text
from services.cli.options import Data, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session

COLUMNS = (
    *columns("metric", "variant"),
    Column("number", right=True),
    *columns("time"),
    Column("units", count, right=True),
    Column("information", share, right=True),
    Column("spent", right=True),
    Column("critical", right=True),
    Column("plan_version", right=True),
    *columns("watermark"),
)


def looks(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    limit: Limit = 1000,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List the looks that were taken at an experiment, by metric, variant and number.

    A look that was taken stays, with what it cost: spent is the error probability up to and with
    it, critical how many standard errors from the null a difference had to be.

    Example: touchstone results looks checkout
    """
    with open_session(data) as session:
        request = pb.ListLooksRequest(experiment=session.name("experiments", experiment))
        reply = collect(session.plans.ListLooks, request, "looks", limit)
    write(View(reply, COLUMNS, [row(one) for one in reply.looks], f"looks at {experiment}"), output)


def row(look: pb.Look) -> tuple[Cell, ...]:
    """One look; without a critical value where none was there to cross."""
    return (
        last_part(look.metric),
        look.variant,
        look.number,
        time_text(look, "create_time"),
        look.units,
        look.information_fraction,
        look.spent,
        look.critical if look.HasField("critical") else None,
        look.plan_version,
        look.watermark,
    )
