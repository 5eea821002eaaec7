"""What priors and the data say together of one metric."""

from collections.abc import Hashable, Sequence
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
from touchstone_statistics.versus import Comparison

from services.results.domain.measure import Aggregation, MetricKind
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.joining import concatenated, pieces
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


@dataclass(frozen=True, slots=True, eq=False)
class ToBelieve:
    """What is believed of all units; `contrast` has one axis of treatments."""

    found: Measured
    contrast: Contrast
    plan: ExperimentPlan
    how: Believing
    increase: bool

    @property
    def kind(self) -> Hashable:
        """See Wanted."""
        shown = (is_share(self.found), is_count(self.found), self.contrast.freedom is not None)
        return (ToBelieve, self.plan, self.how, self.increase, *shown)

    @staticmethod
    def answers(alike: Sequence["ToBelieve"]) -> list[Beliefs]:
        """See Wanted."""
        first, found = alike[0], [one.found for one in alike]
        how, plan, increase = first.how, first.plan, first.increase
        region = Region(-how.equivalence, how.equivalence) if how.equivalence else None
        whole = concatenated([one.contrast for one in alike])
        normal = Bayes(how.prior.lift, how.alpha, region).read(whole, increase)
        best = _in_plan_order([one.arms[0] for one in found], plan, how.prior.lift, increase)
        counted = _counted(found, plan, how, increase)
        none = [None] * len(alike)
        return [
            Beliefs(how.prior, posterior, chances, rates, counts)
            for posterior, chances, rates, counts in zip(
                pieces(normal, [len(plan.treatments)] * len(alike)),
                best,
                counted if is_share(found[0]) else none,
                counted if is_count(found[0]) else none,
                strict=True,
            )
        ]


def _in_plan_order(
    arms: Sequence[Estimate], plan: ExperimentPlan, prior: LiftPrior, increase: bool
) -> list[Best]:
    order = [plan.control_index, *plan.treatments]
    back = np.argsort(order)
    best = best_arm(_stacked([one[order] for one in arms]), prior, increase)
    rows = zip(best.probability[:, back], best.gap[:, back], strict=True)
    return [Best(probability, gap) for probability, gap in rows]


def _stacked(arms: Sequence[Estimate]) -> Estimate:
    """Metrics as rows; degrees of freedom are not asked for."""
    return Estimate(
        value=np.stack([one.value for one in arms]),
        variance=np.stack([one.variance for one in arms]),
        units=np.stack([one.units for one in arms]),
        gap=np.stack([one.gap for one in arms]),
        spread_gap=np.stack([one.spread_gap for one in arms]),
    )


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


def _counted(
    found: Sequence[Measured], plan: ExperimentPlan, how: Believing, increase: bool
) -> list[CountedBelief] | list[None]:
    """Of metrics of one kind: uniform Beta priors on shares of units (Bayes 1763), nearly flat
    Gamma priors on events a unit, for counts that look like Poisson; None for other metrics.
    """
    if not (is_share(found[0]) or is_count(found[0])):
        return [None] * len(found)
    totals = [_totals(one, plan) for one in found]
    counts, units = (np.stack([part[n] for part in totals]) for n in (0, 1))
    control, treatments = [plan.control_index], list(plan.treatments)
    region = Region(-how.equivalence, how.equivalence) if how.equivalence else None
    made: BetaPosterior | GammaPosterior = GammaPosterior.of(counts, units)
    if is_share(found[0]):
        made = BetaPosterior.of(np.minimum(counts, units), units)
    read = read_rates(made[:, control], made[:, treatments], how.alpha, increase, region)
    return [_row(read, row, total[2]) for row, total in enumerate(totals)]


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


def _totals(found: Measured, plan: ExperimentPlan) -> tuple[FloatArray, FloatArray, GapArray]:
    """Events and units of each arm, and for each treatment why it cannot be compared."""
    units = found.plain.units[0]
    counts = np.rint(found.plain.value[0] * units)
    empty = units < 1
    none = empty[list(plan.treatments)] | empty[plan.control_index]
    return counts, units, np.where(none, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
