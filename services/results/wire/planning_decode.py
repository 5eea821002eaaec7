"""From requests about planning to commands."""

import datetime as dt

from touchstone.results.v1 import analysis_plan_pb2, planning_service_pb2

from services.results.application.plan_experiment import PlanExperiment
from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.planning import MOST_DAYS, Population, Split, Wanted
from shared.errors import FieldViolation, invalid, invalid_fields
from shared.filters.rules import filter_faults
from shared.filters.wire import decode_filter
from shared.resource_names import require_id, require_parent

SMALLEST_ALPHA = 1e-9
_METHODS = {
    analysis_plan_pb2.ANALYSIS_METHOD_UNSPECIFIED: AnalysisMethod.GROUP_SEQUENTIAL,
    analysis_plan_pb2.ANALYSIS_METHOD_FIXED: AnalysisMethod.FIXED,
    analysis_plan_pb2.ANALYSIS_METHOD_GROUP_SEQUENTIAL: AnalysisMethod.GROUP_SEQUENTIAL,
    analysis_plan_pb2.ANALYSIS_METHOD_ANYTIME: AnalysisMethod.ANYTIME,
    analysis_plan_pb2.ANALYSIS_METHOD_HYBRID: AnalysisMethod.HYBRID,
}


def decode_plan(
    request: planning_service_pb2.PlanExperimentRequest, project: str
) -> PlanExperiment:
    """What PlanExperiment asks for."""
    require_parent(request.parent, project)
    if request.units and request.days:
        raise invalid("days", request.days, "0, because units are given")
    history: Population | str
    if request.HasField("population"):
        history = decode_population(request.population)
    else:
        history = require_id(request.experiment, project, "experiments")
    return PlanExperiment(
        project=project,
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        history=history,
        split=_split(request.design),
        wanted=Wanted(request.lift, request.units),
        days=request.days,
    )


def decode_population(sent: planning_service_pb2.Population) -> Population:
    """Which units a history has; every fault of them at once."""
    faults: list[FieldViolation] = []
    path = "population.filter"
    condition = decode_filter(sent.filter, path, faults) if sent.HasField("filter") else None
    faults += filter_faults(condition, path)
    start, end = sent.start_time.ToDatetime(dt.UTC), sent.end_time.ToDatetime(dt.UTC)
    if not dt.timedelta(0) < end - start <= dt.timedelta(days=MOST_DAYS):
        allowed = f"after start_time, by at most {MOST_DAYS} days"
        said = f"is {sent.end_time.ToJsonString()}; allowed: {allowed}"
        faults.append(FieldViolation("population.end_time", said))
    if faults:
        raise invalid_fields(faults)
    return Population(sent.unit_type or "user", sent.event_name, condition, start, end)


def _split(sent: planning_service_pb2.PlannedDesign) -> Split:
    default = Split()
    weights, alpha = tuple(sent.weights) or default.weights, sent.alpha or default.alpha
    power = sent.power or default.power
    faults = []
    if len(weights) < 2:
        faults.append(FieldViolation("design.weights", "are 1; allowed: none, or 2 to 20"))
    if alpha < SMALLEST_ALPHA:
        said = f"is {alpha}; allowed: 0 for {default.alpha}, or from {SMALLEST_ALPHA} to 0.5"
        faults.append(FieldViolation("design.alpha", said))
    if power <= alpha:
        said = f"is {power}; allowed: 0 for {default.power}, or above alpha, {alpha}, and below 1"
        faults.append(FieldViolation("design.power", said))
    if faults:
        raise invalid_fields(faults)
    return Split(weights, _METHODS[sent.method], sent.looks or default.looks, alpha, power)
