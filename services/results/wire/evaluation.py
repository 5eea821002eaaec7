"""Evaluations of control groups as messages."""

from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import results_pb2
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.holdouts import Evaluation

from services.results.application.evaluate_control_group import ControlGroup, Waves
from services.results.application.get_results import GetResults
from services.results.domain.reading.report import Asked, Failure
from services.results.wire.numbers import encode_difference, encode_interval, encode_number
from services.results.wire.results_decode import decode_alpha
from services.results.wire.results_encode import encode_results
from shared.identity.wire import stitching_of
from shared.resource_names import require_id, resource_name


def decode_evaluation(request: pb.EvaluateControlGroupRequest, project: str) -> GetResults:
    """What EvaluateControlGroup asks for."""
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        alpha=decode_alpha(request.alpha),
        stitching=stitching_of(request.stitching),
    )


def encode_evaluation(
    found: ControlGroup, project: str, engine_version: str
) -> pb.ControlGroupEvaluation:
    """Every metric of every wave."""
    results = encode_results(found.report, project, engine_version)
    return pb.ControlGroupEvaluation(
        experiment=results.experiment,
        control_variant=found.report.plan.control,
        metrics=[_metric(found, asked, waves, project) for asked, waves in found.metrics],
        provenance=results.provenance,
    )


def _metric(
    found: ControlGroup, asked: Asked, waves: Waves | Failure, project: str
) -> pb.MetricEvaluation:
    message = pb.MetricEvaluation(metric=resource_name(project, "metrics", asked.metric.metric_id))
    if isinstance(waves, Failure):
        message.error.code, message.error.reason = waves.code, waves.reason
        message.error.message = waves.message
        return message
    plan, level = found.report.plan, 1.0 - found.report.alpha
    control = waves.each.control
    message.control.CopyFrom(
        results_pb2.SliceArm(
            variant=plan.control,
            units=int(control.units[0]),
            mean=encode_number(control.value, control.gap, 0),
        )
    )
    for index, arm in enumerate(plan.treatments):
        message.waves.append(_wave(waves.each, index, plan.arms[arm].variant, level))
    if waves.together is not None:
        message.pooled.CopyFrom(_wave(waves.together, 0, "", level))
    return message


def _wave(found: Evaluation, index: int, variant: str, level: float) -> pb.WaveEvaluation:
    waves, reading = found.waves, found.reading
    contrast = Contrast(found.control, waves)
    return pb.WaveEvaluation(
        variant=variant,
        units=int(waves.units[index]),
        mean=encode_number(waves.value, waves.gap, index),
        difference=encode_number(contrast.difference, contrast.gap, index),
        difference_interval=encode_difference(reading.difference, reading.gap, index, level),
        ratio=encode_number(found.ratio, found.ratio_gap, index),
        ratio_interval=encode_interval(found.ratio_interval, reading.lift_gap, index, level),
        lift=encode_number(contrast.lift, contrast.lift_gap, index),
        lift_interval=encode_interval(reading.lift, reading.lift_gap, index, level),
        gained=encode_number(found.gained, contrast.gap, index),
        gained_interval=encode_difference(found.gained_interval, reading.gap, index, level),
        p_value=encode_number(reading.p_value, reading.gap, index),
        adjusted_p_value=encode_number(found.adjusted.p_value, found.adjusted.gap, index),
    )
