"""Retention in the state database, and in memory for the events that arrive."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.events.domain.limits import MICROSECONDS
from services.events.domain.retention import Retention
from shared import errors
from shared.clock import Clock
from shared.resource_names import project_name
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_EPOCH = dt.date(1970, 1, 1)
_DAY_US = 86_400 * MICROSECONDS
retention = sa.Table(
    "retention",
    sa.MetaData(),
    sa.Column("project", text(64), primary_key=True),
    sa.Column("days", text(1024)),
    sa.Column("version", sa.BigInteger),
    sa.Column("update_time", UtcTime()),
)


def migrate_retention(database: Database) -> None:
    """Brings the table to the schema that this program expects."""
    migrate(database, "retention", Path(__file__).parent / "retention_migrations")


@dataclass(frozen=True, slots=True)
class SqlRetention:
    """Retention within one transaction of the state database."""

    connection: sa.Connection

    def get(self, project: str) -> Retention:
        """The project's rules; without any, all is kept."""
        query = sa.select(retention).where(retention.c.project == project)
        row = self.connection.execute(query).one_or_none()
        return Retention(project) if row is None else _retention(row)

    def every(self) -> list[Retention]:
        """The rules of every project that has some."""
        return [_retention(row) for row in self.connection.execute(sa.select(retention))]

    def replace(self, new: Retention, etag: str, now: dt.datetime) -> Retention:
        """The rules as stored. Raises ABORTED when the etag is given and another is current."""
        old = self.get(new.project)
        if etag and etag != old.etag:
            name = f"{project_name(new.project)}/retention"
            raise errors.stale_etag(name, etag, old.etag)
        stored = Retention(new.project, dict(new.days), old.version + 1, now)
        values: dict[str, Any] = {
            "days": json.dumps(dict(sorted(stored.days.items()))),
            "version": stored.version,
            "update_time": now,
        }
        if old.version:
            change = sa.update(retention).where(retention.c.project == new.project).values(values)
            self.connection.execute(change)
        else:
            insert = sa.insert(retention).values(project=new.project, **values)
            self.connection.execute(insert)
        return stored


class KnownRetention:
    """See RetentionRules. It knows the rules as they were when `reload` was called."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rules: Mapping[str, Retention] = {}
        self.reload()

    def reload(self) -> None:
        """Read every rule anew."""
        with self._database.read() as connection:
            self._rules = {one.project: one for one in SqlRetention(connection).every()}

    def every(self) -> list[Retention]:
        """The rules of every project that has some."""
        return list(self._rules.values())

    def oldest_us(self, project: str, table: str) -> int:
        """See RetentionRules."""
        rules = self._rules.get(project)
        if rules is None:
            return 0
        day = rules.oldest_day(table, self._clock.now().astimezone(dt.UTC).date())
        return 0 if day is None else max(0, (day - _EPOCH).days * _DAY_US)


def _retention(row: sa.Row[Any]) -> Retention:
    return Retention(row.project, json.loads(row.days), row.version, row.update_time)
