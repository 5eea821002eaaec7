"""Reports in the state database."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.attribution.application.reports import report_name
from services.attribution.ports import ReportStore, StoredReport
from shared import errors
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

_tables = sa.MetaData()
reports = sa.Table(
    "attribution_reports",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("report_id", text(63), primary_key=True),
    sa.Column("create_time", UtcTime()),
    sa.Column("document", sa.LargeBinary),
    sa.Column("paths", sa.LargeBinary),
)


def migrate_attribution(database: Database) -> None:
    """Brings the tables of the attribution service to the schema that it expects."""
    migrate(database, "attribution", Path(__file__).parent / "migrations")


@dataclass(frozen=True, slots=True)
class SqlReports:
    """See Reports."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[ReportStore]:
        """See Reports."""
        with self.database.read() as connection:
            yield SqlReportStore(connection)

    @contextmanager
    def begin(self) -> Iterator[ReportStore]:
        """See Reports."""
        with self.database.begin() as connection:
            yield SqlReportStore(connection)

    def within(self, connection: sa.Connection) -> ReportStore:
        """See Reports."""
        return SqlReportStore(connection)


@dataclass(frozen=True, slots=True)
class SqlReportStore:
    """See ReportStore; one transaction."""

    connection: sa.Connection

    def get(self, project: str, report_id: str) -> StoredReport | None:
        """See ReportStore."""
        row = self.connection.execute(_of(project, report_id)).one_or_none()
        return None if row is None else _report(row)

    def insert(self, report: StoredReport) -> None:
        """See ReportStore."""
        values = {column.name: getattr(report, column.name) for column in reports.c}
        taken = errors.already_exists("report", report_name(report.project, report.report_id))
        if self.get(report.project, report.report_id) is not None:
            raise taken
        try:
            self.connection.execute(sa.insert(reports).values(**values))
        except IntegrityError as error:
            raise taken from error

    def delete(self, project: str, report_id: str) -> bool:
        """See ReportStore."""
        gone = sa.delete(reports).where(
            reports.c.project == project, reports.c.report_id == report_id
        )
        return bool(self.connection.execute(gone).rowcount)

    def count(self, project: str) -> int:
        """See ReportStore."""
        query = sa.select(sa.func.count()).where(reports.c.project == project)
        return int(self.connection.execute(query).scalar_one())

    def page(
        self, project: str, before: tuple[dt.datetime, str] | None, limit: int
    ) -> Sequence[StoredReport]:
        """See ReportStore."""
        query = sa.select(reports).where(reports.c.project == project)
        made, name = reports.c.create_time, reports.c.report_id
        if before is not None:
            time, report_id = before
            query = query.where((made < time) | ((made == time) & (name < report_id)))
        rows = self.connection.execute(query.order_by(made.desc(), name.desc()).limit(limit))
        return [_report(row) for row in rows]


def _of(project: str, report_id: str) -> sa.Select[Any]:
    return sa.select(reports).where(reports.c.project == project, reports.c.report_id == report_id)


def _report(row: Any) -> StoredReport:
    return StoredReport(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
