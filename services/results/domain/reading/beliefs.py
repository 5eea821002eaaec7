"""What priors and the data say together of one metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.bayes import Bayes, LiftPrior, Posterior, Region
from touchstone_statistics.best import Best, best_arm
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gamma import GammaPosterior
from touchstone_statistics.gaps import FloatArray, Gap, GapArray
from touchstone_statistics.interval import Interval
from touchstone_statistics.rates import RateReading, read_rates
from touchstone_statistics.versus import (
    Comparison,
    Pairs,
    credible_difference,
    credible_lift,
    within_lift,
)

from services.results.domain.measure import Aggregation, MetricKind
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.measured import Measured


@dataclass(frozen=True, slots=True)
class Prior:
    """The belief about lifts before the data, and where it comes from."""

    lift: LiftPrior
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class CountedBelief:
    """The exact comparison of counts under a conjugate prior; one axis of treatments.

    `equivalent` is the chance of a lift in the region of practical equivalence, None without one.
    """

    chances: Comparison
    difference: Interval
    lift: Interval
    equivalent: FloatArray | None
    gap: GapArray


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """Posteriors of one metric; `rates` for shares of units, `counts` for numbers of events."""

    prior: Prior
    normal: Posterior
    best: Best
    rates: CountedBelief | None
    counts: CountedBelief | None


@dataclass(frozen=True, slots=True)
class Believing:
    """How posteriors are read: the prior on lifts, credibility 1 - alpha, and the largest lift that
    is practically none (0: no such region).
    """

    prior: Prior
    alpha: float
    equivalence: float


def believe(
    found: Measured,
    contrast: Contrast,
    plan: ExperimentPlan,
    how: Believing,
    increase: bool,
) -> Beliefs:
    """What is believed of all units, but for rates, which are read for all metrics at once;
    `contrast` has one axis of treatments.
    """
    region = Region(-how.equivalence, how.equivalence) if how.equivalence else None
    return Beliefs(
        prior=how.prior,
        normal=Bayes(how.prior.lift, how.alpha, region).read(contrast, increase),
        best=_in_plan_order(found.arms[0], plan.control_index, how.prior.lift, increase),
        rates=None,
        counts=_counts(found, plan, how, increase),
    )


def _in_plan_order(arms: Estimate, control: int, prior: LiftPrior, increase: bool) -> Best:
    order = [control, *(arm for arm in range(arms.value.size) if arm != control)]
    back = [order.index(arm) for arm in range(arms.value.size)]
    best = best_arm(arms[order], prior, increase)
    return Best(best.probability[back], best.gap[back])


def is_share(found: Measured) -> bool:
    """Whether each unit counts 0 or 1, and by itself."""
    shares = (MetricKind.PROPORTION, MetricKind.FUNNEL, MetricKind.RETENTION)
    return found.measure.kind in shares and found.clusters is None


def is_count(found: Measured) -> bool:
    """Whether each unit has a whole number of events, and counts by itself."""
    measure = found.measure
    if found.clusters is not None:
        return False
    counting = measure.aggregation in (Aggregation.COUNT, Aggregation.DISTINCT_DAYS)
    return measure.kind is MetricKind.MEAN and counting and measure.cap is None


def read_all_rates(
    found: Sequence[tuple[Measured, bool]], plan: ExperimentPlan, how: Believing
) -> list[CountedBelief | None]:
    """Uniform Beta priors on the rate of each arm (Bayes 1763), for all metrics at once; None for
    a metric that is no share of units. Each comes with whether more of it is better.
    """
    made: list[CountedBelief | None] = [None] * len(found)
    control, treatments = [plan.control_index], list(plan.treatments)
    region = Region(-how.equivalence, how.equivalence) if how.equivalence else None
    for increase in (True, False):
        places = [i for i, (one, up) in enumerate(found) if up is increase and is_share(one)]
        if not places:
            continue
        totals = [_totals(found[place][0], plan) for place in places]
        units = np.stack([part[1] for part in totals])
        counts = np.minimum(np.stack([part[0] for part in totals]), units)
        arms = BetaPosterior.of(counts, units)
        read = read_rates(arms[:, control], arms[:, treatments], how.alpha, increase, region)
        for row, place in enumerate(places):
            made[place] = _row(read, row, totals[row][2])
    return made


def _row(read: RateReading, row: int, gap: GapArray) -> CountedBelief:
    """One metric of many."""
    comparison, region = read.comparison, read.within_region
    return CountedBelief(
        chances=Comparison(
            comparison.probability_to_beat[row],
            comparison.expected_loss[row],
            comparison.loss_of_control[row],
        ),
        difference=_interval_row(read.difference, row),
        lift=_interval_row(read.lift, row),
        equivalent=None if region is None else region[row],
        gap=gap,
    )


def _interval_row(interval: Interval, row: int) -> Interval:
    return Interval(interval.low[row], interval.high[row], interval.shape[row])


def _counts(
    found: Measured, plan: ExperimentPlan, how: Believing, increase: bool
) -> CountedBelief | None:
    """Nearly flat Gamma priors on the events a unit, for counts that look like Poisson."""
    if not is_count(found):
        return None
    counts, units, gap = _totals(found, plan)
    return _compared(GammaPosterior.of(counts, units), plan, how, increase, gap)


def _totals(found: Measured, plan: ExperimentPlan) -> tuple[FloatArray, FloatArray, GapArray]:
    """Events and units of each arm, and for each treatment why it cannot be compared."""
    units = found.plain.units[0]
    counts = np.rint(found.plain.value[0] * units)
    empty = units < 1
    none = empty[list(plan.treatments)] | empty[plan.control_index]
    return counts, units, np.where(none, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)


def _compared(
    posterior: GammaPosterior,
    plan: ExperimentPlan,
    how: Believing,
    increase: bool,
    gap: GapArray,
) -> CountedBelief:
    control, treatments = [plan.control_index], list(plan.treatments)
    pairs = Pairs.of(posterior[control], posterior[treatments])
    region = how.equivalence
    return CountedBelief(
        chances=pairs.compare(increase),
        difference=credible_difference(pairs, how.alpha),
        lift=credible_lift(pairs, how.alpha),
        equivalent=within_lift(pairs, -region, region) if region else None,
        gap=gap,
    )
