"""The `touchstone` command and its way of failing."""

from __future__ import annotations

import os
import sys

import grpc
import typer

from services.cli.commands import (
    ascode,
    assign,
    attribute,
    attribution,
    attribution_grouping,
    attribution_grouping_trial,
    attribution_report,
    attribution_schedule,
    attribution_scores,
    audience,
    audit,
    backup,
    balanced_salt,
    bandit,
    budget,
    calibration,
    calibration_report,
    check,
    control,
    doctor,
    economics,
    erasure,
    experiment,
    flags,
    identity,
    imports,
    keys,
    metric,
    metric_files,
    operations,
    parameters,
    paths,
    planning,
    referrals,
    rejected,
    results,
    results_export,
    results_looks,
    results_parts,
    results_plan,
    results_time_series,
    results_together,
    results_watch,
    retention,
    scenario,
    spend,
    suite,
    tutorial,
)
from services.cli.failures import FAILED, from_call, lines
from services.cli.terminal import say, standard_output
from shared.errors import DomainError
from shared.version import VERSION

app = typer.Typer(
    name="touchstone",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Experiments and attribution on one event log. Start with `touchstone tutorial`.",
)


@app.callback()
def _root() -> None:
    # Data goes to standard output, messages to standard error. Exit codes: 0 done, 1 failed,
    # 2 wrong usage, 3 some of it did not go in. The help text above stands for this.
    pass


@app.command()
def version() -> None:
    """Print the version."""
    with standard_output() as out:
        out.write(f"{VERSION}\n")


app.command("up")(suite.up)
app.command("tutorial")(tutorial.tutorial)
app.command("assign")(assign.assign)
app.command("attribute")(attribute.attribute)
app.command("referrals")(referrals.referrals)
app.command("parameters")(parameters.parameters)
app.command("doctor")(doctor.doctor)
app.command("erase")(erasure.erase)
app.command("erasures")(erasure.erasures)
app.add_typer(imports.app, name="import")
for as_code in (ascode.validate, ascode.diff, ascode.apply, ascode.export):
    experiment.app.command(as_code.__name__)(as_code)
experiment.app.command()(planning.plan)
experiment.app.command("simulate-null")(planning.simulate_null)
for of_metrics in (
    metric_files.validate,
    metric_files.diff,
    metric_files.apply,
    metric_files.export,
):
    metric.app.command(of_metrics.__name__)(of_metrics)
for verb in (
    control.kill,
    control.revive,
    control.weights,
    control.force,
    control.unforce,
    control.forced,
):
    experiment.app.command()(verb)
experiment.app.command("find-balanced-salt")(balanced_salt.find_balanced_salt)
app.add_typer(experiment.app, name="experiment")
app.add_typer(audience.app, name="audience")
app.add_typer(check.app, name="check")
app.add_typer(flags.app, name="flags")
app.add_typer(metric.app, name="metric")
results.app.command()(results_watch.watch)
results.app.command("time-series")(results_time_series.time_series)
results.app.command()(results_parts.slices)
results.app.command()(results_parts.funnel)
results.app.command()(results_export.export)
results.app.command()(results_looks.looks)
results.app.command()(results_plan.plan)
results.app.command("change-plan")(results_plan.change_plan)
for of_several in (
    results_together.evaluate,
    results_together.interactions,
    results_together.program,
):
    results.app.command()(of_several)
app.add_typer(results.app, name="results")
attribution.app.command()(scenario.scenario)
for of_money in (economics.economics, economics.lifetime, budget.budget):
    attribution.app.command()(of_money)
app.add_typer(bandit.app, name="bandit")
attribution_report.app.command("credits")(attribution_scores.list_credits)
attribution_report.app.command()(attribution_scores.scores)
attribution_report.app.command()(attribution_scores.export)
attribution.app.add_typer(attribution_report.app, name="report")
attribution_grouping.app.command("test")(attribution_grouping_trial.trial)
attribution.app.add_typer(attribution_grouping.app, name="grouping")
attribution.app.add_typer(attribution_schedule.app, name="schedule")
app.add_typer(attribution.app, name="attribution")
calibration.app.command()(calibration_report.report)
app.add_typer(calibration.app, name="calibration")
app.add_typer(spend.app, name="spend")
app.add_typer(paths.app, name="paths")
app.add_typer(identity.app, name="identity")
app.add_typer(rejected.app, name="rejected")
app.add_typer(retention.app, name="retention")
app.add_typer(operations.app, name="operations")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app, name="backup")


def run() -> None:
    """Runs the command line and ends the process: 0 done, 1 failed, 2 wrong usage."""
    # The supervisor makes processes while gRPC has threads; none of them uses gRPC before exec.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        app()
    except DomainError as error:
        _fail(error)
    except grpc.RpcError as error:
        _fail(from_call(error))


def _fail(error: DomainError) -> None:
    for line in lines(error):
        say(line)
    sys.exit(FAILED)
