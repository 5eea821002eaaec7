"""From reports to messages."""

import math

from touchstone.results.v1 import results_pb2
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, NotEstimable
from touchstone_statistics.health import ALERT_BELOW
from touchstone_statistics.interval import Interval, Shape

from services.results.domain.report import ExperimentReport, MetricReport, RateComparison
from services.results.wire.metric_names import KIND_OF
from shared.identity.wire import STITCHING_OF
from shared.resource_names import resource_name

REASON_OF = {
    Gap.NO_UNITS: results_pb2.NOT_ESTIMABLE_NO_UNITS,
    Gap.ONE_UNIT: results_pb2.NOT_ESTIMABLE_ONE_UNIT,
    Gap.ZERO_VARIANCE: results_pb2.NOT_ESTIMABLE_ZERO_VARIANCE,
    Gap.ZERO_CONTROL_MEAN: results_pb2.NOT_ESTIMABLE_ZERO_CONTROL_MEAN,
    Gap.NOT_APPLICABLE: results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE,
}
BETA_PRIOR = "uniform, Beta(1, 1), on the rate of each arm"


def encode_results(
    report: ExperimentReport, project: str, engine_version: str
) -> results_pb2.Results:
    """Everything that an experiment shows."""
    plan, seen = report.plan, report.observation
    return results_pb2.Results(
        experiment=resource_name(project, "experiments", plan.experiment_id),
        arms=[
            results_pb2.ArmSummary(
                variant=arm.variant,
                units=units,
                weight=arm.weight,
                control=arm.variant == plan.control,
            )
            for arm, units in zip(plan.arms, seen.units, strict=True)
        ],
        metrics=[_metric_results(report, metric) for metric in report.metrics],
        sample_ratio=_sample_ratio(report),
        multiply_exposed_units=seen.multiply_exposed_units,
        unknown_variant_exposures=seen.unknown_variant_exposures,
        provenance=_provenance(report, engine_version),
        ambiguous_exposures=seen.links.ambiguous_exposures,
        ambiguous_conversions=seen.links.ambiguous_conversions,
        forced_units=seen.forced_units,
    )


def _provenance(report: ExperimentReport, engine_version: str) -> results_pb2.Provenance:
    cut, links = report.observation.cut, report.observation.links
    message = results_pb2.Provenance(
        config_version=report.plan.config_version,
        watermark=cut.token,
        engine_version=engine_version,
        alpha=report.method.alpha,
        identity_version=links.version,
    )
    if links.version:
        message.stitching = STITCHING_OF[links.stitching]
    if cut.commit_time is not None:
        message.watermark_time.FromDatetime(cut.commit_time)
    return message


def _sample_ratio(report: ExperimentReport) -> results_pb2.SampleRatioCheck:
    check = report.sample_ratio
    return results_pb2.SampleRatioCheck(
        chi_square=_scalar(check.statistic),
        degrees_of_freedom=check.dof,
        p_value=_scalar(check.p_value),
        alert=check.alert,
        alert_level=ALERT_BELOW,
    )


def _metric_results(report: ExperimentReport, metric: MetricReport) -> results_pb2.MetricResults:
    definition = metric.metric.definition
    return results_pb2.MetricResults(
        metric=resource_name(metric.metric.project, "metrics", metric.metric.metric_id),
        metric_version=metric.metric.version,
        kind=KIND_OF[definition.kind],
        arms=[_arm(report, metric, arm) for arm in range(len(report.plan.arms))],
        comparisons=[_comparison(report, metric, i) for i in range(len(metric.treatments))],
    )


def _arm(report: ExperimentReport, metric: MetricReport, arm: int) -> results_pb2.ArmEstimate:
    arms = metric.arms
    return results_pb2.ArmEstimate(
        variant=report.plan.arms[arm].variant,
        units=report.observation.units[arm],
        sum=_scalar(metric.sums[arm]),
        mean=_number(arms.value, arms.gap, arm),
        std_err=_number(arms.std_err, arms.spread_gap, arm),
        variance=_number(arms.variance * arms.units, arms.spread_gap, arm),
        probability_best=_number(metric.best.probability, metric.best.gap, arm),
    )


