"""Comparisons of treatments with the control as messages."""

from touchstone.results.v1 import results_pb2 as pb
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.inference import Reading
from touchstone_statistics.selected import corrected as corrected_for_choice

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.reading.beliefs import Beliefs, CountedBelief
from services.results.domain.reading.looking import Looked, running_p_value
from services.results.domain.reading.report import (
    Beside,
    ExperimentReport,
    Failure,
    MetricReport,
    Settled,
)
from services.results.wire.analysis_plans import CORRECTIONS
from services.results.wire.clusters import encode_windows
from services.results.wire.numbers import (
    encode_difference,
    encode_interval,
    encode_number,
    encode_scalar,
)
from shared.lake.watermark import ConsistencyToken

READING_METHODS = {
    AnalysisMethod.FIXED: pb.READING_METHOD_FIXED,
    AnalysisMethod.GROUP_SEQUENTIAL: pb.READING_METHOD_GROUP_SEQUENTIAL,
    AnalysisMethod.ANYTIME: pb.READING_METHOD_ANYTIME,
    AnalysisMethod.HYBRID: pb.READING_METHOD_HYBRID,
    None: pb.READING_METHOD_SCORE,
}
HURDLE_PRIOR = (
    "uniform, Beta(1, 1), on the share of buyers; Jeffreys' on the mean and the variance of the "
    "logarithm of what they spend"
)
CORRECTION_OF = {correction: number for number, correction in CORRECTIONS.items()}
BETA_PRIOR = "uniform, Beta(1, 1), on the rate of each arm"
GAMMA_PRIOR = "Gamma of one event in a hundredth of a unit on the events a unit of each arm"


def encode_comparison(report: ExperimentReport, metric: Settled, index: int) -> pb.Comparison:
    """Treatment number `index` against the control, read in every way."""
    found, level = metric.report, 1.0 - report.alpha
    contrast, looked, reading = found.contrast, found.looked, found.looked.reading
    message = pb.Comparison(
        variant=report.plan.arms[report.plan.treatments[index]].variant,
        difference=encode_number(contrast.difference, contrast.gap, index),
        std_err=encode_number(contrast.std_err, contrast.spread_gap, index),
        difference_interval=encode_difference(reading.difference, reading.gap, index, level),
        lift=encode_number(contrast.lift, contrast.lift_gap, index),
        lift_interval=_lift(reading, index, level),
        p_value=encode_number(reading.p_value, reading.gap, index),
        degrees_of_freedom=encode_number(reading.dof, reading.gap, index),
        normal_posterior=_normal(found.beliefs, index, level),
        beta_binomial_posterior=_counted(found.beliefs.rates, index, level, BETA_PRIOR),
        gamma_poisson_posterior=_counted(found.beliefs.counts, index, level, GAMMA_PRIOR),
        adjusted=_adjusted(metric, index),
        readings=[encode_beside(one, index, level) for one in found.beside],
        non_inferiority=_non_inferiority(found, index, report.alpha),
    )
    if looked.rule.takes_looks:
        message.look.CopyFrom(_look(looked, index))
        message.running_p_value.CopyFrom(encode_scalar(_running(looked, index)))
    if found.unadjusted is not None:
        message.unadjusted.CopyFrom(encode_beside(found.unadjusted, index, level))
    if found.uncapped is not None:
        message.uncapped.CopyFrom(encode_beside(found.uncapped, index, level))
    if found.windows:
        message.switchback.CopyFrom(encode_windows(found.windows[index], level))
    if metric.corrected.rejected[index]:
        message.selected.CopyFrom(_selected(metric, index, report.alpha))
    return message


def _selected(metric: Settled, index: int, alpha: float) -> pb.SelectedEffect:
    """Of the data of the look, beyond the critical value that the correction asks for."""
    looked, critical = metric.report.looked, metric.adjusted.critical
    assert critical is not None, "every rule of record has one"
    found = corrected_for_choice(looked.contrast, critical, alpha)
    return pb.SelectedEffect(
        method=pb.SELECTION_METHOD_CONDITIONAL,
        threshold=float(critical[index]),
        difference=encode_number(found.difference, found.gap, index),
        difference_interval=encode_difference(
            found.difference_interval, found.gap, index, 1.0 - alpha
        ),
        lift=encode_number(found.lift, found.lift_gap, index),
        lift_interval=encode_interval(found.lift_interval, found.lift_gap, index, 1.0 - alpha),
    )


