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


KEY_FORM = r"([0-9]{1,18})"
NEWEST = 2**62
"""Above every version."""


@dataclass(frozen=True, slots=True)
class ListMetricVersions:
    """Which page of the versions of which metric; those below `before`."""

    project: str
    metric_id: str
    page: Page
    before: int

    @classmethod
    def of(cls, project: str, metric_id: str, page: Page) -> "ListMetricVersions":
        """INVALID_ARGUMENT for a token that names no place in such a list."""
        place = page.place(KEY_FORM)
        return cls(project, metric_id, page, int(place[0]) if place else NEWEST)


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Versions with their numbers, newest first, and the token of the next page (empty on the
    last one).
    """

    versions: tuple[tuple[int, MetricDefinition], ...]
    next_page_token: str


def list_metric_versions(command: ListMetricVersions, store: MetricStore) -> VersionPage:
    """A page of what the metric was and is; NOT_FOUND when the project has no such metric."""
    get_metric(command.project, command.metric_id, store)
    page = command.page
    found = store.versions(command.project, command.metric_id, command.before, page.size + 1)
    versions = tuple(found[: page.size])
    more = len(found) > page.size
    return VersionPage(versions, page.token(str(versions[-1][0])) if more else "")


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
