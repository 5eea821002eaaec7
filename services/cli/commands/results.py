"""touchstone results: what an experiment shows."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from touchstone.common.v1 import identity_pb2
from touchstone.results.v1 import analysis_plan_pb2 as plan_pb
from touchstone.results.v1 import health_pb2, metric_pb2
from touchstone.results.v1 import results_pb2 as model_pb
from touchstone.results.v1 import results_service_pb2 as pb

from services.cli.commands import results_further
from services.cli.commands.results_reading import READ, reading
from services.cli.figures import (
    count,
    estimate,
    last_part,
    p_value,
    percent,
    probability,
    span,
)
from services.cli.options import Data, Output, PointInTime
from services.cli.rendering import Cell, Column, Format, View, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

app = typer.Typer(no_args_is_help=True, help="Read what experiments show.")

COLUMNS = (
    Column("metric"),
    Column("variant"),
    Column("units", count, right=True),
    Column("control_mean", right=True),
    Column("mean", right=True),
    *READ,
    Column("probability_better", probability, right=True),
    Column("probability_best", probability, right=True),
    *results_further.COLUMNS,
)
CHECKS = (Column("check"), Column("status"), Column("finding"))


class Method(enum.StrEnum):
    """How comparisons are read."""

    FIXED = "fixed"
    GROUP_SEQUENTIAL = "group-sequential"
    ANYTIME = "anytime"
    HYBRID = "hybrid"


METHODS = {
    Method.FIXED: plan_pb.ANALYSIS_METHOD_FIXED,
    Method.GROUP_SEQUENTIAL: plan_pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL,
    Method.ANYTIME: plan_pb.ANALYSIS_METHOD_ANYTIME,
    Method.HYBRID: plan_pb.ANALYSIS_METHOD_HYBRID,
}


class PosteriorModel(enum.StrEnum):
    """Posteriors that are computed only when they are asked for."""

    HURDLE = "hurdle"


POSTERIORS = {PosteriorModel.HURDLE: pb.POSTERIOR_MODEL_HURDLE}
Days = Annotated[
    list[str] | None,
    typer.Option(help="FIRST-LAST day since the first exposure, such as 8-56. Repeat it."),
]
PosteriorOption = Annotated[
    list[PosteriorModel] | None,
    typer.Option(help="hurdle: what a share of buyers and their amounts say of revenue."),
]
AsOf = Annotated[
    str, typer.Option(help="The watermark of earlier results, to have the same again.")
]
STITCHINGS = {
    False: identity_pb2.STITCHING_UNSPECIFIED,
    True: identity_pb2.STITCHING_POINT_IN_TIME,
}
_BRIEF = ("metric", "variant", "units", "mean", "lift", "p_value", "probability_better")


@app.command()
def show(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            max=0.5,
            help="Error probability of tests and intervals. [default: that of the analysis plan]",
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="How comparisons are read. [default: that of the analysis plan]"),
    ] = None,
    *,
    days: Days = None,
    posterior: PosteriorOption = None,
    as_of: AsOf = "",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Compare every variant with the control.

    P-values and intervals are those of the analysis plan, which hold however often one looks unless
    its method is fixed; the probability of being better is a posterior, Beta-Binomial for a
    proportion and normal for a mean.
    """
    spans = [parse_span(text) for text in days or []]
    with open_session(data) as session:
        reply = session.results.GetResults(
            pb.GetResultsRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", name) for name in metric or []],
                alpha=alpha or 0,
                methods=[METHODS[method]] if method else [],
                exposure_windows=spans,
                posteriors=[POSTERIORS[one] for one in posterior or []],
                as_of=as_of,
                stitching=STITCHINGS[point_in_time],
            )
        )
    results = reply.results
    whole = list(rows(results, method))
    heading = title(experiment, results.provenance.alpha)
    write(View(reply, COLUMNS, whole, heading, brief(whole)), output)
    tell(results)


