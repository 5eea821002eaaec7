"""From requests about results to commands."""

from touchstone.results.v1 import results_service_pb2

from services.results.application.get_results import GetResults
from services.results.domain.analysis_plan import SMALLEST_ALPHA
from services.results.wire.analysis_plans import METHODS
from shared import errors
from shared.identity.wire import stitching_of
from shared.resource_names import require_id


def decode_get_results(request: results_service_pb2.GetResultsRequest, project: str) -> GetResults:
    """What GetResults asks for."""
    if request.alpha and not SMALLEST_ALPHA <= request.alpha <= 0.5:
        allowed = f"0 for that of the analysis plan, or from {SMALLEST_ALPHA} to 0.5"
        raise errors.invalid("alpha", request.alpha, allowed)
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        alpha=request.alpha or None,
        others=tuple(METHODS[method] for method in request.methods),
        as_of=request.as_of,
        dimensions=tuple(request.dimensions),
        stitching=stitching_of(request.stitching),
    )


def decode_get_health(request: results_service_pb2.GetHealthRequest, project: str) -> GetResults:
    """What GetHealth asks for: results as of now, of which no look is taken."""
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        dimensions=tuple(request.dimensions),
        stitching=stitching_of(request.stitching),
    )
