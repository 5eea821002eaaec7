"""Links of channels to experiments in the state database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.attribution.application.calibration_links import link_name
from services.attribution.application.calibration_ports import LinkStore, StoredLink
from shared import errors
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_tables = sa.MetaData()
links = sa.Table(
    "calibration_links",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("link_id", text(63), primary_key=True),
    sa.Column("create_time", UtcTime()),
    sa.Column("document", sa.LargeBinary),
)


def migrate_calibration(database: Database) -> None:
    """Brings the tables of this module to the schema that it expects."""
    migrate(database, "attribution_calibration", Path(__file__).parent / "calibration_migrations")


@dataclass(frozen=True, slots=True)
class SqlLinks:
    """See Links."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[LinkStore]:
        """See Links."""
        with self.database.read() as connection:
            yield SqlLinkStore(connection)

    def within(self, connection: sa.Connection) -> LinkStore:
        """See Links."""
        return SqlLinkStore(connection)


@dataclass(frozen=True, slots=True)
class SqlLinkStore:
    """See LinkStore; one transaction."""

    connection: sa.Connection

    def get(self, project: str, link_id: str) -> StoredLink | None:
        """See LinkStore."""
        query = sa.select(links).where(links.c.project == project, links.c.link_id == link_id)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _link(row)

    def insert(self, link: StoredLink) -> None:
        """See LinkStore."""
        taken = errors.already_exists("calibration link", link_name(link.project, link.link_id))
        if self.get(link.project, link.link_id) is not None:
            raise taken
        values = {column.name: getattr(link, column.name) for column in links.c}
        try:
            self.connection.execute(sa.insert(links).values(**values))
        except IntegrityError as error:
            raise taken from error

    def delete(self, project: str, link_id: str) -> bool:
        """See LinkStore."""
        gone = sa.delete(links).where(links.c.project == project, links.c.link_id == link_id)
        return bool(self.connection.execute(gone).rowcount)

    def count(self, project: str) -> int:
        """See LinkStore."""
        query = sa.select(sa.func.count()).where(links.c.project == project)
        return int(self.connection.execute(query).scalar_one())

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredLink]:
        """See LinkStore."""
        query = sa.select(links).where(links.c.project == project, links.c.link_id > after)
        rows = self.connection.execute(query.order_by(links.c.link_id).limit(limit))
        return [_link(row) for row in rows]


def _link(row: Any) -> StoredLink:
    return StoredLink(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