@app.command()
def health(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            help="Check the sample ratio within this, such as properties.country. Repeat it. "
            "[default: those of the analysis plan]"
        ),
    ] = None,
    *,
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say whether what an experiment shows can be trusted, with alerts first."""
    with open_session(data) as session:
        reply = session.results.GetHealth(
            pb.GetHealthRequest(
                experiment=session.name("experiments", experiment),
                metrics=[session.name("metrics", name) for name in metric or []],
                dimensions=dimension or [],
                stitching=STITCHINGS[point_in_time],
            )
        )
    write(View(reply, CHECKS, list(checks(reply.health)), f"health of {experiment}"), output)


def parse_span(text: str) -> pb.ExposureWindow:
    """The days of FIRST-LAST."""
    first, separator, last = text.partition("-")
    if not (separator and first.isdecimal() and last.isdecimal()):
        raise typer.BadParameter(f"--days is {text!r}; allowed: FIRST-LAST, such as 8-56")
    return pb.ExposureWindow(first_day=int(first), last_day=int(last))


def decisions(results: model_pb.Results) -> Iterator[str]:
    """A line a treatment: what to do, and why."""
    method = _words(plan_pb.AnalysisMethod.Name(results.method), "ANALYSIS_METHOD_")
    for decision in results.decisions:
        verdict = _words(model_pb.Verdict.Name(decision.verdict), "VERDICT_")
        why = "; ".join(reason.message for reason in decision.reasons) or "nothing was measured"
        yield f"{decision.variant}: {verdict}, read by the method {method}: {why}"


def tell(results: model_pb.Results) -> None:
    """Says on standard error what stands below the table."""
    tell_method(results)
    for line in decisions(results):
        say(line)
    for line in results_further.findings(results):
        say(line)
    tell_health(results)


def tell_method(results: model_pb.Results) -> None:
    """Says on standard error why the results are read by their method."""
    if results.method_choice.message:
        method = _words(plan_pb.AnalysisMethod.Name(results.method), "ANALYSIS_METHOD_")
        say(f"method {method}: {results.method_choice.message}")


def checks(found: health_pb2.Health) -> Iterator[tuple[Cell, ...]]:
    """A row a check, as the service orders them."""
    for check in found.checks:
        status = _words(health_pb2.HealthStatus.Name(check.status), "HEALTH_STATUS_")
        yield check.name, status, check.message


def _words(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")


def title(experiment: str, alpha: float) -> str:
    """The heading of the table, with the level of its intervals."""
    return f"{experiment}, {100 * (1 - alpha):.10g}% intervals"


def rows(results: model_pb.Results, method: Method | None = None) -> Iterator[tuple[Cell, ...]]:
    """A row for each metric and arm; the control's has no comparison."""
    for metric in results.metrics:
        control = next((arm.variant for arm in results.arms if arm.control), "")
        means = {arm.variant: estimate(arm.mean) for arm in metric.arms}
        compared = {comparison.variant: comparison for comparison in metric.comparisons}
        for place, arm in enumerate(metric.arms):
            found = compared.get(arm.variant)
            yield (
                last_part(metric.metric),
                arm.variant,
                arm.units,
                means.get(control),
                estimate(arm.mean),
                *(comparison_cells(found, metric.kind, method) if found else (None,) * 8),
                estimate(arm.probability_best),
                *results_further.cells(metric, place),
            )


def brief(whole: Sequence[Sequence[Cell]]) -> tuple[Sequence[Column], list[tuple[Cell, ...]]]:
    """The columns that a person decides by, with the interval of the lift in one."""
    places = [place for place, column in enumerate(COLUMNS) if column.name in _BRIEF]
    low, high = (_place("lift_low"), _place("lift_high"))
    kept = [COLUMNS[place] for place in places]
    at = [column.name for column in kept].index("lift") + 1
    kept.insert(at, Column("interval", right=True))
    found = []
    for row in whole:
        cells = [row[place] for place in places]
        cells.insert(at, span(row[low], row[high], percent))
        found.append(tuple(cells))
    return kept, found


def _place(name: str) -> int:
    return [column.name for column in COLUMNS].index(name)


def comparison_cells(
    comparison: model_pb.Comparison,
    kind: metric_pb2.MetricKind.ValueType,
    method: Method | None = None,
) -> tuple[Cell, ...]:
    """Difference, its interval, lift, its interval, p-value and the probability of being better.

    As the method reads them where it is beside that of the plan.
    """
    beside = (one for one in comparison.readings if method and int(one.method) == METHODS[method])
    read = next(beside, comparison)
    proportion = kind == metric_pb2.METRIC_KIND_PROPORTION
    posterior = comparison.beta_binomial_posterior if proportion else comparison.normal_posterior
    return *reading(read), estimate(posterior.probability_better)


def tell_health(results: model_pb.Results) -> None:
    """Says on standard error whether the numbers can be trusted."""
    check = results.sample_ratio
    value = estimate(check.p_value)
    if check.alert:
        warn(
            f"the sample ratio does not fit the weights (p = {value:.3g}): find the cause before "
            "you trust these results"
            if isinstance(value, float)
            else "the sample ratio does not fit the weights"
        )
    elif isinstance(value, float):
        say(f"sample ratio: fits the weights (p = {p_value(value)})")
    if results.HasField("removed_since"):
        warn(results_further.removed_words(results.removed_since))
    if results.unclustered_units:
        warn(f"{results.unclustered_units} units belong to no cluster and are in no comparison")
    if results.multiply_exposed_units:
        warn(f"{results.multiply_exposed_units} units saw several variants and are left out")
    if results.unknown_variant_exposures:
        warn(f"{results.unknown_variant_exposures} exposures of unknown variants are left out")
    if results.forced_units:
        say(f"{results.forced_units} units with a forced variant are left out")
    if ambiguous := results.ambiguous_exposures + results.ambiguous_conversions:
        warn(f"{ambiguous} events could be of several units by their identity and are left out")
