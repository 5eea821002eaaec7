"""The configuration in the state database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects import postgresql, sqlite

from services.assignment.adapters import resource_documents
from services.assignment.adapters.documents import salt_of
from services.assignment.adapters.sql_experiments import SqlExperimentStore
from services.assignment.adapters.sql_id_lists import SqlIdListStore
from services.assignment.adapters.sql_layers import SqlLayerStore
from services.assignment.adapters.sql_resources import SqlResourceStore
from services.assignment.adapters.sql_units import forget_unit
from services.assignment.adapters.tables import CONFIG, EXPERIMENTS
from services.assignment.domain.resource import Resource
from services.assignment.domain.revision import Revision
from services.assignment.domain.salt_checks import Salt
from services.assignment.ports import Configuration, Forgotten, ProjectConfig
from shared.mutations import Mutation, Mutations
from shared.state.database import Database
from shared.state.migrate import migrate

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Resource)


class SqlConfiguration:
    """Configuration over one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.experiments = SqlExperimentStore(connection)
        self.layers = SqlLayerStore(connection)
        self.unit_types = SqlResourceStore(connection, resource_documents.UNIT_TYPES)
        self.attributes = SqlResourceStore(connection, resource_documents.ATTRIBUTES)
        self.domains = SqlResourceStore(connection, resource_documents.DOMAINS)
        self.holdouts = SqlResourceStore(connection, resource_documents.HOLDOUTS)
        self.forced = SqlResourceStore(connection, resource_documents.FORCED)
        self.audiences = SqlResourceStore(connection, resource_documents.AUDIENCES)
        self.id_lists = SqlIdListStore(connection)

    def next_revision(self, project: str, now: datetime) -> Revision:
        """See Configuration: the row's lock is held until the transaction ends."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        version = self._connection.execute(
            dialect.insert(CONFIG)
            .values(project=project, version=1)
            .on_conflict_do_update(
                index_elements=[CONFIG.c.project], set_={"version": CONFIG.c.version + 1}
            )
            .returning(CONFIG.c.version)
        ).scalar_one()
        return Revision(version, now)

    def forget_unit(self, project: str, unit_type: str, unit_id: str) -> Forgotten:
        """See Configuration."""
        return forget_unit(self._connection, project, unit_type, unit_id)

    def versions(self) -> Mapping[str, int]:
        """See Configuration."""
        rows = self._connection.execute(sa.select(CONFIG.c.project, CONFIG.c.version))
        return {row.project: row.version for row in rows}

    def salts(self, project: str) -> Sequence[Salt]:
        """See Configuration."""
        found = [
            *self.layers.salts(project),
            *self._experiment_salts(project),
            *(
                (holdout.create_time, Salt(holdout.salt, holdout.hash_version))
                for holdout in self.holdouts.all_now(project).values()
            ),
        ]
        found.sort(key=lambda made: made[0], reverse=True)
        return [salt for _, salt in found]

    def _experiment_salts(self, project: str) -> list[tuple[datetime, Salt]]:
        rows = self._connection.execute(
            sa.select(EXPERIMENTS.c.create_time, EXPERIMENTS.c.document).where(
                EXPERIMENTS.c.project == project
            )
        )
        # Of thousands of experiments only this much is read: it happens within a change.
        return [(row.create_time, salt_of(row.document)) for row in rows]

    def load(self, project: str, as_of: int | None = None) -> ProjectConfig:
        """See Configuration."""
        current = self._connection.execute(
            sa.select(CONFIG.c.version).where(CONFIG.c.project == project)
        ).scalar()
        newest = current or 0
        if as_of is None or as_of >= newest:
            experiments = self.experiments.all_now(project)
            version = newest
        else:
            experiments = self.experiments.all_as_of(project, as_of)
            version = as_of

        def every(store: SqlResourceStore[R]) -> Mapping[str, R]:
            if version == newest:
                return store.all_now(project)
            return store.all_as_of(project, version)

        return ProjectConfig(
            config_version=version,
            experiments=experiments,
            layers=self.layers.all_as_of(project, version),
            unit_types=every(self.unit_types),
            attributes=every(self.attributes),
            domains=every(self.domains),
            holdouts=every(self.holdouts),
            forced=every(self.forced),
            audiences=every(self.audiences),
        )


class SqlConfigurationReader:
    """ConfigurationReader over the state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def read(self) -> Iterator[Configuration]:
        """See ConfigurationReader."""
        with self._database.read() as connection:
            yield SqlConfiguration(connection)


class SqlConfigurationWriter:
    """ConfigurationWriter: the change, its audit entry and its answer commit together."""

    def __init__(self, mutations: Mutations) -> None:
        self._mutations = mutations

    def write(self, mutation: Mutation, work: Callable[[Configuration], M]) -> M:
        """See ConfigurationWriter."""
        return self._mutations.run(mutation, lambda connection: work(SqlConfiguration(connection)))


def migrate_assignment(database: Database) -> None:
    """Brings the tables of assignment to the schema that this program expects."""
    migrate(database, "assignment", Path(__file__).parent / "migrations")