def _comparison(
    report: ExperimentReport, metric: MetricReport, index: int
) -> results_pb2.Comparison:
    contrast, reading = metric.contrast, metric.reading
    level = 1.0 - report.method.alpha
    rates = metric.rates[index]
    return results_pb2.Comparison(
        variant=report.plan.arms[metric.treatments[index]].variant,
        difference=_number(contrast.difference, contrast.gap, index),
        std_err=_number(contrast.std_err, contrast.spread_gap, index),
        difference_interval=_interval(reading.difference, reading.gap, index, level),
        lift=_number(contrast.lift, contrast.lift_gap, index),
        lift_interval=_interval(reading.lift, reading.lift_gap, index, level),
        p_value=_number(reading.p_value, reading.gap, index),
        degrees_of_freedom=_number(reading.dof, reading.gap, index),
        normal_posterior=_normal(report, metric, index),
        beta_binomial_posterior=None if _not_a_rate(rates) else _beta(rates, level),
    )


def _normal(report: ExperimentReport, metric: MetricReport, index: int) -> results_pb2.Posterior:
    posterior, prior = metric.posterior, report.method.prior
    gap, level = posterior.gap, 1.0 - report.method.alpha
    return results_pb2.Posterior(
        probability_better=_number(posterior.probability_to_beat, gap, index),
        expected_loss=_number(posterior.expected_loss, gap, index),
        credible_interval=_interval(posterior.difference, gap, index, level),
        prior=f"normal on the lift, mean {prior.mean:g}, standard deviation {prior.std_dev:g}",
    )


def _not_a_rate(rates: RateComparison | NotEstimable) -> bool:
    return rates == NotEstimable(Gap.NOT_APPLICABLE)


def _beta(rates: RateComparison | NotEstimable, level: float) -> results_pb2.Posterior:
    if isinstance(rates, NotEstimable):
        missing, reason = _scalar(rates), REASON_OF[rates.gap]
        return results_pb2.Posterior(
            probability_better=missing,
            expected_loss=missing,
            credible_interval=results_pb2.Interval(level=level, not_estimable=reason),
            prior=BETA_PRIOR,
        )
    return results_pb2.Posterior(
        probability_better=_scalar(rates.chances.probability_to_beat),
        expected_loss=_scalar(rates.chances.expected_loss),
        credible_interval=results_pb2.Interval(low=rates.low, high=rates.high, level=level),
        prior=BETA_PRIOR,
    )


def _scalar(number: float | NotEstimable) -> results_pb2.Estimate:
    if isinstance(number, NotEstimable):
        return results_pb2.Estimate(not_estimable=REASON_OF[number.gap])
    if not math.isfinite(number):
        return results_pb2.Estimate(not_estimable=results_pb2.NOT_ESTIMABLE_OVERFLOW)
    return results_pb2.Estimate(value=number)


def _number(values: FloatArray, gaps: GapArray, index: int) -> results_pb2.Estimate:
    gap = Gap(int(gaps[index]))
    return _scalar(float(values[index]) if gap is Gap.NONE else NotEstimable(gap))


def _interval(interval: Interval, gaps: GapArray, index: int, level: float) -> results_pb2.Interval:
    gap = Gap(int(gaps[index]))
    if gap is not Gap.NONE:
        return results_pb2.Interval(level=level, not_estimable=REASON_OF[gap])
    near_zero = results_pb2.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO
    if interval.shape[index] == Shape.EVERYTHING:
        return results_pb2.Interval(
            low_unbounded=True, high_unbounded=True, level=level, not_estimable=near_zero
        )
    low, high = float(interval.low[index]), float(interval.high[index])
    if not (math.isfinite(low) and math.isfinite(high)):
        return results_pb2.Interval(level=level, not_estimable=results_pb2.NOT_ESTIMABLE_OVERFLOW)
    if interval.shape[index] == Shape.OUTSIDE:
        return results_pb2.Interval(
            low=low, high=high, level=level, complement=True, not_estimable=near_zero
        )
    return results_pb2.Interval(low=low, high=high, level=level)
