"""Make a state out of the event tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ibis import ir

from services.results.adapters.lake.columns import Scales
from services.results.adapters.lake.cut import data_time_us
from services.results.adapters.lake.engine import batches_of, stored
from services.results.adapters.lake.events import (
    Catalogue,
    Peaks,
    narrow_events,
    peaks_in,
    peaks_table,
)
from services.results.adapters.lake.exposed import (
    dimension_columns,
    exposed_units,
    narrow_exposures,
    units_of,
)
from services.results.adapters.lake.groups import ages_of, counts_table
from services.results.adapters.lake.parts import Nature, parts_of
from services.results.adapters.lake.reading import (
    Shown,
    exponents,
    scales_of,
    since,
    sizes_table,
)
from services.results.adapters.lake.seen import Seen, left_out_table, seen_in, seen_table
from services.results.adapters.lake.sums import Wanted, sums_table
from services.results.adapters.lake.values import Reading, joined_events, unit_values
from services.results.adapters.live.facts import Facts, Sizes, Stand
from services.results.adapters.live.state import AFTER, State
from shared.identity.ownership import Ownership


def rebuild(
    state: State, tables: Mapping[str, ir.Table], ownership: Ownership, stand: Stand
) -> None:
    """Fill every table of a state from those of a cut."""
    question, parts = state.question, parts_of(state.question)
    catalogue = Catalogue.of(parts)
    exposed = narrow_exposures(tables["exposures"], question, ownership)
    state.fill("units", batches_of(exposed_units(exposed.rows, question)))
    seen = seen_among(state, "units")
    begin = since(seen.start_us, question)
    owned = narrow_events(tables["conversions"], catalogue, begin, ownership)
    state.fill("events", batches_of(owned.rows))
    data_us = data_time_us(tables) or 0
    largest = largest_of(state, "events", catalogue)
    reading = Reading(parts, catalogue, exponents(largest, catalogue))

    def units() -> ir.Table:
        return units_of(state.table("units"), question)

    def values() -> ir.Table:
        return numbers_of(state, state.table("events"), units(), reading)

    state.keep("unit_values", values, again=what_numbers_follow(reading))
    state.make_sums()
    state.moments(data_us, data_us)
    count(state, "all", units, 1)
    sizes = sizes_of(state, reading)
    scales = current_scales(state, reading, data_us, sizes)
    layouts = dict(enumerate(scales.layouts(question)))
    sum_up(state, "unit_values", Wanted(layouts, AFTER), 1)
    state.write_facts(
        Facts(stand, seen, exposed.ambiguous, owned.ambiguous, data_us, largest, sizes, scales)
    )


def numbers_of(state: State, events: ir.Table, units: ir.Table, reading: Reading) -> ir.Table:
    """The numbers of units out of their events."""
    joined = joined_events(events, units, reading)
    if is_deep(reading):
        joined = stored("joined", joined)
    dimensions = tuple(dimension_columns(state.question).values())
    return unit_values(joined, dimensions, reading)


def what_numbers_follow(reading: Reading) -> str | None:
    """What the query for the numbers of units depends on besides the question. The steps of a
    funnel become tables of their own each time, so that its text is for once.
    """
    return None if is_deep(reading) else repr(list(reading.exponents.values()))


def seen_among(state: State, name: str) -> Seen:
    """What is counted of the exposed units in a table of the state."""
    question = state.question
    by_arm = state.rows(f"seen {name}", lambda: seen_table(state.table(name), question))
    (left_out,) = state.rows(f"left out {name}", lambda: left_out_table(state.table(name)))
    return seen_in(by_arm, left_out, question)


def largest_of(state: State, name: str, catalogue: Catalogue) -> Peaks:
    """For each source whose values are needed the largest of them in a table of the state."""
    rows = state.rows(f"peaks {name}", lambda: peaks_table(state.table(name), catalogue))
    return peaks_in(rows, catalogue)


def is_deep(reading: Reading) -> bool:
    """Whether events are read several times, for the steps of a funnel."""
    return any(part.nature is Nature.DEPTH for part in reading.parts)


def count(state: State, step: str, units: Callable[[], ir.Table], sign: int) -> None:
    """Add units to the counts, or take them away."""
    ages = ages_of(state.question)
    for table, keys in state.groupings():
        build = partial(_counted, units, keys, ages)
        state.change(table, f"count {step}", build, sign)


def _counted(units: Callable[[], ir.Table], keys: tuple[str, ...], ages: Sequence[int]) -> ir.Table:
    return counts_table(units(), keys, ages, AFTER)


def sum_up(state: State, rows: str, wanted: Wanted, sign: int, moment: str = "after") -> None:
    """Add the numbers of units in a table to the sums, or take them away."""
    for table, keys in state.groupings():
        step = f"sum {rows} {moment} {sorted(wanted.layouts.items())}"
        state.change(table, step, partial(_summed, state, rows, keys, wanted), sign)


def _summed(state: State, rows: str, keys: tuple[str, ...], wanted: Wanted) -> ir.Table | None:
    return sums_table(state.table(rows), keys, wanted)


def sizes_of(state: State, reading: Reading) -> Sizes:
    """The largest number in size of each part that has no bound, over all units."""
    (found,) = state.rows("sizes", lambda: sizes_table(state.table("unit_values"), reading))
    return {part: float(size or 0.0) for part, size in found.items() if part != "rows"}


def current_scales(state: State, reading: Reading, data_us: int, sizes: Sizes) -> Scales:
    """How the numbers of the units are to be counted, as they are now."""
    shown = Shown(state.counts(), data_us)
    return scales_of(state.table("unit_values"), state.question, reading, shown, sizes)
