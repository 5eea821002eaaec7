"""The first key of a project: made by whoever operates the state database, not through an RPC."""

from __future__ import annotations

import datetime as dt

from shared.clock import Clock
from shared.ids import IdGenerator
from shared.security.audit import OPERATOR, AuditEvent, AuditKeys, SqlAuditLog
from shared.security.caller import Role
from shared.security.keys import NewKey, SqlKeyStore, make_key
from shared.state.database import Database


def make_owner_key(
    database: Database, audit_keys: AuditKeys, clock: Clock, ids: IdGenerator, project: str
) -> NewKey:
    """Makes the project if it is new, and a key that holds every role in it. Both are audited."""
    now: dt.datetime = clock.now()
    new = make_key(ids, project, "owner", frozenset(Role), now)
    with database.begin() as connection:
        keys = SqlKeyStore(connection)
        if not keys.has_project(project):
            keys.add_project(project, now)
        keys.add(new.key)
        SqlAuditLog(connection, audit_keys).append(
            AuditEvent(
                project=project,
                time=now,
                actor=OPERATOR,
                method="make owner key",
                resource=f"projects/{project}/keys/{new.key.key_id}",
            )
        )
    return new
