"""Make a state out of the event tables."""

from collections.abc import Mapping

from ibis import ir

from services.results.adapters.lake.columns import Scales
from services.results.adapters.lake.cut import data_time_us
from services.results.adapters.lake.engine import batches_of
from services.results.adapters.lake.events import Catalogue, narrow_events, peaks
from services.results.adapters.lake.exposed import (
    dimension_columns,
    exposed_units,
    narrow_exposures,
    units_of,
)
from services.results.adapters.lake.groups import ages_of, counts_table
from services.results.adapters.lake.parts import Nature, parts_of
from services.results.adapters.lake.reading import Shown, scales_of, since
from services.results.adapters.lake.seen import seen_of
from services.results.adapters.lake.sums import Wanted, sums_table
from services.results.adapters.lake.values import Reading, joined_events, unit_values
from services.results.adapters.live.facts import Facts, Stand, exponents
from services.results.adapters.live.state import State
from shared.identity.ownership import Ownership


def rebuild(
    state: State, tables: Mapping[str, ir.Table], ownership: Ownership, stand: Stand
) -> None:
    """Fill every table of a state from those of a cut."""
    question, parts = state.question, parts_of(state.question)
    catalogue = Catalogue.of(parts)
    exposed = narrow_exposures(tables["exposures"], question, ownership)
    state.fill("units", batches_of(exposed_units(exposed.rows, question)))
    seen = seen_of(state.table("units"), question)
    begin = since(seen.start_us, question)
    owned = narrow_events(tables["conversions"], catalogue, begin, ownership)
    state.fill("events", batches_of(owned.rows))
    data_us = data_time_us(tables) or 0
    largest = peaks(state.table("events"), catalogue)
    reading = Reading(parts, catalogue, exponents(largest))
    units = units_of(state.table("units"), question)
    state.keep("unit_values", numbers_of(state, state.table("events"), units, reading))
    state.make_sums()
    count(state, units, data_us)
    scales = current_scales(state, reading, data_us)
    sum_up(state, Wanted(dict(enumerate(scales.layouts(question))), data_us))
    state.write_facts(
        Facts(stand, seen, exposed.ambiguous, owned.ambiguous, data_us, largest, scales)
    )


def numbers_of(state: State, events: ir.Table, units: ir.Table, reading: Reading) -> ir.Table:
    """The numbers of units out of their events."""
    joined = joined_events(events, units, reading)
    if any(part.nature is Nature.DEPTH for part in reading.parts):
        joined = state.make("joined", joined)
    dimensions = tuple(dimension_columns(state.question).values())
    return unit_values(joined, dimensions, reading)


def count(state: State, units: ir.Table, data_us: int, sign: int = 1) -> None:
    """Add units to the counts, or take them away."""
    for table, keys in state.groupings():
        state.change(table, counts_table(units, keys, ages_of(state.question), data_us), sign)


def sum_up(state: State, wanted: Wanted, rows: ir.Table | None = None, sign: int = 1) -> None:
    """Add the numbers of units, of all without any given, to the sums, or take them away."""
    values = state.table("unit_values") if rows is None else rows
    for table, keys in state.groupings():
        state.change(table, sums_table(values, keys, wanted), sign)


def current_scales(state: State, reading: Reading, data_us: int) -> Scales:
    """How the numbers of the units are to be counted, as they are now."""
    shown = Shown(state.grouped()[0], data_us)
    return scales_of(state.table("unit_values"), state.question, reading, shown)
