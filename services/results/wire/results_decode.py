"""From requests about results to commands."""

from touchstone.results.v1 import results_service_pb2

from services.results.application.get_results import GetResults
from services.results.domain.analysis_plan import SMALLEST_ALPHA
from services.results.domain.reading.report import Span
from services.results.wire.analysis_plans import METHODS
from shared import errors
from shared.identity.wire import stitching_of
from shared.resource_names import require_id


def decode_get_results(request: results_service_pb2.GetResultsRequest, project: str) -> GetResults:
    """What GetResults asks for."""
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        alpha=decode_alpha(request.alpha),
        others=tuple(METHODS[method] for method in request.methods),
        as_of=request.as_of,
        dimensions=tuple(request.dimensions),
        spans=tuple(_span(window) for window in request.exposure_windows),
        hurdle=results_service_pb2.POSTERIOR_MODEL_HURDLE in request.posteriors,
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


def decode_get_time_series(
    request: results_service_pb2.GetTimeSeriesRequest, project: str
) -> GetResults:
    """What GetTimeSeries asks for."""
    return GetResults(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_ids=tuple(require_id(name, project, "metrics") for name in request.metrics),
        alpha=decode_alpha(request.alpha),
        stitching=stitching_of(request.stitching),
    )


def decode_watch_results(
    request: results_service_pb2.WatchResultsRequest, project: str
) -> GetResults:
    """What WatchResults asks for."""
    if request.results.as_of:
        raise errors.invalid("results.as_of", request.results.as_of, "empty: the past stays")
    return decode_get_results(request.results, project)


def _span(window: results_service_pb2.ExposureWindow) -> Span:
    if window.last_day < window.first_day:
        allowed = f"at least the first day, {window.first_day}"
        raise errors.invalid("exposure_windows.last_day", window.last_day, allowed)
    return Span(window.first_day, window.last_day)


def decode_alpha(asked: float) -> float | None:
    """An error probability; None, for 0, is that of the analysis plan."""
    if asked and not SMALLEST_ALPHA <= asked <= 0.5:
        allowed = f"0 for that of the analysis plan, or from {SMALLEST_ALPHA} to 0.5"
        raise errors.invalid("alpha", asked, allowed)
    return asked or None
