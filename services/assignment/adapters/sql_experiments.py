"""Experiments in SQL: the current one, and every version that it ever had."""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.assignment.adapters.documents import from_document, to_document
from services.assignment.adapters.tables import EXPERIMENT_VERSIONS, EXPERIMENTS
from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.schedule import due_time
from services.assignment.ports import ExperimentCursor
from shared import errors

_TABLE = EXPERIMENTS.c


class SqlExperimentStore:
    """ExperimentStore over one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, project: str, experiment_id: str) -> Experiment | None:
        """See ExperimentStore."""
        text = self._connection.execute(
            sa.select(_TABLE.document).where(*_key(project, experiment_id))
        ).scalar()
        return None if text is None else from_document(text)

    def insert(self, experiment: Experiment) -> None:
        """See ExperimentStore."""
        try:
            self._connection.execute(sa.insert(EXPERIMENTS).values(_row(experiment)))
        except IntegrityError as error:
            raise errors.already_exists("experiment", experiment.experiment_id) from error
        self._keep_version(experiment)

    def replace(self, old: Experiment, new: Experiment) -> None:
        """See ExperimentStore."""
        result = self._connection.execute(
            sa.update(EXPERIMENTS)
            .where(
                *_key(old.project, old.experiment_id), _TABLE.config_version == old.config_version
            )
            .values(_row(new))
        )
        if result.rowcount != 1:
            current = self.get(old.project, old.experiment_id)
            raise errors.stale_etag(
                f"experiment {old.experiment_id}", old.etag, current.etag if current else "none"
            )
        self._keep_version(new)

    def page(
        self,
        project: str,
        states: Collection[State],
        below: ExperimentCursor | None,
        limit: int,
    ) -> Sequence[Experiment]:
        """See ExperimentStore."""
        query = sa.select(_TABLE.document).where(
            _TABLE.project == project, _TABLE.state.in_([state.value for state in states])
        )
        if below is not None:
            query = query.where(
                sa.or_(
                    _TABLE.create_time < below.create_time,
                    sa.and_(
                        _TABLE.create_time == below.create_time,
                        _TABLE.experiment_id < below.experiment_id,
                    ),
                )
            )
        query = query.order_by(_TABLE.create_time.desc(), _TABLE.experiment_id.desc())
        return [from_document(text) for text in self._connection.scalars(query.limit(limit))]

    def all_now(self, project: str) -> dict[str, Experiment]:
        """Every experiment of the project as it is now."""
        texts = self._connection.scalars(
            sa.select(_TABLE.document)
            .where(_TABLE.project == project)
            .order_by(_TABLE.experiment_id)
        )
        return {found.experiment_id: found for found in map(from_document, texts)}

    def due(self, now: datetime) -> Sequence[tuple[str, str, int]]:
        """See ExperimentStore."""
        rows = self._connection.execute(
            sa.select(_TABLE.project, _TABLE.experiment_id, _TABLE.config_version)
            .where(_TABLE.due_time <= now)
            .order_by(_TABLE.due_time, _TABLE.project, _TABLE.experiment_id)
        )
        return [(row.project, row.experiment_id, row.config_version) for row in rows]

    def all_as_of(self, project: str, config_version: int) -> dict[str, Experiment]:
        """Every experiment of the project as it was at a configuration version."""
        kept = EXPERIMENT_VERSIONS.c
        texts = self._connection.scalars(
            sa.select(kept.document)
            .where(kept.project == project, kept.config_version <= config_version)
            .order_by(kept.experiment_id, kept.config_version)
        )
        # Ascending versions: the last one of each experiment is what it was.
        return {found.experiment_id: found for found in map(from_document, texts)}

    def _keep_version(self, experiment: Experiment) -> None:
        self._connection.execute(
            sa.insert(EXPERIMENT_VERSIONS).values(
                project=experiment.project,
                experiment_id=experiment.experiment_id,
                config_version=experiment.config_version,
                document=to_document(experiment),
            )
        )


def _key(project: str, experiment_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_TABLE.project == project, _TABLE.experiment_id == experiment_id)


def _row(experiment: Experiment) -> dict[str, object]:
    return {
        "project": experiment.project,
        "experiment_id": experiment.experiment_id,
        "state": experiment.state.value,
        "config_version": experiment.config_version,
        "create_time": experiment.create_time,
        "document": to_document(experiment),
        "due_time": due_time(experiment),
    }
