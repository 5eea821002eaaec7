"""From reports to messages."""

import numpy as np
import scipy
from touchstone.results.v1 import results_pb2 as pb
from touchstone.results.v1 import results_service_pb2 as service_pb
from touchstone_statistics.decide import Code, Decision, Verdict
from touchstone_statistics.health import ALERT_BELOW
from touchstone_statistics.peeking import Peeking, peeking_of
from touchstone_statistics.peeking import Rule as PeekingRule

from services.results.application.watch_results import Told
from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.reading.provenance import inputs_digest, question_digest
from services.results.domain.reading.report import ExperimentReport, Failure, Settled
from services.results.wire.analysis_plans import METHODS
from services.results.wire.choice import encode_choice
from services.results.wire.clusters import encode_clusters, variance_of_units
from services.results.wire.comparisons import encode_comparison, encode_revenue
from services.results.wire.courses import encode_course, encode_failure
from services.results.wire.metric_names import KIND_OF, ROLES
from services.results.wire.numbers import encode_number, encode_scalar
from services.results.wire.parts import (
    encode_heterogeneity,
    encode_slices,
    encode_spans,
    encode_steps,
)
from services.results.wire.removed import encode_removed
from shared.identity.wire import STITCHING_OF
from shared.resource_names import resource_name

METHOD_OF = {method: number for number, method in METHODS.items()}
ROLE_OF = {role: number for number, role in ROLES.items() if number}
VERDICTS = {
    Verdict.SHIP: pb.VERDICT_SHIP,
    Verdict.KEEP_RUNNING: pb.VERDICT_KEEP_RUNNING,
    Verdict.STOP: pb.VERDICT_STOP,
    Verdict.ROLL_BACK: pb.VERDICT_ROLL_BACK,
    Verdict.CANNOT_TELL: pb.VERDICT_CANNOT_TELL,
}
# Each reason with its words; {} is the metric.
REASONS: dict[Code, tuple[pb.DecisionReasonCode.ValueType, str]] = {
    Code.SUPERIOR: (pb.DECISION_REASON_CODE_SUPERIOR, "{} is better"),
    Code.NON_INFERIOR: (pb.DECISION_REASON_CODE_NON_INFERIOR, "{} is not worse by its margin"),
    Code.DETERIORATED: (pb.DECISION_REASON_CODE_DETERIORATED, "{} is worse"),
    Code.NOT_SUPERIOR: (pb.DECISION_REASON_CODE_NOT_SUPERIOR, "{} is not found to be better"),
    Code.NOT_NON_INFERIOR: (
        pb.DECISION_REASON_CODE_NOT_NON_INFERIOR,
        "{} may be worse by its margin",
    ),
    Code.FUTILE: (pb.DECISION_REASON_CODE_FUTILE, "the planned effect on {} is out of reach"),
    Code.NOT_AT_HORIZON: (
        pb.DECISION_REASON_CODE_NOT_AT_HORIZON,
        "{} may be judged at the planned end only",
    ),
    Code.UNDERPOWERED: (
        pb.DECISION_REASON_CODE_UNDERPOWERED,
        "{} has too few units to find the planned effect",
    ),
    Code.METRIC_MISSING: (pb.DECISION_REASON_CODE_METRIC_MISSING, "{} has no result"),
    Code.NO_SUCCESS_METRIC: (
        pb.DECISION_REASON_CODE_NO_SUCCESS_METRIC,
        "no metric is primary: make one, or give it that role in the analysis plan",
    ),
    Code.SAMPLE_RATIO_MISMATCH: (
        pb.DECISION_REASON_CODE_SAMPLE_RATIO_MISMATCH,
        "the arms do not have the sizes that their weights promise: find the cause first",
    ),
    Code.QUALITY_CHECK_FAILED: (
        pb.DECISION_REASON_CODE_QUALITY_CHECK_FAILED,
        "a check of the data failed: {}",
    ),
}
ALWAYS_VALID = "its p-values and intervals hold however often one looks"
LEANING = (
    "up to all comparisons without an effect: a prior whose mean is not 0 may decide before there "
    "is data"
)
CHANCE_THRESHOLD, LOSS_THRESHOLD = 0.05, 0.0025


