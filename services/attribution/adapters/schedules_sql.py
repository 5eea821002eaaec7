"""Schedules of reports in the state database."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.attribution.application.report_schedules import schedule_name
from services.attribution.ports import ScheduleStore, StoredSchedule
from shared import errors
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_tables = sa.MetaData()
schedules = sa.Table(
    "report_schedules",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("schedule_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger),
    sa.Column("turn", sa.BigInteger),
    sa.Column("create_time", UtcTime()),
    sa.Column("update_time", UtcTime()),
    sa.Column("next_time", UtcTime()),
    sa.Column("paused", sa.Boolean),
    sa.Column("operation_id", text(63)),
    sa.Column("document", sa.LargeBinary),
    sa.Column("state", sa.LargeBinary),
)
made = sa.Table(
    "scheduled_reports",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("report_id", text(63), primary_key=True),
    sa.Column("schedule_id", text(63)),
    sa.Column("create_time", UtcTime()),
)


def migrate_schedules(database: Database) -> None:
    """Brings the tables of this module to the schema that it expects."""
    migrate(database, "attribution_schedules", Path(__file__).parent / "schedule_migrations")


@dataclass(frozen=True, slots=True)
class SqlSchedules:
    """See Schedules."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[ScheduleStore]:
        """See Schedules."""
        with self.database.read() as connection:
            yield SqlScheduleStore(connection)

    def within(self, connection: sa.Connection) -> ScheduleStore:
        """See Schedules."""
        return SqlScheduleStore(connection)


@dataclass(frozen=True, slots=True)
class SqlScheduleStore:
    """See ScheduleStore; one transaction."""

    connection: sa.Connection

    def get(self, project: str, schedule_id: str) -> StoredSchedule | None:
        """See ScheduleStore."""
        row = self.connection.execute(
            sa.select(schedules).where(_is(project, schedule_id))
        ).one_or_none()
        return None if row is None else _schedule(row)

    def insert(self, schedule: StoredSchedule) -> None:
        """See ScheduleStore."""
        name = schedule_name(schedule.project, schedule.schedule_id)
        taken = errors.already_exists("report schedule", name)
        if self.get(schedule.project, schedule.schedule_id) is not None:
            raise taken
        try:
            self.connection.execute(sa.insert(schedules).values(**_values(schedule)))
        except IntegrityError as error:
            raise taken from error

    def replace(self, old: StoredSchedule, new: StoredSchedule) -> None:
        """See ScheduleStore."""
        values = _values(new) | {"turn": old.turn + 1}
        change = sa.update(schedules).where(_still(old)).values(**values)
        self._require(self.connection.execute(change).rowcount, old)

    def delete(self, old: StoredSchedule) -> None:
        """See ScheduleStore."""
        gone = sa.delete(schedules).where(_still(old))
        self._require(self.connection.execute(gone).rowcount, old)
        self.connection.execute(
            sa.delete(made).where(
                made.c.project == old.project, made.c.schedule_id == old.schedule_id
            )
        )

    def count(self, project: str) -> int:
        """See ScheduleStore."""
        query = sa.select(sa.func.count()).where(schedules.c.project == project)
        return int(self.connection.execute(query).scalar_one())

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredSchedule]:
        """See ScheduleStore."""
        query = sa.select(schedules).where(
            schedules.c.project == project, schedules.c.schedule_id > after
        )
        rows = self.connection.execute(query.order_by(schedules.c.schedule_id).limit(limit))
        return [_schedule(row) for row in rows]

    def due(self, now: dt.datetime, limit: int) -> Sequence[StoredSchedule]:
        """See ScheduleStore."""
        waits = (schedules.c.paused == sa.false()) & (schedules.c.next_time <= now)
        query = sa.select(schedules).where((schedules.c.operation_id != "") | waits)
        order = (schedules.c.next_time, schedules.c.project, schedules.c.schedule_id)
        rows = self.connection.execute(query.order_by(*order).limit(limit))
        return [_schedule(row) for row in rows]

    def note_report(self, project: str, schedule_id: str, report_id: str, now: dt.datetime) -> None:
        """See ScheduleStore."""
        self.connection.execute(
            sa.insert(made).values(
                project=project, schedule_id=schedule_id, report_id=report_id, create_time=now
            )
        )

    def surplus(self, project: str, schedule_id: str, keep: int) -> Sequence[str]:
        """See ScheduleStore."""
        newest = (made.c.create_time.desc(), made.c.report_id.desc())
        query = sa.select(made.c.report_id).where(
            made.c.project == project, made.c.schedule_id == schedule_id
        )
        return list(self.connection.execute(query.order_by(*newest)).scalars())[keep:]

    def forget_report(self, project: str, report_id: str) -> None:
        """See ScheduleStore."""
        self.connection.execute(
            sa.delete(made).where(made.c.project == project, made.c.report_id == report_id)
        )

    def _require(self, changed: int, old: StoredSchedule) -> None:
        if changed != 1:
            current = self.get(old.project, old.schedule_id)
            name = schedule_name(old.project, old.schedule_id)
            raise errors.stale_etag(name, old.etag, current.etag if current else "")


def _is(project: str, schedule_id: str) -> sa.ColumnElement[bool]:
    return (schedules.c.project == project) & (schedules.c.schedule_id == schedule_id)


def _still(old: StoredSchedule) -> sa.ColumnElement[bool]:
    # One that was deleted and made anew has the same turn again, and another time of its making.
    same = (schedules.c.turn == old.turn) & (schedules.c.create_time == old.create_time)
    return _is(old.project, old.schedule_id) & same


def _values(schedule: StoredSchedule) -> dict[str, Any]:
    return {column.name: getattr(schedule, column.name) for column in schedules.c}


def _schedule(row: Any) -> StoredSchedule:
    return StoredSchedule(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
