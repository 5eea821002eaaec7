"""touchstone attribution budget: where money brings most."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import budget_pb2, calibration_pb2
from touchstone.attribution.v1 import economics_service_pb2 as pb

from services.cli.commands.attribution_report import COLLECTION as REPORTS
from services.cli.commands.calibration import COLLECTION
from services.cli.commands.calibration_report import told
from services.cli.commands.economics import tell_conflicts
from services.cli.commands.scenario import figure, std_err
from services.cli.failures import FAILED
from services.cli.figures import enum_text, plain, span
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.request_files import read_request
from services.cli.session import open_session
from services.cli.terminal import say, warn

COLUMNS = (
    *columns("channel"),
    *(
        Column(name, lambda cell: f"{cell:,.2f}", right=True)
        for name in ("spend", "response", "std_err")
    ),
    Column("marginal", lambda cell: f"{cell:.6f}", right=True),
    *columns("bound", "calibrated", "extrapolated"),
)

CONCERNS = {
    budget_pb2.CURVE_CONCERN_NO_SATURATION: (
        "the spends seen show no saturation: how much more it can take is not known"
    ),
    budget_pb2.CURVE_CONCERN_AT_ONCE_SATURATED: "the least spend seen brings as much as any",
    budget_pb2.CURVE_CONCERN_POOR_FIT: "the curve explains less than half of what was seen",
}


def budget(
    file: Annotated[
        Path, typer.Argument(help="The budget: an AllocateBudgetRequest, YAML or JSON.")
    ],
    *,
    total: Annotated[
        float, typer.Option(help="Spread this, in the place of the file's total.")
    ] = math.nan,
    report: Annotated[
        str, typer.Option(help="Id of the report that lines are measured by, in the file's place.")
    ] = "",
    link: Annotated[
        list[str] | None,
        typer.Option(help="Id of a calibration link, in the file's place. Repeat it."),
    ] = None,
    as_of: Annotated[
        str, typer.Option(help="The watermark at which tests are read, in the file's place.")
    ] = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Spread a budget so that no shift of money between channels would bring more.

    Example: touchstone attribution budget budget.yaml --total 50000
    """
    request = read_request(file, pb.AllocateBudgetRequest())
    if not math.isnan(total):
        request.total = total
    if as_of:
        request.evidence.as_of = as_of
    with open_session(data) as session:
        if report:
            request.evidence.report = session.name(REPORTS, report)
        if link:
            request.evidence.links[:] = [session.name(COLLECTION, each) for each in link]
        reply = session.economics.AllocateBudget(request)
    if reply.WhichOneof("outcome") == "infeasible":
        if output is Format.JSON:
            write(View(reply, COLUMNS, []), output)
        warn(reply.infeasible.message)
        raise typer.Exit(FAILED)
    found = reply.allocation
    write(View(reply, COLUMNS, [row(one) for one in found.channels]), output)
    for group in found.groups:
        bound = enum_text(group, "bound", "BUDGET_BOUND_").replace("_", " ")
        say(f"group {group.group}: {group.spend:,.2f}, {bound}")
    for one in found.binding:
        say(binding_text(one))
    if found.unspent:
        say(f"{found.unspent:,.2f} is left: no channel may take it, or it would bring too little")
    tell_gain(found.gain)
    tell_evidence(reply)


def tell_gain(gain: calibration_pb2.MoneyRange) -> None:
    """Says what the spread brings more than present proportions do."""
    if not gain.value.HasField("value"):
        return
    text = f"{gain.value.value:+,.2f} against present proportions"
    if gain.value.std_err:
        text += f", between {gain.low.value:+,.2f} and {gain.high.value:+,.2f}"
    say(text)


def tell_evidence(reply: pb.AllocateBudgetResponse) -> None:
    """Says what lines were measured by, and on standard error what does not fit."""
    for one in reply.allocation.channels:
        for concern in one.fitted.concerns:
            warn(f"{one.channel}: {CONCERNS[concern]}")
        if one.HasField("measured"):
            days = one.measured
            say(
                f"{one.channel}: {days.days} days from {days.first_day} to {days.last_day}, "
                f"{days.spend:,.2f} spent and {days.response:,.2f} credited"
            )
        if one.HasField("kappa"):
            kappa, basis = one.kappa, enum_text(one.kappa, "basis", "KAPPA_BASIS_")
            interval = span(kappa.low, kappa.high, plain)
            say(f"{one.channel}: kappa {plain(kappa.mean)}, {interval}, {basis.replace('_', ' ')}")
    tell_conflicts(reply.provenance.conflicts)
    for finding in reply.provenance.findings:
        (warn if finding.left_out else say)(told(finding))


def row(one: budget_pb2.AllocatedChannel) -> tuple[Cell, ...]:
    """One channel."""
    return (
        one.channel,
        one.spend,
        figure(one.response),
        std_err(one.response),
        figure(one.marginal),
        enum_text(one, "bound", "BUDGET_BOUND_").replace("_", " "),
        one.calibrated,
        one.extrapolated,
    )


def binding_text(one: budget_pb2.BindingConstraint) -> str:
    """A constraint that binds, and what it costs."""
    on = one.WhichOneof("on")
    name = "the total" if on == "total" else f"{on} {getattr(one, on or 'channel')}"
    limit = (
        "" if on == "total" else " " + enum_text(one, "bound", "BUDGET_BOUND_").replace("_", " ")
    )
    gain = figure(one.gain)
    shown = f"{gain:+.6f}" if isinstance(gain, float) else gain
    return f"binds: {name}{limit}; one more unit of money for it brings {shown}"
