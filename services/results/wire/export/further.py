"""Columns for what results say beside the comparison of record, and rows for spans of days."""

from collections.abc import Iterator

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.cells import Row, end, number, read_row, text, units_row
from services.results.wire.export.words import enum_word, estimate_or_reason

COLUMNS = (
    *("first_day", "last_day"),
    *("clusters", "control_clusters", "design_effect", "control_design_effect"),
    *("selected_difference", "selected_difference_low", "selected_difference_high"),
    *("selected_lift", "selected_lift_low", "selected_lift_high"),
    *("permutation_p_value", "carry_over"),
    *("carry_over_low", "carry_over_high", "carry_over_p_value"),
    *("slope", "slope_low", "slope_high", "slope_p_value", "trend", "course_error"),
    *("hurdle_probability_better", "hurdle_expected_loss"),
    *("hurdle_lift_low", "hurdle_lift_high", "hurdle_error"),
)
RUN_COLUMNS = ("method_reason", "removed_exposures", "removed_conversions")
"""The same in every row."""


def run_row(results: pb.Results) -> Row:
    """Why the rule is what it is, and what the cut has lost: `unknown` where nobody can tell."""
    found = {"method_reason": enum_word(results.method_choice, "reason")}
    if results.HasField("removed_since"):
        removed = results.removed_since
        counts = (removed.exposures, removed.conversions)
        told = ["unknown" if removed.unknown else str(count) for count in counts]
        found |= dict(zip(("removed_exposures", "removed_conversions"), told, strict=True))
    return found


def further_row(metric: pb.MetricResults, one: pb.Comparison, control: str) -> Row:
    """The columns of one comparison of record."""
    places = {arm.variant: place for place, arm in enumerate(metric.arms)}
    found: Row = {}
    if metric.HasField("clusters"):
        found |= _clusters(metric.clusters, "", places[one.variant])
        found |= _clusters(metric.clusters, "control_", places[control])
    if one.HasField("selected"):
        chosen = one.selected
        found |= _effect("selected_difference", chosen.difference, chosen.difference_interval)
        found |= _effect("selected_lift", chosen.lift, chosen.lift_interval)
    if one.HasField("switchback"):
        checks, left = one.switchback, one.switchback.carry_over
        found["permutation_p_value"] = estimate_or_reason(checks.permutation_p_value)
        found |= _effect("carry_over", left.difference, left.difference_interval)
        found["carry_over_p_value"] = number(left.p_value)
    for slope in (slope for slope in metric.course.slopes if slope.variant == one.variant):
        found |= _effect("slope", slope.slope, slope.slope_interval)
        found |= {"slope_p_value": number(slope.p_value), "trend": enum_word(slope, "trend")}
    if metric.course.HasField("error"):
        error = metric.course.error
        found["course_error"] = text(f"{error.reason}: {error.message}")
    return found | _hurdle(metric, one)


def span_rows(metric: pb.MetricResults, control: str) -> Iterator[Row]:
    """A row for each span of days and treatment; one with its error where a span has nothing."""
    for span in metric.windows:
        days = {"first_day": str(span.first_day), "last_day": str(span.last_day)}
        if span.HasField("error"):
            error = text(f"{span.error.reason}: {span.error.message}")
            yield days | {"reading": "days", "error": error}
        arms = {arm.variant: arm for arm in span.arms}
        for one in span.comparisons:
            arm = arms[one.variant]
            means = {"mean": number(arm.mean), "control_mean": number(arms[control].mean)}
            row = days | units_row(arm.units, arms[control].units) | means
            yield {"variant": text(one.variant)} | row | read_row("days", one.reading)


def _clusters(found: pb.ClusterSummary, prefix: str, place: int) -> Row:
    return {
        f"{prefix}clusters": str(found.arms[place]),
        f"{prefix}design_effect": estimate_or_reason(found.design_effects[place]),
    }


def _effect(name: str, found: pb.Estimate, interval: pb.Interval) -> Row:
    return {
        name: number(found),
        f"{name}_low": end(interval, low=True),
        f"{name}_high": end(interval, low=False),
    }


def _hurdle(metric: pb.MetricResults, one: pb.Comparison) -> Row:
    if metric.HasField("hurdle_error"):
        error = metric.hurdle_error
        return {"hurdle_error": text(f"{error.reason}: {error.message}")}
    if not one.HasField("hurdle_posterior"):
        return {}
    found = one.hurdle_posterior
    better = found.probability_better
    return {
        "hurdle_probability_better": number(better),
        "hurdle_expected_loss": number(found.expected_loss),
        "hurdle_lift_low": end(found.lift_interval, low=True),
        "hurdle_lift_high": end(found.lift_interval, low=False),
        "hurdle_error": "" if number(better) else estimate_or_reason(better),
    }
