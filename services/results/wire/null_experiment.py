"""Simulations of experiments without an effect: from requests to commands, and back."""

from touchstone.results.v1 import analysis_plan_pb2, results_pb2
from touchstone.results.v1 import planning_service_pb2 as pb
from touchstone_statistics.aa import AASimulation, Splits
from touchstone_statistics.gaps import Gap, NotEstimable

from services.results.application.simulate_null_experiment import (
    Simulated,
    SimulateNullExperiment,
)
from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.null_experiment import NullExperiment
from services.results.domain.planning import Population
from services.results.wire.numbers import encode_scalar
from services.results.wire.planning_decode import SMALLEST_ALPHA, decode_population
from shared.errors import invalid
from shared.resource_names import require_id, require_parent, resource_name

LEVEL = 0.99
_METHODS = {
    analysis_plan_pb2.ANALYSIS_METHOD_UNSPECIFIED: AnalysisMethod.FIXED,
    analysis_plan_pb2.ANALYSIS_METHOD_FIXED: AnalysisMethod.FIXED,
    analysis_plan_pb2.ANALYSIS_METHOD_GROUP_SEQUENTIAL: AnalysisMethod.GROUP_SEQUENTIAL,
    analysis_plan_pb2.ANALYSIS_METHOD_ANYTIME: AnalysisMethod.ANYTIME,
    analysis_plan_pb2.ANALYSIS_METHOD_HYBRID: AnalysisMethod.HYBRID,
}


def decode_null_experiment(
    request: pb.SimulateNullExperimentRequest, project: str
) -> SimulateNullExperiment:
    """What SimulateNullExperiment asks for."""
    require_parent(request.parent, project)
    default = NullExperiment()
    alpha = request.alpha or default.alpha
    if alpha < SMALLEST_ALPHA:
        allowed = f"0 for {default.alpha}, or from {SMALLEST_ALPHA} to 0.5"
        raise invalid("alpha", request.alpha, allowed)
    history: Population | str
    if request.HasField("population"):
        history = decode_population(request.population)
    else:
        history = require_id(request.experiment, project, "experiments")
    splits = Splits(
        repetitions=request.repetitions or default.splits.repetitions,
        seed=request.seed,
        treated_share=request.treated_share or default.splits.treated_share,
    )
    return SimulateNullExperiment(
        project=project,
        metric_id=require_id(request.metric, project, "metrics"),
        history=history,
        experiment=NullExperiment(splits, _METHODS[request.method], alpha, request.looks),
    )


def encode_simulated(
    command: SimulateNullExperiment, simulated: Simulated
) -> pb.SimulateNullExperimentResponse:
    """How often a difference was found."""
    metric, found, experiment = simulated.metric, simulated.found, command.experiment
    read = len(found.p_values) > 0
    nothing = NotEstimable(Gap.TOO_FEW_UNITS)
    uniformity: float | NotEstimable | None = found.uniformity_p if read else nothing
    if experiment.method is not AnalysisMethod.FIXED or experiment.looks_taken > 1:
        uniformity = None
    return pb.SimulateNullExperimentResponse(
        metric=resource_name(metric.project, "metrics", metric.metric_id),
        metric_version=metric.version,
        units=len(simulated.units.rows),
        history_units=simulated.units.history_units,
        repetitions=experiment.splits.repetitions,
        skipped=found.skipped,
        alpha=experiment.alpha,
        rejections=found.rejections,
        rejection_rate=encode_scalar(found.rejection_rate if read else nothing),
        rejection_interval=_interval(found, read),
        calibrated=simulated.calibrated,
        uniformity_p_value=encode_scalar(uniformity),
        watermark=simulated.units.cut.token,
        looks=experiment.looks_taken,
    )


def _interval(found: AASimulation, read: bool) -> results_pb2.Interval:
    if not read:
        reason = results_pb2.NOT_ESTIMABLE_TOO_FEW_UNITS
        return results_pb2.Interval(level=LEVEL, not_estimable=reason)
    return results_pb2.Interval(low=found.rate_low, high=found.rate_high, level=LEVEL)