def encode_results(report: ExperimentReport, project: str, engine_version: str) -> pb.Results:
    """Everything that an experiment shows."""
    plan, seen = report.plan, report.observation
    return pb.Results(
        experiment=resource_name(project, "experiments", plan.experiment_id),
        arms=[
            pb.ArmSummary(
                variant=arm.variant,
                units=units,
                weight=arm.weight,
                control=arm.variant == plan.control,
            )
            for arm, units in zip(plan.arms, seen.units, strict=True)
        ],
        metrics=[_metric_results(report, index) for index in range(len(report.metrics))],
        sample_ratio=_sample_ratio(report),
        multiply_exposed_units=seen.multiply_exposed_units,
        unknown_variant_exposures=seen.unknown_variant_exposures,
        provenance=_provenance(report, engine_version),
        ambiguous_exposures=seen.links.ambiguous_exposures,
        ambiguous_conversions=seen.links.ambiguous_conversions,
        forced_units=seen.forced_units,
        decisions=[_decision(decision, project) for decision in report.decisions],
        peeking=_peeking(report),
        method=METHOD_OF[report.analysis.plan.rule],
        method_choice=encode_choice(report.choice),
        unclustered_units=seen.unclustered,
        removed_since=encode_removed(report.removed),
    )


def encode_told(told: Told, project: str, engine_version: str) -> service_pb.WatchResultsResponse:
    """Results of a stream; a single metric says nothing of corrections, which need all."""
    results = encode_results(told.report, project, engine_version)
    if not told.complete:
        for metric in results.metrics:
            for comparison in metric.comparisons:
                comparison.ClearField("adjusted")
                comparison.ClearField("selected")
    return service_pb.WatchResultsResponse(results=results, complete=told.complete)


def _provenance(report: ExperimentReport, engine_version: str) -> pb.Provenance:
    cut, links = report.observation.cut, report.observation.links
    message = pb.Provenance(
        config_version=report.plan.config_version,
        watermark=cut.token,
        engine_version=engine_version,
        alpha=report.alpha,
        identity_version=links.version,
        plan_version=report.analysis.version,
        question_digest=question_digest(report),
        inputs_digest=inputs_digest(report),
        libraries=[f"numpy {np.__version__}", f"scipy {scipy.__version__}"],
    )
    if links.version:
        message.stitching = STITCHING_OF[links.stitching]
    if cut.commit_time is not None:
        message.watermark_time.FromDatetime(cut.commit_time)
    return message


def _sample_ratio(report: ExperimentReport) -> pb.SampleRatioCheck:
    check = report.sample_ratio
    return pb.SampleRatioCheck(
        chi_square=encode_scalar(check.statistic),
        degrees_of_freedom=check.dof,
        p_value=encode_scalar(check.p_value),
        alert=check.alert,
        alert_level=ALERT_BELOW,
    )


def _metric_results(report: ExperimentReport, index: int) -> pb.MetricResults:
    asked, found = report.metrics[index]
    metric = asked.metric
    message = pb.MetricResults(
        metric=resource_name(metric.project, "metrics", metric.metric_id),
        metric_version=metric.version,
        kind=KIND_OF[metric.definition.kind],
        role=ROLE_OF[asked.role],
        margin=asked.margin,
        windows=encode_spans(report, index),
        course=encode_course(report, index),
    )
    if isinstance(found, Failure):
        message.error.CopyFrom(encode_failure(found))
        return message
    message.arms.extend(_arm(report, found, arm) for arm in range(len(report.plan.arms)))
    treatments = range(len(report.plan.treatments))
    message.comparisons.extend(encode_comparison(report, found, place) for place in treatments)
    if report.revenues:
        _add_revenue(report, index, message)
    message.incomplete_units.extend(found.report.incomplete)
    message.slices.extend(encode_slices(report, found))
    message.heterogeneity.extend(encode_heterogeneity(report, found))
    message.steps.extend(encode_steps(report, found))
    if found.report.measured.clusters is not None:
        message.clusters.CopyFrom(encode_clusters(found.report.measured))
    adjusted = found.report.measured.adjusted
    if adjusted is not None:
        message.covariate_adjustment.r_squared = float(adjusted.r_squared[0])
        message.covariate_adjustment.slopes.extend(adjusted.theta[0, 0].tolist())
        message.covariate_adjustment.dropped = int((~adjusted.used[0]).sum())
    return message


