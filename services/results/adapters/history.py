"""Units of the past that stand for those to come: of a population, or of an experiment.

Both become exposures, so that the one query of results measures them: an event of the population
is an exposure to the one arm that there is. The day of an exposure stands where its source stood,
so that units can be counted by the day on which they came.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ibis
from ibis import ir

from services.results.adapters.lake import LakeMoments
from services.results.domain.measure import Measure
from services.results.domain.null_experiment import UnitRows
from services.results.domain.observation import Arm, ExperimentPlan, Observation, Question
from services.results.domain.planning import MOST_DAYS, Past, Population
from shared.errors import invalid
from shared.identity.reader import IdentityReader
from shared.lake.filters import matches
from shared.lake.snapshot import EventTables, Snapshot
from shared.lake.watermark import Watermark

_EVERYBODY = "all"
_POPULATION = "population"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LakeHistory:
    """See HistorySource."""

    tables: EventTables
    identities: IdentityReader

    def of_population(
        self, project: str, population: Population, measures: Sequence[Measure]
    ) -> Past:
        """See HistorySource."""
        plan = _plan_of(population)
        seen = self._observe(_Exposing(self.tables, population), project, plan, measures)
        last = (population.end - dt.timedelta(microseconds=1)).date()
        return Past(plan, seen, _by_day(seen, population.start.date(), last))

    def of_experiment(
        self, project: str, plan: ExperimentPlan, measures: Sequence[Measure]
    ) -> Past:
        """See HistorySource."""
        seen = self._observe(_Exposing(self.tables, None), project, plan, measures)
        days = [_day(one.value) for one in seen.slices[1:] if one.value]
        if any(one.others for one in seen.slices):
            raise invalid(
                "experiment",
                plan.experiment_id,
                f"an experiment with exposures of new units on at most {MOST_DAYS + 1} days; "
                "take a population of the last weeks",
            )
        if not days:
            return Past(plan, seen, ())
        return Past(plan, seen, _by_day(seen, min(days), max(days)))

    def rows(
        self, project: str, history: Population | ExperimentPlan, measure: Measure, most: int
    ) -> UnitRows:
        """See HistorySource."""
        population = history if isinstance(history, Population) else None
        plan = _plan_of(history) if isinstance(history, Population) else history
        lake = LakeMoments(_Exposing(self.tables, population), self.identities)
        return lake.unit_rows(Question(project, plan, (measure,)), most)

    def _observe(
        self, tables: EventTables, project: str, plan: ExperimentPlan, measures: Sequence[Measure]
    ) -> Observation:
        question = Question(project, plan, tuple(measures), dimensions=("source",))
        return LakeMoments(tables, self.identities).observe(question)


def _plan_of(population: Population) -> ExperimentPlan:
    return ExperimentPlan(
        experiment_id=_POPULATION,
        unit_type=population.unit_type,
        arms=(Arm(_EVERYBODY, 1),),
        control=_EVERYBODY,
        config_version=0,
    )


def _by_day(seen: Observation, first: dt.date, last: dt.date) -> tuple[int, ...]:
    """New units of each day, 0 on days without any."""
    units = {_day(one.value): sum(one.units) for one in seen.slices[1:] if one.value}
    days = (last - first).days + 1
    return tuple(units.get(first + number * _DAY, 0) for number in range(days))


def _day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class _Exposing:
    """EventTables whose exposures are those of a population, and carry their day as source."""

    tables: EventTables
    population: Population | None

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See EventTables."""
        await self.tables.wait_until(at_least, timeout_s)

    def snapshot(self, project: str) -> Snapshot:
        """See EventTables."""
        return _ExposingSnapshot(self.tables.snapshot(project), self.population)


@dataclass(frozen=True, slots=True)
class _ExposingSnapshot:
    snapshot: Snapshot
    population: Population | None

    @property
    def watermark(self) -> Watermark:
        """See Snapshot."""
        return self.snapshot.watermark

    @contextmanager
    def read(self) -> Iterator[Mapping[str, ir.Table]]:
        """See Snapshot."""
        with self.snapshot.read() as tables:
            yield _ExposingTables(tables, self.population)

    def rows(self, name: str) -> int:
        """See Snapshot; exposures that are made of conversions are at most as many."""
        made = name == "exposures" and self.population is not None
        return self.snapshot.rows("conversions" if made else name)

    def rows_after(self, name: str, position: int) -> str:
        """See Snapshot; exposures as they were sent."""
        return self.snapshot.rows_after(name, position)


class _ExposingTables(Mapping[str, ir.Table]):
    def __init__(self, tables: Mapping[str, ir.Table], population: Population | None) -> None:
        self._tables = tables
        self._population = population

    def __getitem__(self, name: str) -> ir.Table:
        table = self._tables[name]
        if name != "exposures":
            return table
        rows = table
        if self._population is not None:
            rows = _exposures(self._tables["conversions"], table.schema(), self._population)
        return rows.mutate(source=rows.event_time.strftime("%Y-%m-%d"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def _exposures(events: ir.Table, types: ibis.Schema, population: Population) -> ir.Table:
    """Each event of the population as an exposure, with the columns of exposures."""
    rows = events.filter(
        events.event_name == population.event_name,
        events.event_time >= population.start,
        events.event_time < population.end,
    )
    if population.filter is not None:
        rows = rows.filter(matches(rows, population.filter))
    stated = {"experiment": ibis.literal(_POPULATION), "variant": ibis.literal(_EVERYBODY)}
    missing = {
        column: ibis.null(types[column])
        for column in types
        if column not in rows.columns and column not in stated
    }
    return rows.mutate(**stated, **missing).select(*types)
