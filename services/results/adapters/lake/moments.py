"""Exact sums over units from the event tables, as expressions that the engine runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ibis import ir

from services.results.adapters.lake.answer import Known, Summed, answer
from services.results.adapters.lake.clusters import (
    Grouping,
    assigned_clusters,
    clustered,
    unclustered_units,
)
from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.cut import data_cut, data_time_us, rows_of_cut
from services.results.adapters.lake.days import additive, changes_of, days_of, new_units, unit_days
from services.results.adapters.lake.engine import rows_of, stored
from services.results.adapters.lake.events import Catalogue, narrow_events
from services.results.adapters.lake.exposed import exposed_units, narrow_exposures, units_of
from services.results.adapters.lake.grouped_units import cluster_columns, in_windows
from services.results.adapters.lake.groups import (
    Grouped,
    added,
    ages_of,
    counts_table,
    groupings,
)
from services.results.adapters.lake.parts import Nature, parts_of
from services.results.adapters.lake.quantiles import Sample, ranked, reads_events_again
from services.results.adapters.lake.reading import Shown, reading_of, scales_of, since
from services.results.adapters.lake.rows import Sampling, rows_by_column, sampled_numbers
from services.results.adapters.lake.seen import Seen, seen_of
from services.results.adapters.lake.slices import Sliced, sliced
from services.results.adapters.lake.sums import Key, Row, Wanted, by_key, sums_by
from services.results.adapters.lake.values import Reading, joined_events, unit_values
from services.results.domain.daily import TimeSeries
from services.results.domain.null_experiment import UnitRows
from services.results.domain.observation import Links, Observation, Question
from services.results.domain.removed import Rows
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.cut import Cut, cut_of
from shared.lake.snapshot import EventTables


@dataclass(frozen=True, slots=True)
class LakeMoments:
    """MomentsSource over the event tables."""

    tables: EventTables
    identities: IdentityReader

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See MomentsSource."""
        await self.tables.wait_until(at_least, timeout_s)

    def observe(self, question: Question) -> Observation:
        """See MomentsSource."""
        with self._asked(question) as asked:
            return _observed(asked)

    def rows_at(self, project: str, token: str) -> Rows:
        """See MomentsSource."""
        snapshot = self.tables.snapshot(project)
        return rows_of_cut(snapshot, cut_of(snapshot.watermark, token))

    def observe_by_day(self, question: Question) -> TimeSeries:
        """See MomentsSource."""
        with self._asked(question) as asked:
            return _by_day(asked)

    def unit_rows(self, question: Question, most: int) -> UnitRows:
        """The numbers of at most so many units of the control, of the one measure of a question."""
        with self._asked(question) as asked:
            return _unit_rows(asked, most)

    @contextmanager
    def _asked(self, question: Question) -> Iterator["_Asked"]:
        snapshot = self.tables.snapshot(question.project)
        cut = cut_of(snapshot.watermark, question.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self.identities.of(
                question.project, snapshot.watermark, tables, past=cut.past
            )
            unit_type, stitching = question.plan.unit_type, question.stitching
            ownership = Ownership(unit_type, identity, stitching, as_key=True)
            yield _Asked(question, tables, ownership, cut)


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    tables: Mapping[str, ir.Table]
    ownership: Ownership
    cut: Cut


@dataclass(frozen=True, slots=True)
class _Exposed:
    units: ir.Table
    seen: Seen
    ambiguous: int


def _observed(asked: _Asked) -> Observation:
    question, exposed = asked.question, _exposed(asked)
    ages = ages_of(question)
    data_us = data_time_us(asked.tables) if ages else None
    slices = sliced(exposed.units, question)
    counts = tuple(
        by_key(rows_of(counts_table(slices.units, keys, ages, data_us or 0)), keys)
        for keys in groupings(slices.columns)
    )
    summed, ambiguous = _summed(asked, exposed, slices, Shown(Grouped(counts), data_us or 0))
    links = Links(
        asked.ownership.identity.version, question.stitching, exposed.ambiguous, ambiguous
    )
    known = Known(
        exposed.seen,
        links,
        unclustered_units(slices.units, question),
        assigned_clusters(slices.units, question),
    )
    return answer(question, summed, known, data_cut(asked.cut, data_us))


def _exposed(asked: _Asked) -> _Exposed:
    owned = narrow_exposures(asked.tables["exposures"], asked.question, asked.ownership)
    every = stored("exposed_units", exposed_units(owned.rows, asked.question))
    units = units_of(every, asked.question)
    return _Exposed(units, seen_of(every, asked.question), owned.ambiguous)


def _summed(asked: _Asked, exposed: _Exposed, slices: Sliced, shown: Shown) -> tuple[Summed, int]:
    """All sums, and how many events could be of several units."""
    question, counts = asked.question, shown.grouped.counts
    if not parts_of(question):
        return Summed(shown.grouped, slices.values), 0
    joined, reading, ambiguous = _joined(asked, exposed, slices.units)
    if reads_events_again(question) or any(part.nature is Nature.DEPTH for part in reading.parts):
        joined = stored("joined", joined)
    keys = (*slices.columns, *cluster_columns(question))
    values = stored("unit_values", unit_values(joined, keys, reading))
    layouts = scales_of(values, question, reading, shown).layouts(question)
    wanted = Wanted(dict(enumerate(layouts)), shown.data_us)
    sums = tuple(sums_by(values, keys, wanted) for keys in groupings(slices.columns))
    grouped = Grouped(counts, sums)
    sample = Sample(values, joined, slices, grouped, reading, shown.data_us)
    by_cluster = Grouping(slices.units, values, layouts, slices.values, shown.data_us)
    quantiles, clusters = ranked(question, sample), clustered(question, by_cluster)
    return Summed(grouped, slices.values, layouts, quantiles, clusters), ambiguous


def _joined(asked: _Asked, exposed: _Exposed, units: ir.Table) -> tuple[ir.Table, Reading, int]:
    """The events of the units, how they are read, and how many could be of several units."""
    parts = parts_of(asked.question)
    catalogue = Catalogue.of(parts)
    begin = since(exposed.seen.start_us, asked.question)
    owned = narrow_events(asked.tables["conversions"], catalogue, begin, asked.ownership)
    if asked.question.clustering is not None:
        owned = in_windows(owned, asked.question.clustering.switchback, exposures=False)
    reading = reading_of(owned.rows, parts, catalogue)
    return joined_events(owned.rows, units, reading), reading, owned.ambiguous


def _unit_rows(asked: _Asked, most: int) -> UnitRows:
    question, exposed = asked.question, _exposed(asked)
    (measure,), ages = question.measures, ages_of(question)
    data_us = (data_time_us(asked.tables) or 0) if ages else 0
    counts = by_key(rows_of(counts_table(exposed.units, ("arm",), ages, data_us)), ("arm",))
    joined, reading, _ = _joined(asked, exposed, exposed.units)
    values = stored("unit_values", unit_values(stored("joined", joined), (), reading))
    scales = scales_of(values, question, reading, Shown(Grouped((counts,)), data_us))
    (layout,) = scales.layouts(question)
    sampling = Sampling(question.plan.control_index, most)
    numbers, many = sampled_numbers(exposed.units, values, layout, sampling, data_us)
    return UnitRows(rows_by_column(measure, numbers), many, data_cut(asked.cut, None))


def _by_day(asked: _Asked) -> TimeSeries:
    question = asked.question
    asked = replace(asked, question=replace(additive(question), dimensions=()))
    exposed = _exposed(asked)
    units = new_units(exposed.units)
    changes: dict[Key, Row] = {}
    layouts: tuple[Layout, ...] = ()
    if parts_of(asked.question):
        joined, reading, _ = _joined(asked, exposed, exposed.units)
        rows = stored("unit_days", unit_days(joined, reading))
        everybody = added((key[1:], row) for key, row in units.items())
        scales = scales_of(rows, asked.question, reading, Shown(Grouped((everybody,)), 0))
        layouts = scales.layouts(asked.question)
        changes = changes_of(rows, Wanted(dict(enumerate(layouts)), 0))
    return TimeSeries(tuple(days_of(units, changes, question, layouts)), data_cut(asked.cut, None))
