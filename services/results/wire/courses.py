"""How effects change with the days since the first exposure, as messages."""

from touchstone.results.v1 import results_pb2 as pb
from touchstone_statistics.novelty import Trend

from services.results.domain.reading.novelty import CourseOfEffect
from services.results.domain.reading.report import ExperimentReport, Failure
from services.results.wire.numbers import encode_interval, encode_number

TRENDS = {
    Trend.NONE_SEEN: pb.EFFECT_TREND_NONE_SEEN,
    Trend.FADING: pb.EFFECT_TREND_FADING,
    Trend.GROWING: pb.EFFECT_TREND_GROWING,
    Trend.REVERSING: pb.EFFECT_TREND_REVERSING,
}


def encode_course(report: ExperimentReport, index: int) -> pb.EffectCourse | None:
    """Of metric number `index`; None where nothing was asked for, or it has no course."""
    found = report.courses[index] if report.courses else None
    if found is None:
        return None
    if isinstance(found, Failure):
        return pb.EffectCourse(error=encode_failure(found))
    return pb.EffectCourse(
        units=found.units,
        per_day=found.per_day,
        slopes=[_slope(report, found, place) for place in range(len(report.plan.treatments))],
    )


def encode_failure(found: Failure) -> pb.MetricError:
    """Why something about a metric is not there."""
    return pb.MetricError(code=found.code, reason=found.reason, message=found.message)


def _slope(report: ExperimentReport, found: CourseOfEffect, place: int) -> pb.EffectSlope:
    slope, change = found.slope, found.change
    message = pb.EffectSlope(
        variant=report.plan.arms[report.plan.treatments[place]].variant,
        slope=encode_number(slope.per_day, slope.gap, place),
        slope_interval=encode_interval(slope.interval, slope.gap, place, 1.0 - report.alpha),
        p_value=encode_number(slope.p_value, slope.gap, place),
        first_effect=encode_number(slope.first, slope.gap, place),
        last_effect=encode_number(slope.last, slope.gap, place),
        equal_p_value=encode_number(change.p_value, change.gap, place),
    )
    if not slope.gap[place]:
        message.trend = TRENDS[Trend(int(slope.trend[place]))]
    return message
