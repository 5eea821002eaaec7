"""Keys that no RPC makes: whoever operates the state database does, on the machine itself."""

from __future__ import annotations

from shared.clock import Clock
from shared.ids import IdGenerator
from shared.security.audit import OPERATOR, AuditEvent, AuditKeys, SqlAuditLog
from shared.security.caller import PROJECT_ROLES, Role
from shared.security.keys import NewKey, SqlKeyStore, make_key
from shared.state.database import Database


def make_owner_key(
    database: Database, audit_keys: AuditKeys, clock: Clock, ids: IdGenerator, project: str
) -> NewKey:
    """Makes the project if it is new, and a key that holds every role in it. Both are audited."""
    new = make_key(ids, project, "owner", PROJECT_ROLES, clock.now())
    _store(database, audit_keys, new)
    return new


def make_operator_key(
    database: Database, audit_keys: AuditKeys, clock: Clock, ids: IdGenerator, project: str
) -> NewKey:
    """Makes the project if it is new, and a key in it that may look after the installation.

    It can do nothing else: no event, experiment or result of any project is open to it.
    """
    new = make_key(ids, project, "operator", frozenset({Role.OPERATOR}), clock.now())
    _store(database, audit_keys, new)
    return new


def _store(database: Database, audit_keys: AuditKeys, new: NewKey) -> None:
    key = new.key
    with database.begin() as connection:
        keys = SqlKeyStore(connection)
        if not keys.has_project(key.project):
            keys.add_project(key.project, key.create_time)
        keys.add(key)
        SqlAuditLog(connection, audit_keys).append(
            AuditEvent(
                project=key.project,
                time=key.create_time,
                actor=OPERATOR,
                method=f"make {key.display_name} key",
                resource=f"projects/{key.project}/keys/{key.key_id}",
            )
        )
