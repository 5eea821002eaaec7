"""Bring a state to a later cut by what is new: the units that have new events are computed anew,
and the sums change by the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import ibis
import pyarrow as pa
from ibis import ir

from services.results.adapters.lake.cut import data_time_us
from services.results.adapters.lake.engine import row_of
from services.results.adapters.lake.events import Catalogue, narrow_events, peaks
from services.results.adapters.lake.exposed import (
    exposed_units,
    merged_units,
    narrow_exposures,
    units_of,
)
from services.results.adapters.lake.groups import ages_of
from services.results.adapters.lake.reading import since
from services.results.adapters.lake.seen import Seen, seen_of
from services.results.adapters.lake.sums import Wanted, sum_names
from services.results.adapters.lake.values import Reading
from services.results.adapters.live.facts import Facts, Stand, exponents
from services.results.adapters.live.rebuild import count, current_scales, numbers_of, sum_up
from services.results.adapters.live.state import State
from shared.identity.ownership import Ownership

MOST_CHANGED = 0.25
"""Where more than this part of all units has changed, a rebuild costs no more."""
FEW_UNITS = 10_000
"""Of so few units all may change."""


@dataclass(frozen=True, slots=True)
class New:
    """What came after a cut: units as exposed_units gives them, events as narrow_events does."""

    units: pa.Table
    events: pa.Table
    ambiguous_exposures: int
    ambiguous_events: int
    data_us: int
    rows: Mapping[str, int]


def new_of(tables: Mapping[str, ir.Table], state: State, facts: Facts, ownership: Ownership) -> New:
    """What the new rows of the event tables say."""
    question, catalogue = state.question, facts.reading(state.question).catalogue
    exposed = narrow_exposures(tables["exposures"], question, ownership)
    begin = since(facts.seen.start_us, question)
    owned = narrow_events(tables["conversions"], catalogue, begin, ownership)
    return New(
        units=exposed_units(exposed.rows, question).to_pyarrow(),
        events=owned.rows.to_pyarrow(),
        ambiguous_exposures=exposed.ambiguous,
        ambiguous_events=owned.ambiguous,
        data_us=max(data_time_us(tables) or 0, facts.data_us),
        rows={
            name: row_of(tables[name].aggregate(rows=tables[name].count()))["rows"]
            for name in ("exposures", "conversions")
        },
    )


def refresh(state: State, facts: Facts, new: New, stand: Stand) -> bool:
    """Change every table of a state; False, and nothing is changed, where a rebuild is needed."""
    changed = _Changed.of(state, new)
    seen = changed.seen(facts.seen)
    largest = _largest(facts, changed.events)
    same_steps = exponents(largest) == exponents(facts.peaks)
    if seen is None or not same_steps or not changed.are_few():
        return False
    reading = facts.reading(state.question)
    aged = _grow_older(state, facts, new.data_us)
    old, now = changed.apply(reading, new.data_us)
    scales = current_scales(state, reading, new.data_us)
    _sum_up(state, facts, replace(facts, data_us=new.data_us, scales=scales), _Rows(aged, old, now))
    state.settle()
    ambiguous_exposures = facts.ambiguous_exposures + new.ambiguous_exposures
    ambiguous_events = facts.ambiguous_events + new.ambiguous_events
    state.write_facts(
        Facts(stand, seen, ambiguous_exposures, ambiguous_events, new.data_us, largest, scales)
    )
    return True


@dataclass(frozen=True, slots=True)
class _Changed:
    """The units with new exposures as they were and as they are, the new events, and the units
    that have any of these.
    """

    state: State
    before: ir.Table
    after: ir.Table
    events: ir.Table
    units: ir.Table

    @staticmethod
    def of(state: State, new: New) -> "_Changed":
        fresh, events = state.take("fresh", new.units), state.take("fresh_events", new.events)
        every = state.table("units")
        before = state.make("before", every.semi_join(fresh, "unit_key"))
        both = before.union(fresh.select(*before.columns).cast(before.schema()))
        after = state.make("after", merged_units(both, state.question))
        touched = fresh.select("unit_key").union(events.select("unit_key"), distinct=True)
        return _Changed(state, before, after, events, state.make("changed", touched))

    def are_few(self) -> bool:
        """Whether to change them costs less than to begin anew."""
        every = self.state.table("units")
        count = row_of(self.units.aggregate(n=self.units.count()))["n"]
        return bool(
            count <= max(FEW_UNITS, MOST_CHANGED * row_of(every.aggregate(n=every.count()))["n"])
        )

    def seen(self, known: Seen) -> Seen | None:
        """The counts of all exposed units now; None where another exposure is the first of all."""
        question = self.state.question
        was, now = seen_of(self.before, question), seen_of(self.after, question)
        first = known.start_us
        earlier = now.start_us is not None and (first is None or now.start_us < first)
        gone = first is not None and was.start_us == first and now.start_us != first
        if earlier or gone:
            return None
        pairs = zip(known.several, now.several, was.several, strict=True)
        return Seen(
            first,
            tuple(before + after - old for before, after, old in pairs),
            known.strangers + now.strangers - was.strangers,
            known.forced + now.forced - was.forced,
        )

    def apply(self, reading: Reading, data_us: int) -> tuple[ir.Table, ir.Table]:
        """Compute the changed units anew, and count them; their numbers as they were and are."""
        state, question = self.state, self.state.question
        old = state.make("old_values", state.table("unit_values").semi_join(self.units, "unit_key"))
        state.delete("units", "before")
        state.insert("units", self.after)
        state.insert("events", self.events)
        theirs = state.table("units").semi_join(self.units, "unit_key")
        units = state.make("their_units", units_of(theirs, question))
        events = state.make("their_events", state.table("events").semi_join(units, "unit_key"))
        new = state.make("new_values", numbers_of(state, events, units, reading))
        state.delete("unit_values", "changed")
        state.insert("unit_values", new)
        for rows, sign in ((self.before, -1), (self.after, 1)):
            count(state, units_of(rows, question), data_us, sign)
        return old, new


def _largest(facts: Facts, events: ir.Table) -> dict[str, float]:
    catalogue = Catalogue.of(facts.scales.parts)
    found = peaks(events, catalogue)
    names = {*found, *facts.peaks}
    return {name: max(found.get(name, 0.0), facts.peaks.get(name, 0.0)) for name in sorted(names)}


def _grow_older(state: State, facts: Facts, data_us: int) -> ir.Table:
    """Count the units that have become old enough since, as they were; the numbers of those whose
    measures wait for that.
    """
    ages, question = ages_of(state.question), state.question
    units = units_of(state.table("units"), question)
    units = _of_age(units.filter(units.arm.notnull()), ages, facts.data_us, data_us)
    come = {f"age_{age}": _came(units, age, facts.data_us, data_us).sum() for age in ages}
    for table, keys in state.groupings() if ages else ():
        state.change(table, units.group_by(list(keys)).aggregate(**come), 1)
    needed = [layout.needed_age for layout in facts.scales.layouts(question)]
    waiting = sorted({age for age in needed if age is not None})
    return state.make("aged", _of_age(state.table("unit_values"), waiting, facts.data_us, data_us))


def _came(units: ir.Table, age: int, before_us: int, data_us: int) -> ir.BooleanColumn:
    return (units.first_us > before_us - age) & (units.first_us <= data_us - age)


def _of_age(units: ir.Table, ages: Sequence[int], before_us: int, data_us: int) -> ir.Table:
    """The units that have come of any of these ages."""
    came = [_came(units, age, before_us, data_us) for age in ages]
    return units.filter(reduce(or_, came, ibis.literal(False)))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Numbers of units: of those that became old enough, and of those that changed, as they were
    and as they are.
    """

    aged: ir.Table
    old: ir.Table
    new: ir.Table


def _sum_up(state: State, before: Facts, after: Facts, rows: _Rows) -> None:
    """Change the sums by the difference; those of measures whose numbers are now counted in other
    steps, or capped elsewhere, are summed up anew.
    """
    was, now = (dict(enumerate(facts.scales.layouts(state.question))) for facts in (before, after))
    same = {m: layout for m, layout in now.items() if layout == was[m]}
    waiting = {m: layout for m, layout in same.items() if layout.needed_age is not None}
    sum_up(state, Wanted(waiting, before.data_us), rows.aged, -1)
    sum_up(state, Wanted(waiting, after.data_us), rows.aged, 1)
    sum_up(state, Wanted(same, after.data_us), rows.old, -1)
    sum_up(state, Wanted(same, after.data_us), rows.new, 1)
    other = {m: layout for m, layout in now.items() if m not in same}
    names = [name for m, layout in other.items() for name in sum_names(m, layout)]
    for table, _ in state.groupings() if other else ():
        state.clear(table, names)
    sum_up(state, Wanted(other, after.data_us))
