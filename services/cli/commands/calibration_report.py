"""touchstone calibration report: a report with its credit corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from touchstone.attribution.v1 import calibration_pb2 as model_pb
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.attribution.v1 import money_pb2

from services.cli.commands.attribution_report import COLLECTION as REPORTS
from services.cli.commands.calibration import COLLECTION
from services.cli.commands.economics import CostOptions, tell_conflicts
from services.cli.figures import enum_text, last_part, plain, span
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

COLUMNS = (
    *columns("model", "channel", "kappa_from"),
    *(Column(name, plain, right=True) for name in ("attributed", "kappa", "incremental")),
    *(Column(name, plain, right=True) for name in ("incremental_low", "incremental_high")),
    *(Column(name, plain, right=True) for name in ("attributed_value", "incremental_value")),
    *(Column(name, plain, right=True) for name in ("cost", "cost_per_attributed")),
    Column("cost_per_incremental", plain, right=True),
    *(Column(name, plain, right=True) for name in ("return_on_spend", "incremental_return")),
)
_BRIEF = (
    *columns("model", "channel", "kappa_from"),
    *(
        Column(name, plain, right=True)
        for name in ("attributed", "kappa", "incremental", "between", "cost_per", "cost_per_incr")
    ),
)


@option_groups
def report(
    report_id: Annotated[str, typer.Argument(help="Id of the report.", metavar="REPORT")],
    *,
    link: Annotated[
        list[str] | None, typer.Option(help="Id of a link. Repeat it. [default: all]")
    ] = None,
    as_of: Annotated[
        str,
        typer.Option(help="The watermark at which experiments are read. [default: the report's]"),
    ] = "",
    leave_untested: Annotated[
        bool,
        typer.Option(
            "--leave-untested", help="Leave channels without a test uncalibrated, and pool nothing."
        ),
    ] = False,
    alpha: Annotated[
        float, typer.Option(min=0, max=0.5, help="Error probability of intervals; 0: 0.05.")
    ] = 0.0,
    costs: CostOptions,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the credit of a report beside what experiments say was caused.

    JSON holds the tests and every finding too. Example: touchstone calibration report weekly
    """
    untested = model_pb.UNTESTED_CHANNELS_POOLED
    if leave_untested:
        untested = model_pb.UNTESTED_CHANNELS_UNCALIBRATED
    with open_session(data) as session:
        request = pb.CalibrateReportRequest(
            report=session.name(REPORTS, report_id),
            links=[session.name(COLLECTION, each) for each in link or ()],
            as_of=as_of,
            untested=untested,
            alpha=alpha,
            costs=costs.rules(),
            currency=costs.currency,
            exchange_rates=costs.rates(),
        )
        found = session.calibration.CalibrateReport(request).calibrated_report
    table = [row for result in found.results for row in _rows(result)]
    write(View(found, COLUMNS, table, brief=(_BRIEF, [_brief(row) for row in table])), output)
    tell_conflicts(found.conflicts)
    tell_unmet(found)
    tell_findings(found)
    tell_prior(found)


def _rows(result: model_pb.CalibratedResult) -> Iterator[tuple[Cell, ...]]:
    for channel in result.channels:
        caused, value = channel.incremental_conversions, channel.incremental_value
        calibrated = channel.HasField("kappa")
        basis = enum_text(channel.kappa, "basis", "KAPPA_BASIS_") if calibrated else "nothing"
        yield (
            result.model_name,
            channel.channel,
            basis,
            channel.conversions,
            channel.kappa.mean if calibrated else None,
            *(figure(end) for end in (caused.value, caused.low, caused.high)),
            channel.value,
            figure(value.value),
            figure(channel.cost),
            figure(channel.cost_per_conversion),
            figure(channel.cost_per_incremental_conversion.value),
            figure(channel.return_on_spend),
            figure(channel.incremental_return_on_spend.value),
        )


def _brief(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    return (*row[:6], span(row[6], row[7], plain), row[11], row[12])


def figure(found: money_pb2.MoneyFigure) -> Cell:
    """The figure, or in words why there is none, or nothing where nothing was sent."""
    if found.HasField("value"):
        return found.value
    if not found.undefined:
        return None
    return enum_text(found, "undefined", "MONEY_UNDEFINED_").replace("_", " ")


def tell_unmet(found: model_pb.CalibratedReport) -> None:
    """Says on standard error what was paid for channels that no journey of the report met."""
    named = {channel.channel for result in found.results for channel in result.channels}
    for cost in found.costs:
        if cost.channel not in named and cost.cost.value:
            paid = f"{cost.cost.value:,.2f} {found.currency}".rstrip()
            warn(f"{cost.channel}: {paid} was paid, and the report credits nothing to it")


def tell_findings(found: model_pb.CalibratedReport) -> None:
    """Says on standard error what does not fit: what is so of several models once."""
    said: dict[tuple[str, bool], list[str]] = {}
    for each in found.findings:
        said[told(each), each.left_out] = []
    for result in found.results:
        for each in result.findings:
            said.setdefault((told(each), each.left_out), []).append(result.model_name)
    for (text, left_out), models in said.items():
        everywhere = len(models) in (0, len(found.results))
        tell: Callable[[str], None] = warn if left_out else say
        tell(text if everywhere else f"{', '.join(models)}: {text}")


def tell_prior(found: model_pb.CalibratedReport) -> None:
    """Says on standard error what was believed of kappas before any test, and since when."""
    said: dict[str, list[str]] = {}
    for result in found.results:
        if any(channel.HasField("kappa") for channel in result.channels):
            learned = result.prior_learned_from
            source = f"learned from {learned} tested channels" if learned else "the default"
            text = f"kappas are shrunk toward 1 by a prior of {result.prior_std_dev:.2g}, {source}"
            said.setdefault(text, []).append(result.model_name)
    for text, models in said.items():
        say(text if len(said) == 1 else f"{', '.join(models)}: {text}")


def told(finding: model_pb.CalibrationFinding) -> str:
    """A finding in words, with what it is about."""
    about = ", ".join(last_part(name) for name in finding.links) or finding.channel
    kind = enum_text(finding, "kind", "CALIBRATION_FINDING_KIND_").replace("_", " ")
    return f"{about}: {kind}: {finding.message}" if about else f"{kind}: {finding.message}"
