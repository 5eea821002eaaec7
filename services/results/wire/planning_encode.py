"""From plans of experiments to messages."""

from touchstone.results.v1 import planning_service_pb2 as pb
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.plan import Detectable, NotReachable, Obstacle

from services.results.application.plan_experiment import Planned
from services.results.domain.planning import Forecast, Needed
from services.results.wire.metric_names import ROLE_OF
from services.results.wire.numbers import encode_scalar
from shared.resource_names import resource_name

OBSTACLE_OF = {
    Obstacle.NO_EFFECT: pb.PLANNING_OBSTACLE_NO_EFFECT,
    Obstacle.NO_VARIANCE: pb.PLANNING_OBSTACLE_NO_VARIANCE,
    Obstacle.NO_LEVEL: pb.PLANNING_OBSTACLE_NO_LEVEL,
    Obstacle.TOO_FEW_UNITS: pb.PLANNING_OBSTACLE_TOO_FEW_UNITS,
    Obstacle.CONTROL_TOO_VAGUE: pb.PLANNING_OBSTACLE_CONTROL_TOO_VAGUE,
    Obstacle.NO_TRAFFIC: pb.PLANNING_OBSTACLE_NO_TRAFFIC,
}
_UNKNOWN = NotEstimable(Gap.NOT_APPLICABLE)


def encode_plan(planned: Planned) -> pb.PlanExperimentResponse:
    """What an experiment would need, and could find."""
    past = planned.past
    return pb.PlanExperimentResponse(
        metrics=[_forecast(each, planned.units) for each in planned.forecasts],
        units_per_day=past.units_per_day,
        later_units_per_day=past.later_units_per_day,
        power=planned.forecasts[0].design.power,
        watermark=past.observation.cut.token,
    )


def _forecast(found: Forecast, units: int) -> pb.MetricForecast:
    metric, history = found.metric, found.history
    message = pb.MetricForecast(
        metric=resource_name(metric.project, "metrics", metric.metric_id),
        metric_version=metric.version,
        role=ROLE_OF[metric.definition.role],
        history_units=found.units,
        mean=encode_scalar(_UNKNOWN if history is None else history.mean),
        unit_variance=encode_scalar(_UNKNOWN if history is None else history.variance),
        explained=0.0 if history is None else history.r_squared,
        alpha=found.design.level,
    )
    if history is None:
        message.needed.obstacle = pb.PLANNING_OBSTACLE_NO_HISTORY
        return message
    if found.needed is not None:
        message.needed.CopyFrom(_needed(found.needed))
    if found.found is not None:
        message.detectable.CopyFrom(_detectable(found.found, units))
    return message


def _needed(needed: Needed) -> pb.NeededUnits:
    message = pb.NeededUnits(lift=needed.lift)
    if isinstance(needed.size, NotReachable):
        message.obstacle = OBSTACLE_OF[needed.size.obstacle]
        return message
    message.units.extend(needed.size.units)
    if isinstance(needed.running, NotReachable):
        message.obstacle = OBSTACLE_OF[needed.running.obstacle]
    else:
        message.days = needed.running.days
    return message


def _detectable(found: Detectable | float | NotReachable, units: int) -> pb.DetectableEffect:
    if isinstance(found, NotReachable):
        none = encode_scalar(_UNKNOWN)
        obstacle = OBSTACLE_OF[found.obstacle]
        return pb.DetectableEffect(units=units, difference=none, lift=none, obstacle=obstacle)
    if isinstance(found, float):
        margin = encode_scalar(found)
        return pb.DetectableEffect(units=units, difference=encode_scalar(_UNKNOWN), lift=margin)
    lift = _UNKNOWN if found.lift is None else found.lift
    difference = encode_scalar(found.difference)
    return pb.DetectableEffect(units=units, difference=difference, lift=encode_scalar(lift))
