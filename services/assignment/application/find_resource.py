"""Reading resources: one that must exist and be the one that the caller has read, or a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from services.assignment.domain.resource import Resource
from services.assignment.domain.revision import Revision
from services.assignment.ports import ResourceStore
from shared import errors

R = TypeVar("R", bound=Resource)

SORT_KEY = r"([A-Za-z_][A-Za-z0-9_.-]{0,63})"
"""The form of a sort key: the id, which of every kind is one of these."""


@dataclass(frozen=True, slots=True)
class Which:
    """A resource by its id; with an etag, only as the caller has read it."""

    project: str
    resource_id: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The new values of the fields that a change names."""

    which: Which
    changes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListResources:
    """Those behind the id in `after`, the groups of SORT_KEY."""

    project: str
    size: int
    after: Sequence[str] | None = None


def find_resource(store: ResourceStore[R], noun: str, which: Which) -> R:
    """The resource as it is now; NOT_FOUND, or ABORTED when it changed since it was read."""
    found = store.get(which.project, which.resource_id)
    if found is None:
        raise errors.not_found(noun, which.resource_id)
    if which.etag and which.etag != found.etag:
        raise errors.stale_etag(f"{noun} {which.resource_id}", which.etag, found.etag)
    return found


def require_free(store: ResourceStore[R], noun: str, project: str, resource_id: str) -> None:
    """ALREADY_EXISTS when the id is taken: said before anything that takes time is tried."""
    if store.get(project, resource_id) is not None:
        raise errors.already_exists(noun, resource_id)


def change_resource(store: ResourceStore[R], old: R, change: Change, at: Revision) -> R:
    """The resource with its new values, kept; a change to what is there already changes nothing."""
    new = replace(old, **change.changes)  # type: ignore[arg-type]  # fields of the kind, as decoded
    if new == old:
        return old
    new = replace(new, config_version=at.config_version)
    store.replace(old, new)
    return new


def list_resources(command: ListResources, store: ResourceStore[R]) -> tuple[list[R], str]:
    """The page and the id of its last resource, empty when nothing follows."""
    # One more than asked for tells whether anything follows.
    after = command.after[0] if command.after else ""
    found = store.page(command.project, after, command.size + 1)
    page = list(found[: command.size])
    return page, page[-1].resource_id if len(found) > command.size else ""