def _add_revenue(report: ExperimentReport, index: int, message: pb.MetricResults) -> None:
    found = report.revenues[index]
    if isinstance(found, Failure):
        message.hurdle_error.CopyFrom(encode_failure(found))
        return
    for place, comparison in enumerate(message.comparisons):
        comparison.hurdle_posterior.CopyFrom(encode_revenue(report, index, place))


def _arm(report: ExperimentReport, metric: Settled, arm: int) -> pb.ArmEstimate:
    found = metric.report
    arms, best, totals = found.measured.arms[0], found.beliefs.best, found.measured.totals
    return pb.ArmEstimate(
        variant=report.plan.arms[arm].variant,
        units=int(arms.units[arm]),
        sum=encode_scalar(None if totals is None else float(totals[0, arm])),
        mean=encode_number(arms.value, arms.gap, arm),
        std_err=encode_number(arms.std_err, arms.spread_gap, arm),
        variance=variance_of_units(found.measured, arm),
        probability_best=encode_number(best.probability, best.gap, arm),
    )


def _decision(decision: Decision, project: str) -> pb.Decision:
    message = pb.Decision(variant=decision.treatment, verdict=VERDICTS[decision.verdict])
    for reason in decision.reasons:
        code, words = REASONS[reason.code]
        check = reason.code is Code.QUALITY_CHECK_FAILED
        named = reason.metric if check else resource_name(project, "metrics", reason.metric)
        message.reasons.add(
            code=code,
            metric=named if reason.metric else "",
            message=words.format(reason.metric),
        )
    return message


def _peeking(report: ExperimentReport) -> list[pb.PeekingStatement]:
    """Of the rule of record, and of two that people apply to posteriors: by the prior under which
    they err most.
    """
    read = [one.report.beliefs.prior for _, one in report.metrics if isinstance(one, Settled)]
    priors = [prior.lift for prior in read] or [report.prior.lift]
    spread = max(prior.std_dev for prior in priors)
    chance = peeking_of(PeekingRule.CHANCE, CHANCE_THRESHOLD, spread)
    loss = peeking_of(PeekingRule.LOSS, LOSS_THRESHOLD, spread)
    leaning = any(prior.mean for prior in priors)
    return [
        _of_record(report.analysis.plan.rule, report.alpha),
        _of_belief("probability to beat above 95% or below 5%", chance, leaning),
        _of_belief("expected loss below 0.25% of the control", loss, leaning),
    ]


def _of_record(rule: AnalysisMethod, alpha: float) -> pb.PeekingStatement:
    if rule is not AnalysisMethod.FIXED:
        return pb.PeekingStatement(
            rule=f"p-value below {alpha:g} by the method of record",
            false_decisions=alpha,
            statement=f"at most {alpha:.1%} of comparisons without an effect: {ALWAYS_VALID}",
        )
    found = peeking_of(PeekingRule.SIGNIFICANT, 0.05, np.inf)
    return pb.PeekingStatement(
        rule="p-value below 0.05 by the method of record",
        false_decisions=found.daily_looks,
        statement=_words(found) + "; the method FIXED knows one look, at the planned end",
    )


def _of_belief(rule: str, found: Peeking, leaning: bool) -> pb.PeekingStatement:
    if leaning:
        return pb.PeekingStatement(rule=rule, false_decisions=1.0, statement=LEANING)
    return pb.PeekingStatement(
        rule=rule, false_decisions=found.daily_looks, statement=_words(found)
    )


def _words(found: Peeking) -> str:
    return (
        f"of comparisons without an effect {found.one_look:.1%} at one look at the end, "
        f"{found.daily_looks:.1%} at any of 28 daily looks"
    )
