"""What is believed of revenue a unit: how many buy, and how much those spend."""

from dataclasses import replace

import numpy as np
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.hurdle import HurdlePosterior
from touchstone_statistics.interval import Interval
from touchstone_statistics.versus import (
    Comparison,
    Pairs,
    credible_difference,
    credible_lift,
    within_lift,
)

from services.results.domain.exact import Cell, Sums
from services.results.domain.measure import Aggregation, Measure, MetricKind
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.beliefs import Believing, CountedBelief


def revenue_measure(measure: Measure) -> Measure | None:
    """How many units buy, and the logarithms of what they spend; None for a metric that is not the
    sum of values of a unit, or that has a cap: what is above a cap is not lognormal.
    """
    summed = measure.kind is MetricKind.MEAN and measure.aggregation is Aggregation.SUM
    if not summed or measure.cap is not None:
        return None
    return replace(measure, lookback=None, covariates=(), logs=True)


def read_revenue(
    index: int, seen: Observation, plan: ExperimentPlan, how: Believing, increase: bool
) -> CountedBelief:
    """The mean of a unit, if amounts are lognormal: a Beta posterior of the share that buys, and a
    normal-inverse-gamma one of the logarithms (Aitchison 1955; Gelman et al. 2013, section 3.3).

    NOT_APPLICABLE where a unit has less than nothing, or units come in clusters.
    """
    sums = seen.sums[index]
    cells = sums.cells[0]
    units = np.array([cell.units for cell in cells], dtype=np.float64)
    buyers = np.array([cell.sums[0] for cell in cells], dtype=np.float64)
    below = any(cell.sums[1] for cell in cells) or bool(seen.clusters)
    posterior, gap = HurdlePosterior.of(buyers, units, _logs(sums))
    if below:
        gap = np.full(gap.shape, Gap.NOT_APPLICABLE, dtype=np.uint8)
    control, treatments = [plan.control_index], list(plan.treatments)
    gaps = first_gap(gap[control], gap[treatments])
    if gaps.all():
        return _nothing(gaps)
    pairs = Pairs.of(posterior[control], posterior[treatments])
    region = how.equivalence
    return CountedBelief(
        chances=pairs.compare(increase),
        difference=credible_difference(pairs, how.alpha),
        lift=credible_lift(pairs, how.alpha),
        equivalent=within_lift(pairs, -region, region) if region else None,
        gap=gaps,
    )


def not_revenue(plan: ExperimentPlan) -> CountedBelief:
    """Of a metric that is no revenue."""
    return _nothing(np.full(len(plan.treatments), Gap.NOT_APPLICABLE, dtype=np.uint8))


def _nothing(gaps: GapArray) -> CountedBelief:
    none: FloatArray = np.zeros(gaps.shape)
    interval = Interval(none, none, np.zeros(gaps.shape, dtype=np.uint8))
    return CountedBelief(Comparison(none, none, none), interval, interval, None, gaps)


def _logs(sums: Sums) -> Estimate:
    """The mean logarithm over those who buy: the others' logarithms are counted as 0, and so are
    in neither of its sums.
    """
    # Products are the upper triangle row by row: that of column 2 with itself.
    squared = 2 * len(sums.exponents) - 1
    cells = tuple(
        Cell(cell.sums[0], (cell.sums[2],), (cell.products[squared],)) for cell in sums.cells[0]
    )
    return estimate(Sums((sums.exponents[2],), (cells,)).moments[0], Mean(0))
