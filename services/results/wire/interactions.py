"""Interactions of experiments as messages."""

from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import results_pb2
from touchstone_statistics.gaps import Gap, NotEstimable

from services.results.application.get_interactions import GetInteractions, Interactions
from services.results.domain.reading.crossing import Crossing
from services.results.wire.evaluations import decode_alpha
from services.results.wire.numbers import (
    encode_difference,
    encode_number,
    encode_scalar,
    row,
)
from services.results.wire.removed import encode_removed
from shared.identity.wire import stitching_of
from shared.resource_names import require_id, resource_name


def decode_interactions(request: pb.GetInteractionsRequest, project: str) -> GetInteractions:
    """What GetInteractions asks for."""
    return GetInteractions(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        alpha=decode_alpha(request.alpha),
        stitching=stitching_of(request.stitching),
        as_of=request.as_of,
    )


def encode_interactions(
    found: Interactions, project: str, engine_version: str
) -> pb.GetInteractionsResponse:
    """Every other experiment."""
    return pb.GetInteractionsResponse(
        experiments=[_experiment(found, place, project) for place in range(len(found.crossings))],
        left_out=found.left_out,
        watermark=found.cut.token,
        alpha=found.alpha,
        engine_version=engine_version,
        removed_since=encode_removed(found.removed),
    )


def _experiment(found: Interactions, place: int, project: str) -> pb.ExperimentInteraction:
    crossing = found.crossings[place]
    dependence = crossing.dependence
    return pb.ExperimentInteraction(
        experiment=resource_name(project, "experiments", crossing.other.experiment_id),
        rows=[
            pb.CrossedUnits(variant=arm.variant, units=[int(count) for count in counts])
            for arm, counts in zip(crossing.other.arms, crossing.units, strict=True)
        ],
        variants=[arm.variant for arm in found.plan.arms],
        dependence_p_value=_scalar(dependence.p_value, dependence.gap),
        dependence_alert=dependence.alert,
        metrics=[_metric(found, place, index) for index in range(len(found.metrics))],
    )


def _metric(found: Interactions, place: int, index: int) -> pb.MetricInteraction:
    crossing, metric = found.crossings[place], found.metrics[index]
    joint = crossing.joint[index]
    gap = Gap(int(joint.gap))
    return pb.MetricInteraction(
        metric=resource_name(metric.project, "metrics", metric.metric_id),
        p_value=_scalar(float(joint.p_value), gap),
        adjusted_p_value=_scalar(float(found.adjusted[place, index]), gap),
        pairs=list(_pairs(found, crossing, index)),
    )


def _pairs(found: Interactions, crossing: Crossing, index: int) -> list[pb.PairInteraction]:
    contrast, reading = crossing.pairs[index].contrast, crossing.pairs[index].reading
    return [
        pb.PairInteraction(
            variant=found.plan.arms[arm].variant,
            other_variant=crossing.other.arms[its].variant,
            difference=encode_number(contrast.difference[line], contrast.gap[line], column),
            difference_interval=encode_difference(
                row(reading.difference, line), reading.gap[line], column, 1.0 - found.alpha
            ),
            p_value=encode_number(reading.p_value[line], reading.gap[line], column),
        )
        for line, its in enumerate(crossing.other.treatments)
        for column, arm in enumerate(found.plan.treatments)
    ]


def _scalar(value: float, gap: Gap) -> results_pb2.Estimate:
    return encode_scalar(value if gap is Gap.NONE else NotEstimable(gap))
