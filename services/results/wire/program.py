"""The effect of a programme as messages."""

from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import results_pb2
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.winners import Total

from services.results.application.get_program_effect import GetProgramEffect, ProgramEffect
from services.results.wire.evaluations import decode_alpha
from services.results.wire.numbers import REASON_OF, encode_number, encode_scalar
from services.results.wire.removed import encode_removed
from shared.identity.wire import stitching_of
from shared.resource_names import require_id, require_parent, resource_name


def decode_program(request: pb.GetProgramEffectRequest, project: str) -> GetProgramEffect:
    """What GetProgramEffect asks for."""
    require_parent(request.parent, project)
    return GetProgramEffect(
        project=project,
        metric_id=require_id(request.metric, project, "metrics"),
        alpha=decode_alpha(request.alpha),
        stitching=stitching_of(request.stitching),
        as_of=request.as_of,
    )


def encode_program(
    found: ProgramEffect, project: str, engine_version: str
) -> pb.GetProgramEffectResponse:
    """The experiments, and what they gained together."""
    total, gap = found.total, found.total.gap
    level = 1.0 - found.alpha
    return pb.GetProgramEffectResponse(
        experiments=[_experiment(found, place, project) for place in range(len(found.plans))],
        shipped=total.shipped,
        naive=_scalar(total.naive, gap),
        flattery=_scalar(total.flattery, gap),
        corrected=_scalar(total.corrected.value, gap),
        corrected_interval=_interval(None if gap else total.corrected, gap, level),
        borrowed=_scalar(None if total.borrowed is None else total.borrowed.value, gap),
        borrowed_interval=_interval(total.borrowed, gap or Gap.NOT_APPLICABLE, level),
        several_treatments=found.several_treatments,
        left_out=found.left_out,
        watermark=found.watermark,
        alpha=found.alpha,
        engine_version=engine_version,
        removed_since=encode_removed(found.removed),
    )


def _experiment(found: ProgramEffect, place: int, project: str) -> pb.ProgramExperiment:
    plan, effects = found.plans[place], found.effects
    std_err = effects.variance**0.5
    known = effects.precision[place] > 0
    return pb.ProgramExperiment(
        experiment=resource_name(project, "experiments", plan.experiment_id),
        variant=plan.arms[plan.treatments[0]].variant,
        lift=encode_number(effects.value, effects.gap, place),
        std_err=encode_number(std_err, effects.gap, place),
        shipped=bool(known and effects.value[place] > found.threshold * std_err[place]),
    )


def _scalar(value: float | None, gap: Gap) -> results_pb2.Estimate:
    return encode_scalar(value if gap is Gap.NONE else NotEstimable(gap))


def _interval(total: Total | None, gap: Gap, level: float) -> results_pb2.Interval:
    if total is None:
        return results_pb2.Interval(level=level, not_estimable=REASON_OF[gap])
    return results_pb2.Interval(low=total.low, high=total.high, level=level)
