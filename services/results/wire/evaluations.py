"""Control groups and waves as messages."""

from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.family import Method

from services.results.application.evaluate_control_group import (
    EvaluateControlGroup,
    Evaluated,
    Group,
)
from services.results.domain.analysis_plan import SMALLEST_ALPHA
from services.results.domain.metric import Metric
from services.results.domain.reading.control_group import Compared, Level, Waves
from services.results.domain.reading.report import Failure
from services.results.wire.metric_names import KIND_OF
from services.results.wire.numbers import encode_difference, encode_interval, encode_number
from services.results.wire.removed import encode_removed
from shared import errors
from shared.identity.wire import stitching_of
from shared.resource_names import require_id, require_parent, resource_name

USUAL_ALPHA = 0.05
METHODS: dict[int, Method | None] = {
    pb.WAVE_CORRECTION_UNSPECIFIED: None,
    pb.WAVE_CORRECTION_SIMULTANEOUS: None,
    pb.WAVE_CORRECTION_NONE: Method.NONE,
    pb.WAVE_CORRECTION_BONFERRONI: Method.BONFERRONI,
    pb.WAVE_CORRECTION_HOLM: Method.HOLM,
}
METHOD_OF = {method: pb.WaveCorrection.ValueType(number) for number, method in METHODS.items()}


def decode_evaluation(
    request: pb.EvaluateControlGroupRequest, project: str
) -> EvaluateControlGroup:
    """What EvaluateControlGroup asks for."""
    require_parent(request.parent, project)
    return EvaluateControlGroup(
        project=project,
        control=_group(request.control, project),
        waves=tuple(_group(wave, project) for wave in request.waves),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        level=Level(decode_alpha(request.alpha), METHODS[request.correction]),
        as_of=request.as_of,
        stitching=stitching_of(request.stitching),
    )


def decode_alpha(asked: float) -> float:
    """An error probability that no analysis plan stands behind."""
    if asked and not SMALLEST_ALPHA <= asked <= 0.5:
        allowed = f"0 for {USUAL_ALPHA}, or from {SMALLEST_ALPHA} to 0.5"
        raise errors.invalid("alpha", asked, allowed)
    return asked or USUAL_ALPHA


def _group(group: pb.ExperimentGroup, project: str) -> Group:
    return Group(require_id(group.experiment, project, "experiments"), group.variant)


def encode_evaluation(
    found: Evaluated, project: str, engine_version: str
) -> pb.EvaluateControlGroupResponse:
    """All groups and metrics."""
    return pb.EvaluateControlGroupResponse(
        groups=[
            pb.GroupSummary(
                group=pb.ExperimentGroup(
                    experiment=resource_name(project, "experiments", placed.group.experiment_id),
                    variant=placed.group.variant,
                ),
                units=placed.units,
                config_version=placed.config_version,
            )
            for placed in found.groups
        ],
        metrics=[
            _metric(found, metric, compared, unequal)
            for (metric, compared), unequal in zip(found.metrics, found.unequal, strict=True)
        ],
        correction=METHOD_OF[found.command.level.method],
        alpha=found.command.level.alpha,
        watermark=found.cut.token,
        engine_version=engine_version,
        identity_version=found.identity_version,
        removed_since=encode_removed(found.removed),
    )


def _metric(
    found: Evaluated, metric: Metric, compared: Compared | Failure, unequal: bool
) -> pb.ControlGroupResults:
    message = pb.ControlGroupResults(
        metric=resource_name(metric.project, "metrics", metric.metric_id),
        metric_version=metric.version,
        kind=KIND_OF[metric.definition.kind],
    )
    if isinstance(compared, Failure):
        message.error.code, message.error.reason = compared.code, compared.reason
        message.error.message = compared.message
        return message
    message.unequal_follow_up = unequal
    message.control.CopyFrom(_estimate(compared.waves.evaluation.control, 0))
    message.waves.extend(_wave(compared.waves, index) for index in range(len(found.command.waves)))
    message.pooled.CopyFrom(_wave(compared.whole, 0))
    return message


def _estimate(arms: Estimate, index: int) -> pb.GroupEstimate:
    return pb.GroupEstimate(
        units=int(arms.units[index]),
        mean=encode_number(arms.value, arms.gap, index),
        std_err=encode_number(arms.std_err, arms.spread_gap, index),
    )


def _wave(waves: Waves, index: int) -> pb.WaveResults:
    found, contrast = waves.evaluation, waves.contrast
    reading, adjusted = found.reading, found.adjusted
    level = 1.0 - float(adjusted.alpha[index])
    return pb.WaveResults(
        estimate=_estimate(found.waves, index),
        ratio=encode_number(found.ratio, found.ratio_gap, index),
        ratio_interval=encode_interval(found.ratio_interval, reading.lift_gap, index, level),
        lift=encode_number(contrast.lift, contrast.lift_gap, index),
        lift_interval=encode_interval(reading.lift, reading.lift_gap, index, level),
        difference=encode_number(contrast.difference, contrast.gap, index),
        difference_interval=encode_difference(reading.difference, reading.gap, index, level),
        p_value=encode_number(reading.p_value, reading.gap, index),
        adjusted_p_value=encode_number(adjusted.p_value, reading.gap, index),
        gained=encode_number(found.gained, contrast.gap, index),
        gained_interval=encode_difference(found.gained_interval, reading.gap, index, level),
    )
