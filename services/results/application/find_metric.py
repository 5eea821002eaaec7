"""Read metrics: one, or a page of them."""

from dataclasses import dataclass

from services.results.domain.metric import Metric, MetricDefinition
from services.results.ports import MetricStore
from shared import errors
from shared.resource_names import resource_name
from shared.state.paging import Page


def get_metric(project: str, metric_id: str, store: MetricStore) -> Metric:
    """The metric as it is now, archived or not; NOT_FOUND when the project has none."""
    metric = store.get(project, metric_id)
    if metric is None:
        raise errors.not_found("metric", resource_name(project, "metrics", metric_id))
    return metric


def get_definition(
    project: str, metric_id: str, version: int, store: MetricStore
) -> MetricDefinition:
    """The definition as it was at a version; NOT_FOUND when there was no such version."""
    definition = store.definition(project, metric_id, version)
    if definition is None:
        name = resource_name(project, "metrics", metric_id)
        raise errors.not_found("metric", f"{name} at version {version}")
    return definition


@dataclass(frozen=True, slots=True)
class ListMetrics:
    """Which page of which project."""

    project: str
    page: Page
    show_archived: bool


@dataclass(frozen=True, slots=True)
class MetricPage:
    """Metrics by id, and the token of the next page (empty on the last one)."""

    metrics: tuple[Metric, ...]
    next_page_token: str


def list_metrics(command: ListMetrics, store: MetricStore) -> MetricPage:
    """A page of the project's metrics."""
    page = command.page
    found = store.page(command.project, page.after or "", page.size + 1, command.show_archived)
    metrics = tuple(found[: page.size])
    more = len(found) > page.size
    return MetricPage(metrics, page.token(metrics[-1].metric_id) if more else "")
