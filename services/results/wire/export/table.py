"""Results as a table: a row for each metric, treatment, slice, span and method."""

import csv
import io
from collections.abc import Iterator

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export import further
from services.results.wire.export.cells import (
    Row,
    end,
    number,
    read_row,
    shown_row,
    text,
    units_row,
)
from services.results.wire.export.words import enum_word, last_part

COLUMNS = (
    *("metric", "role", "variant", "reading", "method", "dimension", "slice"),
    *("units", "control_units", "mean", "control_mean"),
    *("difference", "difference_low", "difference_high"),
    *("lift", "lift_low", "lift_high", "lift_shape", "level"),
    *("p_value", "running_p_value", "adjusted_p_value", "rejected"),
    *("shrunken_difference", "shrunken_low", "shrunken_high"),
    *("probability_better", "expected_loss", "probability_best"),
    *("verdict", "not_estimable", "error"),
    *("watermark", "metric_version", "plan_version", "config_version"),
    *further.COLUMNS,
    *further.RUN_COLUMNS,
)


def encode_csv(results: pb.Results) -> bytes:
    """The table as RFC 4180 has it, in UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows(results))
    return out.getvalue().encode()


def rows(results: pb.Results) -> Iterator[Row]:
    """Of each metric the comparisons of record and beside it, then slices, then steps, then spans
    of days; a metric that failed has one row with its error.
    """
    verdicts = {one.variant: enum_word(one, "verdict") for one in results.decisions}
    control = next((arm.variant for arm in results.arms if arm.control), "")
    for metric in results.metrics:
        common = _common(results, metric) | further.run_row(results)
        if metric.HasField("error"):
            error = f"{metric.error.reason}: {metric.error.message}"
            yield common | {"error": text(error)}
            continue
        arms = {arm.variant: arm for arm in metric.arms}
        of_record = enum_word(results, "method")
        for one in metric.comparisons:
            units = units_row(arms[one.variant].units, arms[control].units)
            row = common | units | {"variant": text(one.variant)}
            of_arms = _means(arms[one.variant], arms[control])
            verdict = {"method": of_record, "verdict": verdicts.get(one.variant, "")}
            more = further.further_row(metric, one, control)
            yield row | of_arms | _of_record(one) | verdict | more
            yield from (row | read_row(name, read) for name, read in _others(one))
        yield from (common | row for row in _slices(metric, control))
        yield from (common | row for row in _steps(metric, control))
        yield from (common | row for row in further.span_rows(metric, control))


def _common(results: pb.Results, metric: pb.MetricResults) -> Row:
    provenance = results.provenance
    return {
        "metric": text(last_part(metric.metric)),
        "role": enum_word(metric, "role"),
        "watermark": text(provenance.watermark),
        "metric_version": str(metric.metric_version),
        "plan_version": str(provenance.plan_version),
        "config_version": str(provenance.config_version),
    }


def _means(treatment: pb.ArmEstimate, control: pb.ArmEstimate) -> Row:
    return {
        "mean": number(treatment.mean),
        "control_mean": number(control.mean),
        "probability_best": number(treatment.probability_best),
    }


def _of_record(one: pb.Comparison) -> Row:
    exact = one.HasField("beta_binomial_posterior")
    posterior = one.beta_binomial_posterior if exact else one.normal_posterior
    return (
        {"reading": "of_record"}
        | shown_row(one)
        | {
            "running_p_value": number(one.running_p_value),
            "adjusted_p_value": number(one.adjusted.p_value),
            "rejected": str(one.adjusted.rejected).lower(),
            "probability_better": number(posterior.probability_better),
            "expected_loss": number(posterior.expected_loss),
        }
    )


def _others(one: pb.Comparison) -> Iterator[tuple[str, pb.MethodReading]]:
    yield from (("beside", read) for read in one.readings)
    for name in ("unadjusted", "uncapped"):
        if one.HasField(name):
            yield name, getattr(one, name)


def _slices(metric: pb.MetricResults, control: str) -> Iterator[Row]:
    for part in metric.slices:
        arms = {arm.variant: arm for arm in part.arms}
        where = {"dimension": text(part.dimension), "slice": text(slice_name(part))}
        for one in part.comparisons:
            arm = arms[one.variant]
            means = {"mean": number(arm.mean), "control_mean": number(arms[control].mean)}
            shrunken = {
                "shrunken_difference": number(one.shrunken_difference),
                "shrunken_low": end(one.shrunken_interval, low=True),
                "shrunken_high": end(one.shrunken_interval, low=False),
            }
            row = units_row(arm.units, arms[control].units) | means | shrunken
            yield {"variant": text(one.variant)} | where | row | read_row("slice", one.reading)


def slice_name(part: pb.SliceResults) -> str:
    """The value of a slice, or which units without one of their own it holds."""
    if part.no_value:
        return "(no value)"
    return f"({part.other_values} other values)" if part.other_values else part.value


def _steps(metric: pb.MetricResults, control: str) -> Iterator[Row]:
    for step in metric.steps:
        arms = {arm.variant: arm for arm in step.arms}
        for one in step.comparisons:
            units = units_row(arms[one.variant].units, arms[control].units)
            means = {
                "mean": number(arms[one.variant].passed),
                "control_mean": number(arms[control].passed),
            }
            named = {"variant": text(one.variant), "slice": text(step.event_name)}
            yield named | units | means | read_row("step", one.reading)
