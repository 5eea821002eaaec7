"""Operations in the state database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shared import errors
from shared.operations.operation import COLLECTION, Operation
from shared.resource_names import resource_name
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.paging import Page
from shared.state.types import UtcTime, text

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
KEPT = dt.timedelta(days=90)
"""How long a finished operation is kept."""

operations = sa.Table(
    "operations",
    sa.MetaData(),
    sa.Column("project", text(64), primary_key=True),
    sa.Column("operation_id", text(63), primary_key=True),
    sa.Column("kind", text(63)),
    sa.Column("request", sa.LargeBinary),
    sa.Column("progress", sa.LargeBinary),
    sa.Column("done", sa.Boolean),
    sa.Column("response", sa.LargeBinary),
    sa.Column("error", sa.LargeBinary),
    sa.Column("cancel_requested", sa.Boolean),
    sa.Column("attempts", sa.Integer),
    sa.Column("not_before", UtcTime()),
    sa.Column("runner", text(32)),
    sa.Column("lease_until", UtcTime()),
    sa.Column("create_time", UtcTime()),
    sa.Column("update_time", UtcTime()),
    sa.Column("end_time", UtcTime()),
)
_with_lost = operations.c.attempts + sa.case((operations.c.runner != "", 1), else_=0)
"""The attempts, with that of a process that ended while it worked."""
_SHOWN = (
    "project",
    "operation_id",
    "kind",
    "request",
    "progress",
    "done",
    "response",
    "error",
    "cancel_requested",
    "attempts",
    "create_time",
    "end_time",
)


def migrate_operations(database: Database) -> None:
    """Brings the table to the schema that this program expects."""
    migrate(database, "operations", Path(__file__).parent / "migrations")


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on an operation, and until when nobody else may."""

    runner: str
    until: dt.datetime


class SqlOperations:
    """Operations within one transaction of the state database."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def insert(self, operation: Operation) -> None:
        """Stores a new operation that may begin at once. The oldest finished ones are dropped."""
        self._connection.execute(
            sa.delete(operations).where(operations.c.end_time < operation.create_time - KEPT)
        )
        values = {name: getattr(operation, name) for name in _SHOWN}
        self._connection.execute(
            sa.insert(operations).values(
                **values,
                not_before=EPOCH,
                runner="",
                lease_until=EPOCH,
                update_time=operation.create_time,
            )
        )

    def get(self, project: str, operation_id: str) -> Operation:
        """The project's operation. Raises NOT_FOUND."""
        query = _select().where(_is(project, operation_id))
        row = self._connection.execute(query).one_or_none()
        if row is None:
            name = resource_name(project, COLLECTION, operation_id)
            raise errors.not_found("operation", name)
        return _operation(row)

    def page(self, project: str, page: Page, done: bool | None) -> tuple[list[Operation], str]:
        """Operations of the project, newest first, and the token of the next page."""
        query = _select().where(operations.c.project == project)
        if done is not None:
            query = query.where(operations.c.done == done)
        place = page.place(r"([0-9]{1,17}):([0-9a-z-]{1,63})")
        if place is not None:
            made = EPOCH + dt.timedelta(microseconds=int(place[0]))
            older = operations.c.create_time < made
            tied = (operations.c.create_time == made) & (operations.c.operation_id < place[1])
            query = query.where(older | tied)
        rows = self._connection.execute(
            query.order_by(operations.c.create_time.desc(), operations.c.operation_id.desc()).limit(
                page.size + 1
            )
        )
        found = [_operation(row) for row in rows]
        shown = found[: page.size]
        return shown, page.token(_sort_key(shown[-1])) if len(found) > page.size else ""

    def anything_due(self, kinds: Sequence[str], now: dt.datetime) -> bool:
        """Whether `claim` would find something."""
        return self._connection.execute(_due(kinds, now).limit(1)).first() is not None

    def unfinished(self, kinds: Sequence[str]) -> list[str]:
        """The ids of the operations of these kinds that have not ended, of every project."""
        query = sa.select(operations.c.operation_id).where(
            operations.c.kind.in_(kinds), operations.c.done == sa.false()
        )
        return list(self._connection.execute(query).scalars())

    def waited_for(self, project: str, kind: str) -> list[Operation]:
        """The operations of the kind that a project waits for, in no order."""
        query = _select().where(
            operations.c.project == project,
            operations.c.kind == kind,
            operations.c.done == sa.false(),
        )
        return [_operation(row) for row in self._connection.execute(query)]

    def claim(
        self, kinds: Sequence[str], now: dt.datetime, lease: Lease, limit: int
    ) -> list[Operation]:
        """Take unfinished operations of the kinds that are due and that nobody works on.

        One that somebody worked on who let it go without a word counts that as an attempt.
        """
        due = _due(kinds, now).limit(limit)
        if self._connection.dialect.name == "postgresql":
            due = due.with_for_update(skip_locked=True)
        found = [_operation(row) for row in self._connection.execute(due)]
        for operation in found:
            values = {"runner": lease.runner, "lease_until": lease.until}
            self._update(operation, attempts=_with_lost, **values)
        return found

    def extend(self, lease: Lease) -> None:
        """Keep everything that the runner works on for longer."""
        self._connection.execute(
            sa.update(operations)
            .where(operations.c.runner == lease.runner, operations.c.done == sa.false())
            .values(lease_until=lease.until)
        )

    def forget_leases(self, kinds: Sequence[str]) -> None:
        """Nobody works on operations of these kinds: their only runner starts."""
        self._connection.execute(
            sa.update(operations)
            .where(operations.c.kind.in_(kinds), operations.c.done == sa.false())
            .values(runner="", lease_until=EPOCH, attempts=_with_lost)
        )

    def record(self, operation: Operation, runner: str, values: Mapping[str, Any]) -> bool:
        """Change an unfinished operation that the runner works on; False when it does not."""
        changed = self._connection.execute(
            sa.update(operations)
            .where(
                _is(operation.project, operation.operation_id),
                operations.c.runner == runner,
                operations.c.done == sa.false(),
            )
            .values(**values)
        )
        return bool(changed.rowcount)

    def request_cancel(self, operation: Operation, now: dt.datetime) -> None:
        """Ask whoever works on it to stop."""
        self._update(operation, cancel_requested=True, not_before=EPOCH, update_time=now)

    def delete(self, operation: Operation) -> None:
        """Forget it."""
        self._connection.execute(
            sa.delete(operations).where(_is(operation.project, operation.operation_id))
        )

    def _update(self, operation: Operation, **values: Any) -> None:
        self._connection.execute(
            sa.update(operations)
            .where(_is(operation.project, operation.operation_id))
            .values(**values)
        )


def _select() -> sa.Select[Any]:
    return sa.select(*(operations.c[name] for name in _SHOWN))


def _due(kinds: Sequence[str], now: dt.datetime) -> sa.Select[Any]:
    return (
        _select()
        .where(
            operations.c.done == sa.false(),
            operations.c.kind.in_(kinds),
            operations.c.not_before <= now,
            operations.c.lease_until <= now,
        )
        .order_by(operations.c.create_time, operations.c.operation_id)
    )


def _is(project: str, operation_id: str) -> sa.ColumnElement[bool]:
    return (operations.c.project == project) & (operations.c.operation_id == operation_id)


def _sort_key(operation: Operation) -> str:
    since = (operation.create_time - EPOCH) // dt.timedelta(microseconds=1)
    return f"{since}:{operation.operation_id}"


def _operation(row: sa.Row[Any]) -> Operation:
    return Operation(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
