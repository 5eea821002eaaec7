"""touchstone attribution scenario: what the traffic of a scene is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import money_pb2
from touchstone.attribution.v1 import scenario_service_pb2 as pb

from services.cli.figures import enum_text, last_part, plain
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.request_files import read_request
from services.cli.session import open_session
from services.cli.terminal import say, warn

COLUMNS = (
    *columns("product"),
    Column("users", lambda cell: f"{cell:,.6g}", right=True),
    Column("value_per_user", lambda cell: f"{cell:,.2f}", right=True),
    Column("value", lambda cell: f"{cell:,.2f}", right=True),
    Column("std_err", lambda cell: f"{cell:,.2f}", right=True),
)


def scenario(
    file: Annotated[Path, typer.Argument(help="The scene: a ValueScenarioRequest, YAML or JSON.")],
    *,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Value the traffic of a scene: F * S * G * V by product, beside its direct income.

    What the file gives and what can be derived is compared. Example: touchstone attribution
    scenario scene.yaml
    """
    request = read_request(file, pb.ValueScenarioRequest())
    with open_session(data) as session:
        reply = session.scenarios.ValueScenario(request)
    write(View(reply, COLUMNS, list(rows(reply))), output)
    for line in results(reply):
        say(line)
    for one in reply.measurements:
        say(measurement_text(one))
        if one.untrusted:
            warn(f"{one.input} of {one.product}: the sizes of the arms contradict their weights")
    for check in reply.checks:
        agreement = enum_text(check, "agreement", "AGREEMENT_").replace("_", " ")
        (warn if check.flagged else say)(f"{agreement}: {check.message}")


def measurement_text(one: pb.ScenarioMeasurement) -> str:
    """An input that an experiment measured."""
    found = one.difference
    experiment, metric = last_part(one.comparison.experiment), last_part(one.comparison.metric)
    interval = " to ".join(plain(figure(end)) for end in (found.low, found.high))
    return (
        f"{one.input.replace('_', ' ')} of {one.product}: {plain(figure(found.value))}, "
        f"{interval}, by {metric} of {experiment}, {one.comparison.variant} less "
        f"{one.comparison.control}"
    )


def figure(found: money_pb2.MoneyFigure) -> Cell:
    """The figure, or why there is none."""
    if found.HasField("value"):
        return found.value
    return enum_text(found, "undefined", "MONEY_UNDEFINED_").replace("_", " ")


def std_err(found: money_pb2.MoneyFigure) -> Cell:
    """The standard error, where it is known."""
    return found.std_err if found.HasField("std_err") else None


def rows(reply: pb.ValueScenarioResponse) -> Iterator[tuple[Cell, ...]]:
    """A row for each product, and one for all of them."""
    for one in reply.products:
        yield (
            one.product,
            figure(one.users) if one.HasField("users") else None,
            figure(one.value_per_user) if one.HasField("value_per_user") else None,
            figure(one.value),
            std_err(one.value),
        )
    yield "total", None, None, figure(reply.total), std_err(reply.total)


def results(reply: pb.ValueScenarioResponse) -> Iterator[str]:
    """What the value means for the investment, a line each."""
    shown = (
        ("direct income and total", figure(reply.direct_and_total), ",.2f", ""),
        ("uplift over direct income", figure(reply.uplift), ".2%", ""),
        ("payback by direct income", figure(reply.direct_payback_years), ".2f", " years"),
        ("payback with the total", figure(reply.payback_years), ".2f", " years"),
        ("income for one invested", figure(reply.contract_return), ".2f", ""),
    )
    for name, found, form, unit in shown:
        known = f"{found:{form}}{unit}" if isinstance(found, float) else found
        yield f"{name}: {known}"
