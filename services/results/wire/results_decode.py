"""From requests about results to commands."""

from touchstone.results.v1 import results_service_pb2
from touchstone_statistics.bayes import LiftPrior

from services.results.application.get_results import GetResults
from services.results.domain.report import Method
from shared import errors
from shared.identity.wire import stitching_of
from shared.resource_names import require_id

DEFAULT_ALPHA = 0.05
SMALLEST_ALPHA = 1e-9


def decode_get_results(
    request: results_service_pb2.GetResultsRequest, project: str, prior: LiftPrior
) -> GetResults:
    """What GetResults asks for."""
    alpha = request.alpha or DEFAULT_ALPHA
    if not SMALLEST_ALPHA <= alpha <= 0.5:
        allowed = f"0 for {DEFAULT_ALPHA}, or from {SMALLEST_ALPHA} to 0.5"
        raise errors.invalid("alpha", request.alpha, allowed)
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        method=Method(prior, alpha),
        stitching=stitching_of(request.stitching),
    )
