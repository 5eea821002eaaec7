"""Channel groupings that a project keeps: every change is a version, and none is changed."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from services.attribution.limits import KeptLimits, require_room
from services.attribution.ports import GroupingStore, StoredGrouping
from shared import errors
from shared.resource_names import resource_name

COLLECTION = "channelGroupings"

Patch = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class NewGrouping:
    """A grouping to keep; what its owner decides is the message, encoded."""

    project: str
    grouping_id: str
    document: bytes


@dataclass(frozen=True, slots=True)
class GroupingToChange:
    """Which grouping, and in which state the caller saw it (empty etag: in any)."""

    project: str
    grouping_id: str
    etag: str = ""


def grouping_name(project: str, grouping_id: str) -> str:
    """The resource name of a grouping."""
    return resource_name(project, COLLECTION, grouping_id)


def find_grouping(
    project: str, grouping_id: str, store: GroupingStore, version: int = 0
) -> StoredGrouping:
    """The grouping as it is, or as it was at a version; NOT_FOUND where there is none."""
    found = store.get(project, grouping_id, version)
    if found is None:
        name = grouping_name(project, grouping_id)
        raise errors.not_found(
            "channel grouping", f"{name} at version {version}" if version else name
        )
    return found


def create_grouping(
    new: NewGrouping, store: GroupingStore, now: dt.datetime, limits: KeptLimits
) -> StoredGrouping:
    """Keep a new grouping.

    ALREADY_EXISTS when the id is taken, RESOURCE_EXHAUSTED when the project has as many as it may.
    """
    if store.get(new.project, new.grouping_id) is None:
        there = store.count(new.project)
        require_room("channel groupings", there, 1, limits.max_channel_groupings)
    return store.insert(new.project, new.grouping_id, new.document, now)


def update_grouping(
    target: GroupingToChange,
    patch: Patch,
    store: GroupingStore,
    now: dt.datetime,
    limits: KeptLimits,
) -> StoredGrouping:
    """Keep what the patch makes of it as the next version.

    ABORTED when its etag is another, RESOURCE_EXHAUSTED when it has as many versions as it may.
    """
    old = _current(target, store)
    most = limits.max_grouping_versions
    # Versions are counted without a gap: an old enough one says that there are as many.
    if store.versions(old.project, old.grouping_id, old.version - most + 2, 1):
        name = grouping_name(old.project, old.grouping_id)
        raise errors.limit_exceeded(f"the number of versions of {name}", most + 1, most)
    return store.replace(old, patch(old.document), now)


def delete_grouping(target: GroupingToChange, store: GroupingStore, now: dt.datetime) -> None:
    """Delete it; ABORTED when its etag is another."""
    store.delete(_current(target, store), now)


def _current(target: GroupingToChange, store: GroupingStore) -> StoredGrouping:
    found = find_grouping(target.project, target.grouping_id, store)
    if target.etag and target.etag != found.etag:
        name = grouping_name(target.project, target.grouping_id)
        raise errors.stale_etag(name, target.etag, found.etag)
    return found
