"""Read and change the identity policy of a project."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared import errors
from shared.identity.policy import IdentityPolicy, StoredPolicy

Patch = Callable[[IdentityPolicy], IdentityPolicy]


class IdentityPolicies(Protocol):
    """The policies of all projects, inside one transaction; every version is kept."""

    def current(self, project: str) -> StoredPolicy:
        """The newest version; version 0, the default, where nobody made one."""
        ...

    def at(self, project: str, version: int) -> StoredPolicy | None:
        """A version as it was made, or None where there was none."""
        ...

    def add(self, project: str, new: StoredPolicy) -> None:
        """Keep the version behind the newest; ABORTED when another came in between."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyToChange:
    """Whose policy, under which resource name, and as the caller saw it (empty etag: in any)."""

    project: str
    name: str
    etag: str


def get_policy(project: str, name: str, version: int, policies: IdentityPolicies) -> StoredPolicy:
    """The newest version, or a certain one; NOT_FOUND for one that was never made."""
    if not version:
        return policies.current(project)
    found = policies.at(project, version)
    if found is None:
        raise errors.not_found("identity policy version", f"{name} version {version}")
    return found


def update_policy(
    target: PolicyToChange, patch: Patch, policies: IdentityPolicies, now: dt.datetime
) -> StoredPolicy:
    """Keeps the patched policy as the next version; ABORTED when the etag is another one."""
    old = policies.current(target.project)
    if target.etag and target.etag != old.etag:
        raise errors.stale_etag(target.name, target.etag, old.etag)
    new = StoredPolicy(patch(old.policy), old.version + 1, now)
    policies.add(target.project, new)
    return new
