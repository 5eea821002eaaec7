"""The audit log as the operator of the state database reads it: any chain, without a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from touchstone.common.v1 import access_service_pb2 as pb

from services.cli.settings import CliSettings
from shared import errors
from shared.security.audit import SqlAuditLog
from shared.server.access import entry_message, verification_message
from shared.server.platform import open_platform


def list_chain(settings: CliSettings, project: str, limit: int) -> pb.ListAuditEntriesResponse:
    """The first `limit` entries of a project's chain. Raises INVALID_ARGUMENT when it has none."""
    with _audit_log(settings, project) as log:
        entries = log.entries(project, limit=limit + 1)
    return pb.ListAuditEntriesResponse(
        entries=[entry_message(entry) for entry in entries[:limit]],
        next_page_token="more" if len(entries) > limit else "",
    )


def verify_chain(settings: CliSettings, project: str) -> pb.VerifyAuditLogResponse:
    """What a walk along a project's chain finds. Raises INVALID_ARGUMENT when it has none."""
    with _audit_log(settings, project) as log:
        return verification_message(log.verify(project))


@contextmanager
def _audit_log(settings: CliSettings, project: str) -> Iterator[SqlAuditLog]:
    platform = open_platform(settings)
    try:
        with platform.database.read() as connection:
            log = SqlAuditLog(connection, platform.audit_keys)
            if project not in (known := log.projects()):
                raise errors.invalid("--project", project, f"one of {', '.join(known) or 'none'}")
            yield log
    finally:
        platform.database.close()
