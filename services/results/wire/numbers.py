"""Numbers and intervals, or the reasons why there are none."""

import math

import numpy as np
from touchstone.results.v1 import results_pb2 as pb
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, NotEstimable
from touchstone_statistics.interval import Interval, Shape

REASON_OF = {
    Gap.NO_UNITS: pb.NOT_ESTIMABLE_NO_UNITS,
    Gap.ONE_UNIT: pb.NOT_ESTIMABLE_ONE_UNIT,
    Gap.ZERO_VARIANCE: pb.NOT_ESTIMABLE_ZERO_VARIANCE,
    Gap.ZERO_CONTROL_MEAN: pb.NOT_ESTIMABLE_ZERO_CONTROL_MEAN,
    Gap.NOT_APPLICABLE: pb.NOT_ESTIMABLE_NOT_APPLICABLE,
    Gap.ZERO_DENOMINATOR: pb.NOT_ESTIMABLE_ZERO_DENOMINATOR,
    Gap.TOO_FEW_UNITS: pb.NOT_ESTIMABLE_TOO_FEW_UNITS,
    Gap.TOO_FEW_CLUSTERS: pb.NOT_ESTIMABLE_TOO_FEW_CLUSTERS,
}


def encode_scalar(number: float | NotEstimable | None) -> pb.Estimate:
    """A number by itself; None does not apply."""
    if number is None:
        return pb.Estimate(not_estimable=pb.NOT_ESTIMABLE_NOT_APPLICABLE)
    if isinstance(number, NotEstimable):
        return pb.Estimate(not_estimable=REASON_OF[number.gap])
    if not math.isfinite(number):
        return pb.Estimate(not_estimable=pb.NOT_ESTIMABLE_OVERFLOW)
    return pb.Estimate(value=number)


def encode_number(values: FloatArray, gaps: GapArray, index: int) -> pb.Estimate:
    """One element of an array of results; arrays of one element serve every index."""
    gap = Gap(int(gaps[index]))
    if gap is not Gap.NONE:
        return encode_scalar(NotEstimable(gap))
    return encode_scalar(float(values[index]))


def encode_interval(interval: Interval, gaps: GapArray, index: int, level: float) -> pb.Interval:
    """One interval, with open ends as such; none that is unbounded on both sides by itself."""
    gap = Gap(int(gaps[index]))
    if gap is not Gap.NONE:
        return pb.Interval(level=level, not_estimable=REASON_OF[gap])
    return _shaped(interval, index, level, pb.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO)


def row(interval: Interval, index: int) -> Interval:
    """The intervals of one row of a table of intervals."""
    return Interval(interval.low[index], interval.high[index], interval.shape[index])


def encode_difference(interval: Interval, gaps: GapArray, index: int, level: float) -> pb.Interval:
    """The interval of a difference: without ends only where a rule allows no conclusion yet."""
    gap = Gap(int(gaps[index]))
    if gap is not Gap.NONE:
        return pb.Interval(level=level, not_estimable=REASON_OF[gap])
    return _shaped(interval, index, level, pb.NOT_ESTIMABLE_NO_LOOK_YET)


def _shaped(
    interval: Interval, index: int, level: float, reason: pb.NotEstimable.ValueType
) -> pb.Interval:
    low, high = float(interval.low[index]), float(interval.high[index])
    if interval.shape[index] == Shape.EVERYTHING:
        return pb.Interval(
            low_unbounded=True, high_unbounded=True, level=level, not_estimable=reason
        )
    if np.isnan(low) or np.isnan(high) or (np.isinf(low) and np.isinf(high)):
        return pb.Interval(level=level, not_estimable=pb.NOT_ESTIMABLE_OVERFLOW)
    if interval.shape[index] == Shape.OUTSIDE:
        return pb.Interval(low=low, high=high, level=level, complement=True, not_estimable=reason)
    made = pb.Interval(level=level)
    if math.isinf(low):
        made.low_unbounded = True
    else:
        made.low = low
    if math.isinf(high):
        made.high_unbounded = True
    else:
        made.high = high
    return made
