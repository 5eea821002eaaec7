"""From what was seen to what it says: every arm and every comparison of one metric."""

from dataclasses import dataclass

from touchstone_statistics.bayes import Bayes, LiftPrior, Posterior
from touchstone_statistics.best import Best, best_arm
from touchstone_statistics.beta import (
    BetaComparison,
    BetaPosterior,
    compare,
    credible_difference,
)
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.health import SampleRatio
from touchstone_statistics.inference import Fixed, Reading

from services.results.domain.measure import MetricKind
from services.results.domain.metric import Direction, Metric
from services.results.domain.observation import ExperimentPlan, Observation


@dataclass(frozen=True, slots=True)
class Method:
    """How numbers are read: error probability of tests and intervals, prior on the lift."""

    prior: LiftPrior
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class RateComparison:
    """Two uniform Beta priors and the counts; the interval is of the difference of rates."""

    chances: BetaComparison
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class MetricReport:
    """One metric over all arms.

    `sums` and `arms` follow the plan. `treatments` holds the indexes of the arms that are
    compared with the control; every array of the contrast, the reading and the posterior has one
    element for each, in that order, and so has `rates`. `best` follows the plan.
    """

    metric: Metric
    sums: tuple[float, ...]
    arms: Estimate
    best: Best
    treatments: tuple[int, ...]
    contrast: Contrast
    reading: Reading
    posterior: Posterior
    rates: tuple[RateComparison | NotEstimable, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ExperimentReport:
    """What an experiment shows: a function of plan, observation, metrics and method only."""

    plan: ExperimentPlan
    observation: Observation
    metrics: tuple[MetricReport, ...]
    sample_ratio: SampleRatio
    method: Method


def report_metric(
    metric: Metric, index: int, plan: ExperimentPlan, observation: Observation, method: Method
) -> MetricReport:
    """Everything about one metric, whose measure was number `index` of the question."""
    arms = estimate(observation.moments(index)[0], Mean(0))
    control = plan.control_index
    treatments = tuple(arm for arm in range(len(plan.arms)) if arm != control)
    contrast = Contrast(arms[control : control + 1], arms[list(treatments)])
    increase = metric.definition.direction is Direction.INCREASE
    totals = observation.sums[index].totals[0, :, 0]
    return MetricReport(
        metric=metric,
        sums=tuple(totals.tolist()),
        arms=arms,
        best=_in_plan_order(arms, control, method.prior, increase),
        treatments=treatments,
        contrast=contrast,
        reading=Fixed(method.alpha).read(contrast),
        posterior=Bayes(method.prior, method.alpha).read(contrast, increase),
        rates=tuple(
            _rates(metric, observation, index, (control, arm), method.alpha) for arm in treatments
        ),
    )


def _in_plan_order(arms: Estimate, control: int, prior: LiftPrior, increase: bool) -> Best:
    order = [control, *(arm for arm in range(arms.value.size) if arm != control)]
    back = [order.index(arm) for arm in range(arms.value.size)]
    best = best_arm(arms[order], prior, increase)
    return Best(best.probability[back], best.gap[back])


def _rates(
    metric: Metric, observation: Observation, index: int, arms: tuple[int, int], alpha: float
) -> RateComparison | NotEstimable:
    """Beta-Binomial comparison of two arms, the control first."""
    if metric.definition.kind is not MetricKind.PROPORTION:
        return NotEstimable(Gap.NOT_APPLICABLE)
    units = [observation.units[arm] for arm in arms]
    if 0 in units:
        return NotEstimable(Gap.NO_UNITS)
    converted = [observation.sums[index].cells[0][arm].sums[0] for arm in arms]
    control, treatment = (
        BetaPosterior.of(count, total) for count, total in zip(converted, units, strict=True)
    )
    increase = metric.definition.direction is Direction.INCREASE
    low, high = credible_difference(control, treatment, alpha)
    return RateComparison(compare(control, treatment, increase), low, high)
