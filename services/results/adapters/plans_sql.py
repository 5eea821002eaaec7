"""Analysis plans, looks and cuts in the state database: rows are added, none is changed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from touchstone_statistics.boundaries import Look as Boundary

from services.results.adapters.plan_document import plan_of, text_of
from services.results.application.analysis_plans import plan_name
from services.results.domain.analysis_plan import StoredPlan
from services.results.domain.look import Cut, Look, LookKey, Seen, Side
from services.results.domain.removed import Rows
from services.results.ports import PlanStore
from shared import errors
from shared.mutations import Mutation, Mutations
from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

M = TypeVar("M", bound=Message)

_tables = sa.MetaData()
heads = sa.Table(
    "analysed_experiments",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("experiment_id", text(63), primary_key=True),
)
plans = sa.Table(
    "analysis_plans",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("experiment_id", text(63), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("create_time", UtcTime()),
    sa.Column("document", sa.Text),
)
looks = sa.Table(
    "looks",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("experiment_id", text(63), primary_key=True),
    sa.Column("metric_id", text(63), primary_key=True),
    sa.Column("variant", text(63), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("units", sa.Double),
    sa.Column("fraction", sa.Double),
    sa.Column("spent", sa.Double),
    sa.Column("critical", sa.Double),
    sa.Column("p_value", sa.Double),
    sa.Column("seen", sa.Text),
    sa.Column("journal_id", text(64)),
    sa.Column("position", sa.BigInteger),
    sa.Column("plan_version", sa.BigInteger),
    sa.Column("create_time", UtcTime()),
)
cuts = sa.Table(
    "result_cuts",
    _tables,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("journal_id", text(64), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("exposures", sa.BigInteger),
    sa.Column("conversions", sa.BigInteger),
)
MOST_CUTS = 20_000
"""So many cuts of a project are noted, the newest."""
_KEY = ("project", "experiment_id", "metric_id", "variant")
_ORDER = (looks.c.metric_id, looks.c.variant, looks.c.number)
_OF_LOOK = ("number", "p_value", "plan_version", "create_time")


def migrate_plans(database: Database) -> None:
    """Brings the tables of this module to the schema that it expects."""
    migrate(database, "results_plans", Path(__file__).parent / "plan_migrations")


@dataclass(frozen=True, slots=True)
class SqlPlanReader:
    """See PlanReader."""

    database: Database

    @contextmanager
    def read(self) -> Iterator[PlanStore]:
        """See PlanReader."""
        with self.database.read() as connection:
            yield SqlPlanStore(connection)

    @contextmanager
    def begin(self) -> Iterator[PlanStore]:
        """See PlanReader."""
        with self.database.begin() as connection:
            yield SqlPlanStore(connection)


@dataclass(frozen=True, slots=True)
class SqlPlanWriter:
    """See PlanWriter."""

    mutations: Mutations

    def write(self, mutation: Mutation, work: Callable[[PlanStore], M]) -> M:
        """See PlanWriter."""
        return self.mutations.run(mutation, lambda connection: work(SqlPlanStore(connection)))


@dataclass(frozen=True, slots=True)
class SqlPlanStore:
    """See PlanStore; one transaction."""

    connection: sa.Connection

    def current(self, project: str, experiment_id: str) -> StoredPlan:
        """See PlanStore."""
        newest = _versions(project, experiment_id).order_by(plans.c.version.desc()).limit(1)
        row = self.connection.execute(newest).one_or_none()
        stored = StoredPlan() if row is None else _stored(row)
        return replace(stored, looked_at=self._looked_at(project, experiment_id))

    def at(self, project: str, experiment_id: str, version: int) -> StoredPlan | None:
        """See PlanStore."""
        query = _versions(project, experiment_id).where(plans.c.version == version)
        row = self.connection.execute(query).one_or_none()
        if row is None and version != 0:
            return None
        stored = StoredPlan() if row is None else _stored(row)
        return replace(stored, looked_at=self._looked_at(project, experiment_id))

    def lock(self, project: str, experiment_id: str) -> None:
        """See PlanStore."""
        # SQLite has one writer anyway; there a row of the same form is all that this leaves.
        self._insert_new(heads, {"project": project, "experiment_id": experiment_id})
        query = sa.select(heads).where(
            heads.c.project == project, heads.c.experiment_id == experiment_id
        )
        self.connection.execute(query.with_for_update()).one()

    def add(self, project: str, experiment_id: str, new: StoredPlan) -> None:
        """See PlanStore."""
        row = {
            "project": project,
            "experiment_id": experiment_id,
            "version": new.version,
            "create_time": new.create_time,
            "document": text_of(new.plan),
        }
        try:
            self.connection.execute(sa.insert(plans).values(**row))
        except IntegrityError as error:
            name, given = plan_name(project, experiment_id), str(new.version - 1)
            raise errors.stale_etag(name, given, "a later one") from error

    def looks(self, project: str, experiment_id: str) -> Mapping[LookKey, Sequence[Look]]:
        """See PlanStore."""
        found: dict[LookKey, list[Look]] = {}
        for row in self.connection.execute(_looks(project, experiment_id).order_by(*_ORDER)):
            look = _look(row)
            found.setdefault(look.key, []).append(look)
        return found

    def add_looks(self, taken: Sequence[Look]) -> None:
        """See PlanStore."""
        if not taken:
            return
        try:
            self.connection.execute(sa.insert(looks), [_row(look) for look in taken])
        except IntegrityError as error:
            first = taken[0]
            name = plan_name(first.key.project, first.key.experiment_id)
            raise errors.stale_etag(name, str(first.number - 1), "a later one") from error

    def finished(self, project: str, before: Cut) -> Sequence[Look]:
        """See PlanStore."""
        at_end = (
            sa.select(looks)
            .where(
                looks.c.project == project,
                looks.c.fraction >= 1.0,
                looks.c.journal_id == before.journal_id,
                looks.c.position < before.position,
            )
            .order_by(looks.c.experiment_id, *_ORDER)
        )
        first: dict[LookKey, Look] = {}
        for row in self.connection.execute(at_end):
            look = _look(row)
            first.setdefault(look.key, look)
        return list(first.values())

    def rows_at(self, project: str, cut: Cut) -> Rows | None:
        """See PlanStore."""
        at = (cuts.c.journal_id == cut.journal_id) & (cuts.c.position == cut.position)
        query = sa.select(cuts).where(cuts.c.project == project, at)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else Rows(row.exposures, row.conversions)

    def note_rows(self, project: str, cut: Cut, rows: Rows) -> None:
        """See PlanStore."""
        self._insert_new(cuts, {"project": project} | asdict(cut) | asdict(rows))
        own = sa.select(cuts.c.position).where(cuts.c.project == project)
        newest = own.order_by(cuts.c.position.desc()).offset(MOST_CUTS).limit(1)
        last = self.connection.execute(newest).scalar_one_or_none()
        if last is not None:
            old = (cuts.c.project == project) & (cuts.c.position <= last)
            self.connection.execute(sa.delete(cuts).where(old))

    def _insert_new(self, table: sa.Table, row: Mapping[str, Any]) -> None:
        dialect = self.connection.dialect.name
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        self.connection.execute(insert(table).values(**row).on_conflict_do_nothing())

    def page_of_looks(
        self, project: str, experiment_id: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Look]:
        """See PlanStore."""
        behind = sa.tuple_(*_ORDER) > sa.tuple_(*(sa.literal(part) for part in after))
        query = _looks(project, experiment_id).where(behind).order_by(*_ORDER).limit(limit)
        return [_look(row) for row in self.connection.execute(query)]

    def _looked_at(self, project: str, experiment_id: str) -> bool:
        any_look = _looks(project, experiment_id).limit(1)
        return self.connection.execute(any_look).one_or_none() is not None


def _versions(project: str, experiment_id: str) -> sa.Select[Any]:
    return sa.select(plans).where(
        plans.c.project == project, plans.c.experiment_id == experiment_id
    )


def _looks(project: str, experiment_id: str) -> sa.Select[Any]:
    return sa.select(looks).where(
        looks.c.project == project, looks.c.experiment_id == experiment_id
    )


def _stored(row: Any) -> StoredPlan:
    return StoredPlan(plan_of(row.document), row.version, row.create_time)


def _look(row: Any) -> Look:
    seen = json.loads(row.seen)
    return Look(
        key=LookKey(*(getattr(row, name) for name in _KEY)),
        seen=Seen(
            Side(**seen["control"]),
            Side(**seen["treatment"]),
            seen["covariance"],
            # A look from before clusters were known does not say it.
            seen.get("freedom"),
        ),
        cut=Cut(row.journal_id, row.position),
        boundary=Boundary(row.units, row.fraction, row.spent, row.critical),
        **{name: getattr(row, name) for name in _OF_LOOK},
    )


def _row(look: Look) -> dict[str, Any]:
    key = {name: getattr(look.key, name) for name in _KEY}
    cut = {"journal_id": look.cut.journal_id, "position": look.cut.position}
    seen = {"seen": json.dumps(asdict(look.seen), sort_keys=True)}
    price = {
        "units": look.boundary.information,
        "fraction": look.boundary.fraction,
        "spent": look.boundary.spent,
        "critical": look.boundary.critical,
    }
    return key | cut | seen | price | {name: getattr(look, name) for name in _OF_LOOK}
