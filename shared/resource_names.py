"""Resource names: `projects/{project}/{collection}/{id}`, checked against the caller's project."""

from __future__ import annotations

from shared import errors
from shared.errors import Code, DomainError


class OtherTenantError(DomainError):
    """The name is of a project that is not the caller's. To the caller it looks like any name
    that does not exist; the audit log remembers the attempt.
    """

    def __init__(self, kind: str, name: str) -> None:
        plain = errors.not_found(kind, name)
        super().__init__(Code.NOT_FOUND, plain.reason, plain.message, metadata=plain.metadata)


def project_name(project: str) -> str:
    """The resource name of a project."""
    return f"projects/{project}"


def resource_name(project: str, collection: str, resource_id: str) -> str:
    """The resource name of one resource."""
    return f"projects/{project}/{collection}/{resource_id}"


def require_parent(parent: str, project: str) -> None:
    """Raises NOT_FOUND unless `parent` is the caller's own project.

    Another tenant's project and one that does not exist look the same.
    """
    if parent != project_name(project):
        raise OtherTenantError("project", parent)


def require_id(name: str, project: str, collection: str) -> str:
    """The id in a resource name of the caller's project.

    Raises INVALID_ARGUMENT for a name of another form, NOT_FOUND for one of another project.
    """
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != collection or "" in parts:
        raise errors.invalid("name", name, f"projects/{{project}}/{collection}/{{id}}")
    if parts[1] != project:
        raise OtherTenantError(collection.removesuffix("s"), name)
    return parts[3]
