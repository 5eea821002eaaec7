"""Metric definitions in the state database."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.exc import IntegrityError

from services.results.adapters.metric_documents import from_document, to_document
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.metric import Direction, Metric, MetricDefinition, MetricRole
from services.results.ports import MetricStore
from shared import errors
from shared.mutations import Mutation, Mutations
from shared.resource_names import resource_name
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

M = TypeVar("M", bound=Message)

_MICROSECOND = dt.timedelta(microseconds=1)
_tables = sa.MetaData()
metrics = sa.Table(
    "metrics",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("metric_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger),
    sa.Column("create_time", UtcTime()),
    sa.Column("update_time", UtcTime()),
    sa.Column("archive_time", UtcTime()),
)
versions = sa.Table(
    "metric_versions",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("metric_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("kind", text(16)),
    sa.Column("event_name", text(63)),
    sa.Column("window_us", sa.BigInteger),
    sa.Column("direction", text(16)),
    sa.Column("role", text(16)),
    sa.Column("display_name", text(200)),
    sa.Column("description", text(4000)),
    sa.Column("currency", text(3)),
    sa.Column("document", sa.Text),
)


def migrate_metrics(database: Database) -> None:
    """Brings the tables of this module to the schema that it expects."""
    migrate(database, "results", Path(__file__).parent / "migrations")


@dataclass(frozen=True, slots=True)
class SqlMetricReader:
    """See MetricReader."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[MetricStore]:
        """See MetricReader."""
        with self.database.read() as connection:
            yield SqlMetricStore(connection)


@dataclass(frozen=True, slots=True)
class SqlMetricWriter:
    """See MetricWriter."""

    mutations: Mutations

    def write(self, mutation: Mutation, work: Callable[[MetricStore], M]) -> M:
        """See MetricWriter."""
        return self.mutations.run(mutation, lambda connection: work(SqlMetricStore(connection)))


@dataclass(frozen=True, slots=True)
class SqlMetricStore:
    """See MetricStore; one transaction."""

    connection: sa.Connection

    def get(self, project: str, metric_id: str) -> Metric | None:
        """See MetricStore."""
        query = _current().where(metrics.c.project == project, metrics.c.metric_id == metric_id)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _metric(row)

    def insert(self, metric: Metric) -> None:
        """See MetricStore."""
        if self.get(metric.project, metric.metric_id) is not None:
            raise _taken(metric)
        head = {"project": metric.project, "metric_id": metric.metric_id}
        try:
            self.connection.execute(
                sa.insert(metrics).values(**head, create_time=metric.create_time, **_state(metric))
            )
        except IntegrityError as error:
            raise _taken(metric) from error
        self._keep_version(metric)

    def replace(self, old: Metric, new: Metric) -> None:
        """See MetricStore."""
        archived = metrics.c.archive_time
        changed = self.connection.execute(
            sa.update(metrics)
            .where(
                metrics.c.project == old.project,
                metrics.c.metric_id == old.metric_id,
                metrics.c.version == old.version,
                archived.is_(None) if old.archive_time is None else archived == old.archive_time,
            )
            .values(**_state(new))
        )
        if changed.rowcount != 1:
            name = resource_name(old.project, "metrics", old.metric_id)
            current = self.get(old.project, old.metric_id)
            raise errors.stale_etag(name, old.etag, current.etag if current else "")
        if new.version != old.version:
            self._keep_version(new)

    def page(self, project: str, after: str, limit: int, show_archived: bool) -> Sequence[Metric]:
        """See MetricStore."""
        query = _current().where(metrics.c.project == project, metrics.c.metric_id > after)
        if not show_archived:
            query = query.where(metrics.c.archive_time.is_(None))
        rows = self.connection.execute(query.order_by(metrics.c.metric_id).limit(limit))
        return [_metric(row) for row in rows]

    def definition(self, project: str, metric_id: str, version: int) -> MetricDefinition | None:
        """See MetricStore."""
        query = sa.select(versions).where(
            versions.c.project == project,
            versions.c.metric_id == metric_id,
            versions.c.version == version,
        )
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _definition(row)

    def versions(
        self, project: str, metric_id: str, before: int, limit: int
    ) -> Sequence[tuple[int, MetricDefinition]]:
        """See MetricStore."""
        query = sa.select(versions).where(
            versions.c.project == project,
            versions.c.metric_id == metric_id,
            versions.c.version < before,
        )
        rows = self.connection.execute(query.order_by(versions.c.version.desc()).limit(limit))
        return [(row.version, _definition(row)) for row in rows]

    def _keep_version(self, metric: Metric) -> None:
        definition, measure = metric.definition, metric.definition.measure
        window = measure.window
        self.connection.execute(
            sa.insert(versions).values(
                project=metric.project,
                metric_id=metric.metric_id,
                version=metric.version,
                document=to_document(definition),
                # For a program that knows no documents, while it is being replaced.
                kind=measure.kind.value,
                event_name=measure.event_name,
                window_us=None if window is None else window // _MICROSECOND,
                direction=definition.direction.value,
                role=definition.role.value,
                display_name=definition.display_name,
                description=definition.description,
                currency=measure.currency,
            )
        )


def _current() -> sa.Select[Any]:
    same = [metrics.c[name] == versions.c[name] for name in ("project", "metric_id", "version")]
    columns = [c for c in versions.c if c.name not in metrics.c]
    return sa.select(metrics, *columns).join(versions, sa.and_(*same))


def _state(metric: Metric) -> dict[str, Any]:
    return {
        "version": metric.version,
        "update_time": metric.update_time,
        "archive_time": metric.archive_time,
    }


def _metric(row: Any) -> Metric:
    return Metric(
        project=row.project,
        metric_id=row.metric_id,
        definition=_definition(row),
        version=row.version,
        create_time=row.create_time,
        update_time=row.update_time,
        archive_time=row.archive_time,
    )


def _definition(row: Any) -> MetricDefinition:
    return _from_columns(row) if row.document is None else from_document(row.document)


def _from_columns(row: Any) -> MetricDefinition:
    """A definition from before there were documents: a proportion could have a currency, which
    said nothing.
    """
    kind = MetricKind(row.kind)
    return MetricDefinition(
        measure=Measure(
            kind=kind,
            event_name=row.event_name,
            window=None if row.window_us is None else row.window_us * _MICROSECOND,
            currency=row.currency if kind is MetricKind.MEAN else "",
        ),
        direction=Direction(row.direction),
        role=MetricRole(row.role),
        display_name=row.display_name,
        description=row.description,
    )


def _taken(metric: Metric) -> errors.DomainError:
    return errors.already_exists(
        "metric", resource_name(metric.project, "metrics", metric.metric_id)
    )
