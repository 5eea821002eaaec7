"""Slices of the population and steps of funnels as messages."""

from collections.abc import Iterator

from touchstone.results.v1 import results_pb2 as pb

from services.results.domain.reading.funnel import taken
from services.results.domain.reading.report import Beside, ExperimentReport, Failure, Settled
from services.results.domain.reading.single_look import without_looks
from services.results.wire.comparisons import READING_METHODS, encode_beside
from services.results.wire.numbers import (
    encode_difference,
    encode_interval,
    encode_number,
    encode_scalar,
    row,
)


def encode_slices(report: ExperimentReport, metric: Settled) -> Iterator[pb.SliceResults]:
    """Every slice but all units."""
    found = metric.report
    if found.sliced is None:
        return
    for number, one in enumerate(found.slices):
        arms = found.measured.arms[number + 1]
        yield pb.SliceResults(
            dimension=one.dimension,
            value=one.value or "",
            no_value=one.value is None and not one.others,
            other_values=one.others,
            arms=[
                pb.SliceArm(
                    variant=arm.variant,
                    units=int(arms.units[index]),
                    mean=encode_number(arms.value, arms.gap, index),
                )
                for index, arm in enumerate(report.plan.arms)
            ],
            comparisons=[
                _compared(report, metric, number, index)
                for index in range(len(report.plan.treatments))
            ],
        )


def _compared(
    report: ExperimentReport, metric: Settled, number: int, index: int
) -> pb.SliceComparison:
    sliced, level = metric.report.sliced, 1.0 - report.alpha
    assert sliced is not None, "the caller has looked"
    contrast, reading = sliced.contrast, sliced.reading
    rule = without_looks(metric.report.looked.rule)
    dimension = next(one for one in sliced.dimensions if number in one.places)
    shrunken, place = dimension.shrunken, dimension.places.index(number)
    gap = shrunken.gap[index]
    difference = encode_difference(
        row(reading.difference, number), reading.gap[number], index, level
    )
    return pb.SliceComparison(
        variant=report.plan.arms[report.plan.treatments[index]].variant,
        reading=pb.MethodReading(
            method=READING_METHODS[rule.method],
            difference=encode_number(contrast.difference[number], contrast.gap[number], index),
            lift=encode_number(contrast.lift[number], contrast.lift_gap[number], index),
            p_value=encode_number(reading.p_value[number], reading.gap[number], index),
            difference_interval=difference,
            lift_interval=encode_interval(
                row(reading.lift, number), reading.lift_gap[number], index, level
            ),
        ),
        shrunken_difference=encode_number(shrunken.value[index], gap, place),
        shrunken_interval=encode_interval(row(shrunken.interval, index), gap, place, level),
    )


def encode_heterogeneity(report: ExperimentReport, metric: Settled) -> Iterator[pb.Heterogeneity]:
    """A test for each dimension and treatment."""
    if metric.report.sliced is None:
        return
    for dimension in metric.report.sliced.dimensions:
        equal = dimension.equal
        for index, arm in enumerate(report.plan.treatments):
            yield pb.Heterogeneity(
                dimension=dimension.name,
                variant=report.plan.arms[arm].variant,
                chi_square=encode_number(equal.statistic, equal.gap, index),
                degrees_of_freedom=float(equal.dof[index]),
                p_value=encode_number(equal.p_value, equal.gap, index),
                adjusted_p_value=encode_number(dimension.adjusted_p, equal.gap, index),
                i_squared=encode_number(equal.i_squared, equal.gap, index),
            )


def encode_steps(report: ExperimentReport, metric: Settled) -> Iterator[pb.FunnelStep]:
    """The steps of a funnel, with what is left of the units at each."""
    level = 1.0 - report.alpha
    before = [int(units) for units in metric.report.measured.plain.units[0]]
    for step in metric.report.steps:
        units = taken(step)
        yield pb.FunnelStep(
            event_name=step.event_name,
            arms=[
                pb.FunnelArm(
                    variant=arm.variant,
                    units=units[index],
                    reached=encode_number(step.reached.value, step.reached.gap, index),
                    passed=encode_number(step.passed.value, step.passed.gap, index),
                    left=before[index] - units[index],
                )
                for index, arm in enumerate(report.plan.arms)
            ],
            comparisons=[
                _step(report, step.comparison, index, level)
                for index in range(len(report.plan.treatments))
            ],
        )
        before = units


def _step(report: ExperimentReport, beside: Beside, index: int, level: float) -> pb.SliceComparison:
    missing = encode_scalar(None)
    return pb.SliceComparison(
        variant=report.plan.arms[report.plan.treatments[index]].variant,
        reading=encode_beside(beside, index, level),
        shrunken_difference=missing,
        shrunken_interval=pb.Interval(not_estimable=missing.not_estimable, level=level),
    )


def encode_spans(report: ExperimentReport, index: int) -> Iterator[pb.WindowResults]:
    """The spans of days that were asked for of metric number `index`."""
    for one in report.spans[index] if report.spans else ():
        message = pb.WindowResults(first_day=one.span.first_day, last_day=one.span.last_day)
        if isinstance(one.found, Failure):
            message.error.code, message.error.reason = one.found.code, one.found.reason
            message.error.message = one.found.message
            yield message
            continue
        arms, beside = one.found
        for place, arm in enumerate(report.plan.arms):
            mean = encode_number(arms.value, arms.gap, place)
            message.arms.add(variant=arm.variant, units=int(arms.units[place]), mean=mean)
        for place, arm_index in enumerate(report.plan.treatments):
            message.comparisons.add(
                variant=report.plan.arms[arm_index].variant,
                reading=encode_beside(beside, place, 1.0 - report.alpha),
            )
        yield message
