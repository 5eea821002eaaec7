"""Read and change the analysis plan of an experiment, and list the looks taken at it."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from services.results.domain.analysis_plan import AnalysisPlan, StoredPlan, changed
from services.results.domain.look import Look
from services.results.ports import PlanStore
from shared import errors
from shared.resource_names import resource_name
from shared.state.paging import Page

Patch = Callable[[AnalysisPlan], AnalysisPlan]
KEY_FORM = r"([a-z0-9_-]{1,63}):([a-z0-9._-]{1,63}):([0-9]{1,9})"


@dataclass(frozen=True, slots=True)
class PlanToChange:
    """Whose plan, and as the caller saw it (empty etag: in any state)."""

    project: str
    experiment_id: str
    etag: str


def plan_name(project: str, experiment_id: str) -> str:
    """The resource name of an experiment's plan."""
    return f"{resource_name(project, 'experiments', experiment_id)}/analysisPlan"


def get_plan(project: str, experiment_id: str, version: int, store: PlanStore) -> StoredPlan:
    """The newest version, or a certain one; NOT_FOUND for one that was never made."""
    if not version:
        return store.current(project, experiment_id)
    found = store.at(project, experiment_id, version)
    if found is None:
        name = plan_name(project, experiment_id)
        raise errors.not_found("analysis plan version", f"{name} version {version}")
    return found


def update_plan(
    target: PlanToChange, patch: Patch, store: PlanStore, now: dt.datetime
) -> StoredPlan:
    """Keeps the patched plan as the next version.

    ABORTED when the etag is another one, FAILED_PRECONDITION for what looks have fixed.
    """
    store.lock(target.project, target.experiment_id)
    old = store.current(target.project, target.experiment_id)
    if target.etag and target.etag != old.etag:
        name = plan_name(target.project, target.experiment_id)
        raise errors.stale_etag(name, target.etag, old.etag)
    new = changed(old, patch(old.plan), now)
    store.add(target.project, target.experiment_id, new)
    return new


@dataclass(frozen=True, slots=True)
class LookPage:
    """Looks by metric, variant and number, and the token of the next page (empty on the last)."""

    looks: tuple[Look, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class ListLooks:
    """Which page of the looks at which experiment; `after` is (metric, variant, number)."""

    project: str
    experiment_id: str
    page: Page
    after: tuple[str, str, int]

    @classmethod
    def of(cls, project: str, experiment_id: str, page: Page) -> "ListLooks":
        """INVALID_ARGUMENT for a token that names no place in such a list."""
        place = page.place(KEY_FORM)
        after = (place[0], place[1], int(place[2])) if place else ("", "", 0)
        return cls(project, experiment_id, page, after)


def list_looks(command: ListLooks, store: PlanStore) -> LookPage:
    """A page of the looks that were taken at an experiment."""
    page = command.page
    found = store.page_of_looks(
        command.project, command.experiment_id, command.after, page.size + 1
    )
    looks = tuple(found[: page.size])
    if len(found) <= page.size:
        return LookPage(looks, "")
    last = looks[-1]
    return LookPage(looks, page.token(f"{last.key.metric_id}:{last.key.variant}:{last.number}"))
