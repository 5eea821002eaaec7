"""Identity policies in the state database: versions are added, none is changed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from shared import errors
from shared.identity.policy import IdentityPolicy, IdType, StoredPolicy
from shared.resource_names import project_name
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_tables = sa.MetaData()
policies = sa.Table(
    "identity_policies",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("create_time", UtcTime()),
    sa.Column("document", sa.Text),
)


class PolicySource(Protocol):
    """Where readers of the event tables find the policy of a project."""

    def current(self, project: str) -> StoredPolicy:
        """The newest version; version 0 where nobody made one. UNAVAILABLE without the store."""
        ...


def migrate_identity(database: Database) -> None:
    """Brings the table of this module to the schema that it expects."""
    migrate(database, "identity", Path(__file__).parent / "migrations")


def policy_name(project: str) -> str:
    """The resource name of a project's policy."""
    return f"{project_name(project)}/identityPolicy"


@dataclass(frozen=True, slots=True)
class SqlPolicySource:
    """See PolicySource."""

    database: Database

    def current(self, project: str) -> StoredPolicy:
        """See PolicySource."""
        with self.database.read() as connection:
            return SqlIdentityPolicies(connection).current(project)


@dataclass(frozen=True, slots=True)
class SqlIdentityPolicies:
    """The policies of all projects, inside one transaction. Projects are compared exactly."""

    connection: sa.Connection

    def current(self, project: str) -> StoredPolicy:
        """The newest version; version 0, the default, where nobody made one."""
        newest = _of(project).order_by(policies.c.version.desc()).limit(1)
        row = self.connection.execute(newest).one_or_none()
        return StoredPolicy() if row is None else _stored(row)

    def at(self, project: str, version: int) -> StoredPolicy | None:
        """A version as it was made, or None where there was none. Version 0 always is."""
        if version == 0:
            return StoredPolicy()
        query = _of(project).where(policies.c.version == version)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _stored(row)

    def add(self, project: str, new: StoredPolicy) -> None:
        """Keep the version behind the newest; ABORTED when another came in between."""
        try:
            self.connection.execute(
                sa.insert(policies).values(
                    project=project,
                    version=new.version,
                    create_time=new.create_time,
                    document=json.dumps(asdict(new.policy), sort_keys=True, ensure_ascii=False),
                )
            )
        except IntegrityError as error:
            given = str(new.version - 1)
            raise errors.stale_etag(policy_name(project), given, "a later one") from error


def _of(project: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(policies).where(policies.c.project == project)


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredPolicy:
    fields = json.loads(row.document)
    policy = IdentityPolicy(
        id_types=tuple(IdType(**one) for one in fields["id_types"]),
        default_limit=fields["default_limit"],
        blocked_ids=tuple(fields["blocked_ids"]),
    )
    return StoredPolicy(policy, row.version, row.create_time)
