"""Channel groupings in the state database. A deleted one leaves its last version number behind."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.attribution.application.channel_groupings import grouping_name
from services.attribution.ports import GroupingStore, StoredGrouping
from shared import errors
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_tables = sa.MetaData()
groupings = sa.Table(
    "channel_groupings",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("grouping_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger),
    sa.Column("first_version", sa.BigInteger),
    sa.Column("create_time", UtcTime()),
    sa.Column("delete_time", UtcTime()),
)
versions = sa.Table(
    "channel_grouping_versions",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("grouping_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("update_time", UtcTime()),
    sa.Column("document", sa.LargeBinary),
)


def migrate_groupings(database: Database) -> None:
    """Brings the tables of this module to the schema that it expects."""
    migrate(database, "attribution_groupings", Path(__file__).parent / "grouping_migrations")


@dataclass(frozen=True, slots=True)
class SqlGroupings:
    """See Groupings."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[GroupingStore]:
        """See Groupings."""
        with self.database.read() as connection:
            yield SqlGroupingStore(connection)

    def within(self, connection: sa.Connection) -> GroupingStore:
        """See Groupings."""
        return SqlGroupingStore(connection)


@dataclass(frozen=True, slots=True)
class SqlGroupingStore:
    """See GroupingStore; one transaction."""

    connection: sa.Connection

    def get(self, project: str, grouping_id: str, version: int = 0) -> StoredGrouping | None:
        """See GroupingStore."""
        query = _kept(project).where(
            groupings.c.grouping_id == grouping_id,
            versions.c.version == (version or groupings.c.version),
        )
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _grouping(row)

    def insert(
        self, project: str, grouping_id: str, document: bytes, now: dt.datetime
    ) -> StoredGrouping:
        """See GroupingStore."""
        of = (groupings.c.project == project) & (groupings.c.grouping_id == grouping_id)
        row = self.connection.execute(sa.select(groupings).where(of)).one_or_none()
        taken = errors.already_exists("channel grouping", grouping_name(project, grouping_id))
        if row is not None and row.delete_time is None:
            raise taken
        made = StoredGrouping(
            project, grouping_id, 1 if row is None else row.version + 1, now, now, document
        )
        state = {
            "version": made.version,
            "first_version": made.version,
            "create_time": now,
            "delete_time": None,
        }
        head: Any = sa.insert(groupings).values(project=project, grouping_id=grouping_id, **state)
        if row is not None:
            head = sa.update(groupings).where(of).values(**state)
        try:
            self.connection.execute(head)
            self._keep_version(made)
        except IntegrityError as error:
            raise taken from error
        return made

    def replace(self, old: StoredGrouping, document: bytes, now: dt.datetime) -> StoredGrouping:
        """See GroupingStore."""
        new = StoredGrouping(
            old.project, old.grouping_id, old.version + 1, old.create_time, now, document
        )
        self._change(old, version=new.version)
        self._keep_version(new)
        return new

    def delete(self, old: StoredGrouping, now: dt.datetime) -> None:
        """See GroupingStore."""
        self._change(old, delete_time=now)

    def count(self, project: str) -> int:
        """See GroupingStore."""
        query = sa.select(sa.func.count()).where(
            groupings.c.project == project, groupings.c.delete_time.is_(None)
        )
        return int(self.connection.execute(query).scalar_one())

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredGrouping]:
        """See GroupingStore."""
        query = _kept(project).where(
            groupings.c.grouping_id > after, versions.c.version == groupings.c.version
        )
        rows = self.connection.execute(query.order_by(groupings.c.grouping_id).limit(limit))
        return [_grouping(row) for row in rows]

    def versions(
        self, project: str, grouping_id: str, before: int | None, limit: int
    ) -> Sequence[StoredGrouping]:
        """See GroupingStore."""
        query = _kept(project).where(groupings.c.grouping_id == grouping_id)
        if before is not None:
            query = query.where(versions.c.version < before)
        rows = self.connection.execute(query.order_by(versions.c.version.desc()).limit(limit))
        return [_grouping(row) for row in rows]

    def _change(self, old: StoredGrouping, **values: Any) -> None:
        changed = self.connection.execute(
            sa.update(groupings)
            .where(
                groupings.c.project == old.project,
                groupings.c.grouping_id == old.grouping_id,
                groupings.c.version == old.version,
                groupings.c.delete_time.is_(None),
            )
            .values(**values)
        )
        if changed.rowcount != 1:
            current = self.get(old.project, old.grouping_id)
            name = grouping_name(old.project, old.grouping_id)
            raise errors.stale_etag(name, old.etag, current.etag if current else "")

    def _keep_version(self, made: StoredGrouping) -> None:
        values = {column.name: getattr(made, column.name) for column in versions.c}
        self.connection.execute(sa.insert(versions).values(**values))


def _kept(project: str) -> sa.Select[Any]:
    """The versions of groupings that are there."""
    same = [groupings.c[name] == versions.c[name] for name in ("project", "grouping_id")]
    return (
        sa.select(versions, groupings.c.create_time)
        .join(groupings, sa.and_(*same))
        .where(
            groupings.c.project == project,
            groupings.c.delete_time.is_(None),
            versions.c.version >= groupings.c.first_version,
        )
    )


def _grouping(row: Any) -> StoredGrouping:
    return StoredGrouping(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
