"""Spend in the state database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.attribution.domain.economics import Spend, SpendKey
from services.attribution.spend_ports import SpendSelection, SpendStore
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import text

_KEYS_AT_ONCE = 500
_tables = sa.MetaData()
spend = sa.Table(
    "channel_spend",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("channel", text(128), primary_key=True),
    sa.Column("campaign", text(128), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("source", text(128), primary_key=True),
    sa.Column("amount", sa.Double),
    sa.Column("currency", text(3)),
)
_KEY = sa.tuple_(spend.c.channel, spend.c.campaign, spend.c.day, spend.c.source)


def migrate_spend(database: Database) -> None:
    """Brings the table of spend to the schema that is expected."""
    migrate(database, "attribution_spend", Path(__file__).parent / "spend_migrations")


@dataclass(frozen=True, slots=True)
class SqlLedger:
    """See Ledger."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[SpendStore]:
        """See Ledger."""
        with self.database.read() as connection:
            yield SqlSpendStore(connection)

    def within(self, connection: sa.Connection) -> SpendStore:
        """See Ledger."""
        return SqlSpendStore(connection)


@dataclass(frozen=True, slots=True)
class SqlSpendStore:
    """See SpendStore; one transaction."""

    connection: sa.Connection

    def known(self, project: str, keys: Sequence[SpendKey]) -> Sequence[Spend]:
        """See SpendStore."""
        found: list[Spend] = []
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = [key.sort_key() for key in keys[begin : begin + _KEYS_AT_ONCE]]
            query = sa.select(spend).where(spend.c.project == project, _KEY.in_(some))
            found += [_spend(row) for row in self.connection.execute(query)]
        return found

    def count(self, project: str) -> int:
        """See SpendStore."""
        query = sa.select(sa.func.count()).where(spend.c.project == project)
        return int(self.connection.execute(query).scalar_one())

    def put(self, project: str, rows: Sequence[Spend]) -> None:
        """See SpendStore."""
        if not rows:
            return
        self.remove(project, [row.key for row in rows])
        self.connection.execute(sa.insert(spend), [_columns(project, row) for row in rows])

    def remove(self, project: str, keys: Sequence[SpendKey]) -> None:
        """See SpendStore."""
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = [key.sort_key() for key in keys[begin : begin + _KEYS_AT_ONCE]]
            gone = sa.delete(spend).where(spend.c.project == project, _KEY.in_(some))
            self.connection.execute(gone)

    def delete(self, selection: SpendSelection) -> int:
        """See SpendStore."""
        return self.connection.execute(sa.delete(spend).where(*_selected(selection))).rowcount

    def page(
        self, selection: SpendSelection, after: SpendKey | None, limit: int
    ) -> Sequence[Spend]:
        """See SpendStore."""
        query = sa.select(spend).where(*_selected(selection))
        if after is not None:
            query = query.where(sa.tuple_(*after.sort_key()) < _KEY)
        ordered = query.order_by(*_KEY.clauses).limit(limit)
        return [_spend(row) for row in self.connection.execute(ordered)]


def _selected(selection: SpendSelection) -> Iterator[sa.ColumnElement[bool]]:
    yield spend.c.project == selection.project
    if selection.source:
        yield spend.c.source == selection.source
    if selection.channel:
        yield spend.c.channel == selection.channel
    if selection.first_day is not None:
        yield spend.c.day >= selection.first_day
    if selection.last_day is not None:
        yield spend.c.day <= selection.last_day


def _columns(project: str, row: Spend) -> dict[str, Any]:
    return {
        "project": project,
        "channel": row.key.channel,
        "campaign": row.key.campaign,
        "day": row.key.day,
        "source": row.key.source,
        "amount": row.amount,
        "currency": row.currency,
    }


def _spend(row: Any) -> Spend:
    key = SpendKey(row.source, row.channel, row.campaign, row.day)
    return Spend(key, row.amount, row.currency)