def encode_revenue(report: ExperimentReport, metric: int, index: int) -> pb.Posterior:
    """What a share of buyers and their lognormal amounts say, where that was answered."""
    belief = report.revenues[metric]
    assert belief is not None, "the caller has looked"
    assert not isinstance(belief, Failure), "the same"
    made = _counted(belief, index, 1.0 - report.alpha, HURDLE_PRIOR)
    assert made is not None, "there is a belief"
    return made


def encode_beside(one: Beside, index: int, level: float) -> pb.MethodReading:
    """What one method says of a comparison."""
    contrast, reading = one.contrast, one.reading
    message = pb.MethodReading(
        method=READING_METHODS[one.method],
        difference=encode_number(contrast.difference, contrast.gap, index),
        lift=encode_number(contrast.lift, contrast.lift_gap, index),
        p_value=encode_number(reading.p_value, reading.gap, index),
        difference_interval=encode_difference(reading.difference, reading.gap, index, level),
        lift_interval=_lift(reading, index, level),
    )
    if reading.log_e is not None:
        message.log_e.CopyFrom(encode_number(reading.log_e, reading.gap, index))
    return message


def _lift(reading: Reading, index: int, level: float) -> pb.Interval:
    """Without ends where the difference has none; then nothing is said of the control's mean."""
    made = encode_interval(reading.lift, reading.lift_gap, index, level)
    difference = encode_difference(reading.difference, reading.gap, index, level)
    if made.low_unbounded and made.high_unbounded and difference.low_unbounded:
        made.not_estimable = difference.not_estimable
    return made


def _running(looked: Looked, index: int) -> float | NotEstimable:
    smallest = running_p_value(looked, index)
    if smallest is None:
        return NotEstimable(Gap(int(looked.reading.gap[index])))
    return smallest


def _look(looked: Looked, index: int) -> pb.LookTaken:
    taken = looked.looks[index]
    if not taken:
        return pb.LookTaken(current=looked.current[index])
    last = taken[-1]
    return pb.LookTaken(
        number=last.number,
        units=round(last.boundary.information),
        information_fraction=last.boundary.fraction,
        watermark=ConsistencyToken(last.cut.journal_id, last.cut.position).encode(),
        current=looked.current[index],
    )


def _adjusted(metric: Settled, index: int) -> pb.AdjustedReading:
    corrected, reading = metric.corrected, metric.adjusted
    level = 1.0 - float(corrected.level[index])
    return pb.AdjustedReading(
        p_value=encode_number(corrected.p_value, metric.report.looked.reading.gap, index),
        rejected=bool(corrected.rejected[index]),
        difference_interval=encode_difference(reading.difference, reading.gap, index, level),
        lift_interval=_lift(reading, index, level),
        correction=CORRECTION_OF[corrected.correction],
    )


def _non_inferiority(found: MetricReport, index: int, alpha: float) -> pb.NonInferiority | None:
    reading = found.guarded
    if reading is None:
        return None
    level = alpha / len(found.looked.looks)
    return pb.NonInferiority(
        margin=found.asked.margin,
        p_value=encode_number(reading.p_value, reading.gap, index),
        non_inferior=bool(reading.p_value[index] < level and not reading.gap[index]),
        lift_interval=_lift(reading, index, 1.0 - level),
    )


def _normal(beliefs: Beliefs, index: int, level: float) -> pb.Posterior:
    posterior, prior = beliefs.normal, beliefs.prior.lift
    message = pb.Posterior(
        probability_better=encode_number(posterior.probability_to_beat, posterior.gap, index),
        expected_loss=encode_number(posterior.expected_loss, posterior.gap, index),
        credible_interval=encode_interval(posterior.difference, posterior.gap, index, level),
        lift_interval=encode_interval(posterior.lift, posterior.lift_gap, index, level),
        prior=f"normal on the lift, mean {prior.mean:g}, standard deviation {prior.std_dev:g}",
        prior_source=beliefs.prior.source,
    )
    if posterior.within_region is not None:
        equivalent = encode_number(posterior.within_region, posterior.gap, index)
        message.probability_equivalent.CopyFrom(equivalent)
    return message


def _counted(
    belief: CountedBelief | None, index: int, level: float, prior: str
) -> pb.Posterior | None:
    if belief is None:
        return None
    message = pb.Posterior(
        probability_better=encode_number(belief.chances.probability_to_beat, belief.gap, index),
        expected_loss=encode_number(belief.chances.expected_loss, belief.gap, index),
        credible_interval=encode_interval(belief.difference, belief.gap, index, level),
        lift_interval=encode_interval(belief.lift, belief.gap, index, level),
        prior=prior,
        prior_source="chosen to say next to nothing",
    )
    if belief.equivalent is not None:
        message.probability_equivalent.CopyFrom(encode_number(belief.equivalent, belief.gap, index))
    return message
