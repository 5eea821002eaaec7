"""Exact sums over units from the event tables, as expressions that the engine runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ibis import ir

from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.cut import Cut, cut_of, data_time_us
from services.results.adapters.lake.engine import row_of, rows_of, stored
from services.results.adapters.lake.events import Catalogue, narrow_events
from services.results.adapters.lake.exposed import exposed_units, narrow_exposures, units_of
from services.results.adapters.lake.groups import (
    Grouped,
    counts_by,
    incomplete,
    measured,
    slices_of,
    sums_of,
)
from services.results.adapters.lake.parts import Nature, needed_age, parts_of
from services.results.adapters.lake.quantiles import Sample, ranked, reads_events_again
from services.results.adapters.lake.reading import Shown, layouts_of, reading_of, since
from services.results.adapters.lake.slices import Sliced, sliced
from services.results.adapters.lake.sums import Wanted
from services.results.adapters.lake.values import joined_events, unit_values
from services.results.domain.observation import Links, Observation, Question
from services.results.domain.ordered import Ranked
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
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
        snapshot = self.tables.snapshot(question.project)
        cut = cut_of(snapshot.watermark, question.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self.identities.of(
                question.project, snapshot.watermark, tables, past=cut.past
            )
            unit_type, stitching = question.plan.unit_type, question.stitching
            ownership = Ownership(unit_type, identity, stitching, as_key=True)
            return _observed(tables, question, ownership, cut)


@dataclass(frozen=True, slots=True)
class _Measured:
    grouped: Grouped
    layouts: tuple[Layout, ...] = ()
    ambiguous: int = 0
    ranked: tuple[Ranked | None, ...] = ()


def _observed(
    tables: Mapping[str, ir.Table], question: Question, ownership: Ownership, cut: Cut
) -> Observation:
    exposed = narrow_exposures(tables["exposures"], question, ownership)
    every = stored("exposed_units", exposed_units(exposed.rows, question))
    left_out = row_of(_left_out(every))
    units = units_of(every, question)
    seen = rows_of(_first_seen(units))
    start_us = min((row["start"] for row in seen), default=None)
    aged = any(needed_age(measure) is not None for measure in question.measures)
    data_us = data_time_us(tables) if aged else None
    slices = sliced(units, question)
    counts = counts_by(slices, question.measures, data_us or 0)
    shown = Shown(Grouped(counts), data_us or 0)
    found = _measured(tables["conversions"], _Asked(question, ownership, start_us), slices, shown)
    return Observation(
        slices=slices_of(found.grouped, slices, question),
        sums=measured(found.grouped, slices, question, found.layouts),
        multiply_exposed=_several(seen, question),
        unknown_variant_exposures=left_out["strangers"],
        cut=cut.data_cut(data_us),
        links=Links(
            ownership.identity.version, ownership.stitching, exposed.ambiguous, found.ambiguous
        ),
        forced_units=left_out["forced"],
        incomplete=incomplete(found.grouped, question),
        ranked=found.ranked,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    ownership: Ownership
    start_us: int | None


def _measured(conversions: ir.Table, asked: _Asked, slices: Sliced, shown: Shown) -> _Measured:
    question = asked.question
    parts = parts_of(question)
    if not parts:
        return _Measured(shown.grouped)
    catalogue = Catalogue.of(parts)
    owned = narrow_events(conversions, catalogue, since(asked.start_us, question), asked.ownership)
    reading = reading_of(owned.rows, parts, catalogue)
    joined = joined_events(owned.rows, slices.units, reading)
    if reads_events_again(question) or any(part.nature is Nature.DEPTH for part in parts):
        joined = stored("joined", joined)
    values = stored("unit_values", unit_values(joined, slices.columns, reading))
    layouts = layouts_of(values, question, reading, shown)
    sums = sums_of(values, slices, Wanted(layouts, shown.data_us))
    grouped = Grouped(shown.grouped.counts, sums)
    sample = Sample(values, joined, slices, grouped, reading, shown.data_us)
    return _Measured(grouped, layouts, owned.ambiguous, ranked(question, sample))


def _left_out(every: ir.Table) -> ir.Table:
    """The units that were looked at on purpose, and the others' exposures of unknown variants."""
    return every.aggregate(
        forced=every.forced.sum().fill_null(0),
        strangers=every.strangers.sum(where=~every.forced).fill_null(0),
    )


def _first_seen(units: ir.Table) -> ir.Table:
    """By first arm how many units there are, how many saw more, and when the first came."""
    return units.group_by("first_arm").aggregate(
        units=units.count(), several=units.several.sum(), start=units.first_us.min()
    )


def _several(seen: Sequence[Mapping[str, Any]], question: Question) -> tuple[int, ...]:
    by_arm = {row["first_arm"]: row["several"] for row in seen}
    return tuple(by_arm.get(arm, 0) for arm in range(len(question.plan.arms)))
