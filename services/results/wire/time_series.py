"""Results by day as a message."""

from touchstone.results.v1 import results_pb2
from touchstone.results.v1 import time_series_pb2 as pb

from services.results.application.get_time_series import Courses
from services.results.domain.reading.days import Course
from services.results.domain.reading.report import Failure
from services.results.wire.comparisons import READING_METHODS
from services.results.wire.numbers import (
    encode_difference,
    encode_interval,
    encode_number,
    encode_scalar,
    row,
)
from shared.resource_names import resource_name


def encode_time_series(found: Courses, project: str) -> pb.TimeSeries:
    """Every metric at the end of every day."""
    message = pb.TimeSeries(
        experiment=resource_name(project, "experiments", found.plan.experiment_id),
        variants=[arm.variant for arm in found.plan.arms],
        watermark=found.series.cut.token,
    )
    for asked, course in found.metrics:
        made = message.metrics.add(metric=resource_name(project, "metrics", asked.metric.metric_id))
        if isinstance(course, Failure):
            made.error.code, made.error.reason = course.code, course.reason
            made.error.message = course.message
            continue
        made.days.extend(_day(found, course, place) for place in range(len(found.series.days)))
    return message


def _day(found: Courses, course: Course, place: int) -> pb.DayResults:
    day = found.series.days[place]
    before = found.series.days[place - 1].units if place else (0,) * len(day.units)
    arms = course.found.arms
    return pb.DayResults(
        day=day.day.isoformat(),
        arms=[
            pb.DayArm(
                units=int(arms.units[place, arm]),
                mean=encode_number(arms.value[place], arms.gap[place], arm),
                new_units=day.units[arm] - before[arm],
                added=encode_scalar(float(course.added[place, arm])),
            )
            for arm in range(len(found.plan.arms))
        ],
        comparisons=[
            pb.DayComparison(
                variant=found.plan.arms[arm].variant,
                reading=_reading(course, place, index, 1.0 - found.alpha),
            )
            for index, arm in enumerate(found.plan.treatments)
        ],
    )


def _reading(course: Course, place: int, index: int, level: float) -> results_pb2.MethodReading:
    contrast, reading = course.contrast, course.reading
    gap = reading.gap[place]
    return results_pb2.MethodReading(
        method=READING_METHODS[course.rule.method],
        difference=encode_number(contrast.difference[place], contrast.gap[place], index),
        lift=encode_number(contrast.lift[place], contrast.lift_gap[place], index),
        p_value=encode_number(reading.p_value[place], gap, index),
        difference_interval=encode_difference(row(reading.difference, place), gap, index, level),
        lift_interval=encode_interval(
            row(reading.lift, place), reading.lift_gap[place], index, level
        ),
    )
