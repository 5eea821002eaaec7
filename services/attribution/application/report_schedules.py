"""Schedules of reports that a project keeps."""

from collections.abc import Callable
from dataclasses import dataclass

from services.attribution.limits import KeptLimits, require_room
from services.attribution.ports import ScheduleStore, StoredSchedule
from shared import errors
from shared.resource_names import resource_name

COLLECTION = "reportSchedules"

Change = Callable[[StoredSchedule], StoredSchedule]


@dataclass(frozen=True, slots=True)
class ScheduleToChange:
    """Which schedule, and in which version the caller saw it (empty etag: in any)."""

    project: str
    schedule_id: str
    etag: str = ""


def schedule_name(project: str, schedule_id: str) -> str:
    """The resource name of a schedule."""
    return resource_name(project, COLLECTION, schedule_id)


def find_schedule(project: str, schedule_id: str, store: ScheduleStore) -> StoredSchedule:
    """The schedule; NOT_FOUND when the project has none of this id."""
    found = store.get(project, schedule_id)
    if found is None:
        raise errors.not_found("report schedule", schedule_name(project, schedule_id))
    return found


def create_schedule(new: StoredSchedule, store: ScheduleStore, limits: KeptLimits) -> None:
    """Keep a new schedule.

    ALREADY_EXISTS when the id is taken, RESOURCE_EXHAUSTED when the project has as many as it may.
    """
    if store.get(new.project, new.schedule_id) is None:
        require_room("report schedules", store.count(new.project), 1, limits.max_schedules)
    store.insert(new)


def update_schedule(
    target: ScheduleToChange, change: Change, store: ScheduleStore
) -> StoredSchedule:
    """Keep what the change makes of it; ABORTED when its etag is another."""
    old = _current(target, store)
    new = change(old)
    store.replace(old, new)
    return new


def delete_schedule(target: ScheduleToChange, store: ScheduleStore) -> None:
    """Delete it; ABORTED when its etag is another. Its reports stay."""
    store.delete(_current(target, store))


def _current(target: ScheduleToChange, store: ScheduleStore) -> StoredSchedule:
    found = find_schedule(target.project, target.schedule_id, store)
    if target.etag and target.etag != found.etag:
        name = schedule_name(target.project, target.schedule_id)
        raise errors.stale_etag(name, target.etag, found.etag)
    return found
