"""What results say beside the comparison of record: further columns, and a line a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from touchstone.results.v1 import results_pb2 as pb

from services.cli.figures import (
    ends,
    enum_text,
    estimate,
    last_part,
    p_value,
    percent,
    plain,
    probability,
    span,
)
from services.cli.rendering import Cell, columns

COLUMNS = columns(
    *("clusters", "design_effect"),
    *("selected_difference", "selected_difference_low", "selected_difference_high"),
    *("selected_lift", "selected_lift_low", "selected_lift_high"),
    *("permutation_p_value", "carry_over"),
    *("carry_over_low", "carry_over_high", "carry_over_p_value"),
    *("slope", "slope_low", "slope_high", "slope_p_value", "trend"),
    *("hurdle_probability_better", "hurdle_expected_loss"),
    *("hurdle_lift_low", "hurdle_lift_high"),
)


def cells(metric: pb.MetricResults, place: int) -> tuple[Cell, ...]:
    """One arm, in the order of the columns; the control has no comparison."""
    arm = metric.arms[place].variant
    one = next((one for one in metric.comparisons if one.variant == arm), pb.Comparison())
    slope = next((one for one in metric.course.slopes if one.variant == arm), pb.EffectSlope())
    clusters = metric.clusters if metric.HasField("clusters") else None
    checks, hurdle = one.switchback, one.hurdle_posterior
    return (
        None if clusters is None else clusters.arms[place],
        None if clusters is None else estimate(clusters.design_effects[place]),
        *_effect(one.selected.difference, one.selected.difference_interval),
        *_effect(one.selected.lift, one.selected.lift_interval),
        estimate(checks.permutation_p_value),
        *_effect(checks.carry_over.difference, checks.carry_over.difference_interval),
        estimate(checks.carry_over.p_value),
        *_effect(slope.slope, slope.slope_interval),
        estimate(slope.p_value),
        _trend(slope) or None,
        estimate(hurdle.probability_better),
        estimate(hurdle.expected_loss),
        *(ends(hurdle.lift_interval) if one.HasField("hurdle_posterior") else (None, None)),
    )


def findings(results: pb.Results) -> Iterator[str]:
    """A line for each: of clusters a line a metric, of the others a line a treatment."""
    for metric in results.metrics:
        name = last_part(metric.metric)
        if metric.HasField("clusters"):
            yield f"{name}: {_clusters(metric.clusters)}"
        for one in metric.comparisons:
            yield from (f"{name}, {one.variant}: {said}" for said in _of_comparison(one))
        if metric.HasField("hurdle_error"):
            yield f"{name}: no posterior of revenue: {metric.hurdle_error.message}"
        if metric.course.HasField("error"):
            yield f"{name}: no course over the days: {metric.course.error.message}"
        for slope in metric.course.slopes:
            yield f"{name}, {slope.variant}: {_slope(slope, metric.course)}"


def removed_words(removed: pb.RemovedSince) -> str:
    """What a cut has lost, as a warning."""
    if removed.unknown:
        return (
            "it is not known whether this cut has lost events since it was current: nobody read "
            "results then, or it was too long ago"
        )
    return (
        f"{removed.exposures} exposures and {removed.conversions} measured events of this cut were "
        "erased or removed by retention since it was first read: earlier numbers differ"
    )


def _of_comparison(one: pb.Comparison) -> Iterator[str]:
    if one.HasField("selected"):
        chosen = one.selected
        lift = _with_span(chosen.lift, chosen.lift_interval, percent)
        how = "corrected for having been chosen at this look alone"
        yield f"significant; {how}, the lift is {lift}"
    if one.HasField("switchback"):
        checks, left = one.switchback, one.switchback.carry_over
        over = _with_span(left.difference, left.difference_interval, plain)
        yield (
            f"windows: permutation p {_told(checks.permutation_p_value, p_value)}; carry-over "
            f"{over}, p {_told(left.p_value, p_value)}"
        )
    if one.HasField("hurdle_posterior"):
        hurdle = one.hurdle_posterior
        better = _told(hurdle.probability_better, probability)
        lift = f", lift {span(*ends(hurdle.lift_interval, percent), percent)}"
        known = hurdle.probability_better.HasField("value")
        yield f"revenue posterior: {f'better {better}{lift}' if known else better}"


def _clusters(found: pb.ClusterSummary) -> str:
    effects = ", ".join(_told(one, lambda cell: f"{cell:.3g}") for one in found.design_effects)
    mixed = f", {found.mixed:,} with units of several variants" if found.mixed else ""
    return f"{found.all:,} clusters{mixed}; design effect {effects}"


def _slope(found: pb.EffectSlope, course: pb.EffectCourse) -> str:
    slope = _with_span(found.slope, found.slope_interval, plain)
    what = "daily effect" if course.per_day else "effect"
    words = f", {_trend(found)}" if found.trend else ""
    if not found.slope.HasField("value"):
        return f"the course of the {what} over the days: {slope}"
    return f"each day the {what} changes by {slope}, p {_told(found.p_value, p_value)}{words}"


def _trend(found: pb.EffectSlope) -> str:
    name = enum_text(found, "trend", "EFFECT_TREND_")
    return "" if name == "unspecified" else name.replace("_", " ")


def _effect(number: pb.Estimate, interval: pb.Interval) -> tuple[Cell, Cell, Cell]:
    found = estimate(number)
    return (None, None, None) if found is None else (found, *ends(interval))


def _with_span(number: pb.Estimate, interval: pb.Interval, show: Callable[[Cell], str]) -> str:
    if not number.HasField("value"):
        return _told(number, show)
    return f"{_told(number, show)} {span(*ends(interval, show), show)}"


def _told(number: pb.Estimate, show: Callable[[Cell], str]) -> str:
    found = estimate(number)
    return show(found) if isinstance(found, int | float) else str(found)
