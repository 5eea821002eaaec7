"""Bring a state to a later cut by what is new: the units that have new events are computed anew,
and the sums change by the difference.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from typing import Any

import ibis
from ibis import ir

from services.results.adapters.lake.columns import Scales
from services.results.adapters.lake.cut import received_table
from services.results.adapters.lake.events import Peaks, narrow_events
from services.results.adapters.lake.exposed import (
    exposed_units,
    merged_units,
    narrow_exposures,
    units_of,
)
from services.results.adapters.lake.groups import ages_of
from services.results.adapters.lake.reading import exponents, since, sizes_table
from services.results.adapters.lake.seen import Seen
from services.results.adapters.lake.sums import Wanted, sum_names
from services.results.adapters.lake.values import Reading
from services.results.adapters.live.facts import Facts, Sizes, Stand
from services.results.adapters.live.rebuild import (
    count,
    current_scales,
    largest_of,
    numbers_of,
    seen_among,
    sizes_of,
    sum_up,
    what_numbers_follow,
)
from services.results.adapters.live.state import AFTER, BEFORE, State
from shared.identity.ownership import Ownership

READ = ("exposures", "conversions")
MOST_CHANGED = 0.25
"""With more new rows than this part of the units, a rebuild costs no more."""
FEW_ROWS = 10_000
"""So few new rows are no reason for a rebuild."""


def refresh(
    state: State,
    facts: Facts,
    rows_after: Callable[[str, int], str],
    ownership: Ownership,
    stand: Stand,
) -> bool:
    """Change every table of a state by the rows that came after it, of which `rows_after` gives the
    queries; False, and nothing is changed, where a rebuild is needed.
    """
    came = {name: stand.rows[name] - facts.stand.rows[name] for name in READ}
    if sum(came.values()) > max(FEW_ROWS, MOST_CHANGED * state.size("units")):
        return False
    for name in READ:
        state.take(f"new_{name}", rows_after(name, facts.stand.position))
    received = {name: _received(state, name) for name in READ}
    if any(received[name]["rows"] != came[name] for name in READ):
        # Rows that were read before are gone.
        return False
    ambiguous = _take(state, facts, ownership)
    reading = facts.reading(state.question)
    seen, largest = _seen(state, facts.seen), _largest(state, facts, reading)
    if seen is None or exponents(largest, reading.catalogue) != reading.exponents:
        return False
    data_us = max(facts.data_us, *(row["last"] or 0 for row in received.values()))
    state.moments(facts.data_us, data_us)
    _grow_older(state, facts)
    _apply(state, reading)
    sizes = _sizes(state, facts.sizes, reading)
    scales = current_scales(state, reading, data_us, sizes)
    _sum_up(state, facts.scales, scales)
    state.settle()
    ambiguous_exposures = facts.ambiguous_exposures + ambiguous[0]
    ambiguous_events = facts.ambiguous_events + ambiguous[1]
    ambiguous = (ambiguous_exposures, ambiguous_events)
    state.write_facts(Facts(stand, seen, *ambiguous, data_us, largest, sizes, scales))
    return True


def _received(state: State, name: str) -> Mapping[str, Any]:
    build = partial(_received_table, state, f"new_{name}")
    (found,) = state.rows(f"received {name}", build)
    return found


def _received_table(state: State, name: str) -> ir.Table:
    return received_table(state.table(name))


def _take(state: State, facts: Facts, ownership: Ownership) -> tuple[int, int]:
    """Tables of what is new: fresh_events are the new events, changed the keys of all units that
    have anything new and `was` the rows that these had, before and after the units with new
    exposures as they were and as they are. How many exposures and events could be of several units.
    """
    question, begin = state.question, since(facts.seen.start_us, state.question)
    catalogue = facts.reading(question).catalogue
    ambiguous = {"fresh": 0, "fresh_events": 0}

    def fresh() -> ir.Table:
        owned = narrow_exposures(state.table("new_exposures"), question, ownership)
        ambiguous["fresh"] = owned.ambiguous
        return exposed_units(owned.rows, question)

    def fresh_events() -> ir.Table:
        table = state.table("new_conversions")
        owned = narrow_events(table, catalogue, begin, ownership)
        ambiguous["fresh_events"] = owned.ambiguous
        return owned.rows

    state.make("fresh", fresh, again=_same_query(state, ownership, "exposures", ""))
    again = _same_query(state, ownership, "conversions", begin.isoformat())
    state.make("fresh_events", fresh_events, again=again)
    state.make("changed", lambda: _keys_of_new(state))
    state.pick("was", "units", "changed")
    state.make("before", lambda: state.table("was").semi_join(state.table("fresh"), "unit_key"))
    state.make("after", lambda: _merged(state))
    return ambiguous["fresh"], ambiguous["fresh_events"]


def _same_query(state: State, ownership: Ownership, name: str, again: str) -> str | None:
    """What the query for new rows depends on; None where it follows what the rows link."""
    table = f"new_{name}"
    (found,) = state.rows(f"others {name}", lambda: _others(state, table, ownership.unit_type))
    return None if found["others"] or len(ownership.identity.log) else again


def _others(state: State, name: str, unit_type: str) -> ir.Table:
    rows = state.table(name)
    return rows.aggregate(others=(rows.unit_type != unit_type).sum().fill_null(0))


def _keys_of_new(state: State) -> ir.Table:
    fresh, events = state.table("fresh"), state.table("fresh_events")
    return fresh.select("unit_key").union(events.select("unit_key"), distinct=True)


def _merged(state: State) -> ir.Table:
    before, fresh = state.table("before").drop("place"), state.table("fresh")
    both = before.union(fresh.select(*before.columns).cast(before.schema()))
    return merged_units(both, state.question)


def _seen(state: State, known: Seen) -> Seen | None:
    """The counts of all exposed units now; None where another exposure is the first of all."""
    was, now = seen_among(state, "before"), seen_among(state, "after")
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


def _largest(state: State, facts: Facts, reading: Reading) -> Peaks:
    found = largest_of(state, "fresh_events", reading.catalogue)
    return tuple(map(max, found, facts.peaks))


def _grow_older(state: State, facts: Facts) -> None:
    """Count the units that have become old enough since, as they were, and keep the numbers of
    those that wait for it as the table aged.
    """
    question = state.question
    for table, keys in state.groupings() if ages_of(question) else ():
        state.change(table, "older", partial(_older, state, keys), 1)
    needed = [layout.needed_age for layout in facts.scales.layouts(question)]
    waiting = sorted({age for age in needed if age is not None})
    state.make("aged", lambda: _of_age(state.table("unit_values"), waiting))


def _older(state: State, keys: tuple[str, ...]) -> ir.Table:
    ages = ages_of(state.question)
    units = units_of(state.table("units"), state.question)
    units = _of_age(units.filter(units.arm.notnull()), ages)
    come = {f"age_{age}": _came(units, age).sum() for age in ages}
    return units.group_by(list(keys)).aggregate(**come)


def _came(units: ir.Table, age: int) -> ir.BooleanColumn:
    return (units.first_us > BEFORE - age) & (units.first_us <= AFTER - age)


def _of_age(units: ir.Table, ages: Sequence[int]) -> ir.Table:
    """The units that have come of any of these ages."""
    return units.filter(reduce(or_, [_came(units, age) for age in ages], ibis.literal(False)))


def _apply(state: State, reading: Reading) -> None:
    """Compute the changed units anew and count them; their numbers as they were and as they are
    become the tables old_values and new_values.
    """

    def new_values() -> ir.Table:
        units, events = state.table("their_units"), state.table("their_events")
        return numbers_of(state, events, units, reading)

    state.pick("old_values", "unit_values", "changed")
    state.delete("units", "before")
    state.copy("units", "after")
    state.copy("events", "fresh_events")
    state.make("their_units", lambda: _their_units(state))
    state.make(
        "their_events",
        lambda: state.table("events").semi_join(state.table("their_units"), "unit_key"),
    )
    state.make("new_values", new_values, again=what_numbers_follow(reading))
    state.delete("unit_values", "old_values")
    state.copy("unit_values", "new_values")
    for name, sign in (("before", -1), ("after", 1)):
        count(state, name, partial(_units_in, state, name), sign)


def _their_units(state: State) -> ir.Table:
    """The changed units as they are."""
    after = state.table("after")
    was = state.table("was").anti_join(state.table("fresh"), "unit_key")
    same = was.select(*after.columns)
    return units_of(same.union(after.cast(same.schema())), state.question)


def _sizes(state: State, known: Sizes, reading: Reading) -> Sizes:
    """The largest numbers in size of all units now. They are looked for among all units only where
    one that was the largest went.
    """
    (gone,), (come,) = (
        state.rows(f"sizes {name}", partial(_sizes_table, state, name, reading))
        for name in ("old_values", "new_values")
    )
    now = {}
    for part, size in known.items():
        new = come[part] or 0.0
        if size and gone[part] == size and new < size:
            return sizes_of(state, reading)
        now[part] = max(size, float(new))
    return now


def _sizes_table(state: State, name: str, reading: Reading) -> ir.Table:
    return sizes_table(state.table(name), reading)


def _units_in(state: State, name: str) -> ir.Table:
    return units_of(state.table(name), state.question)


def _sum_up(state: State, before: Scales, after: Scales) -> None:
    """Change the sums by the difference; those of measures whose numbers are now counted in other
    steps, or capped elsewhere, are summed up anew.
    """
    was, now = (dict(enumerate(scales.layouts(state.question))) for scales in (before, after))
    same = {m: layout for m, layout in now.items() if layout == was[m]}
    waiting = {m: layout for m, layout in same.items() if layout.needed_age is not None}
    sum_up(state, "aged", Wanted(waiting, BEFORE), -1, "before")
    sum_up(state, "aged", Wanted(waiting, AFTER), 1)
    sum_up(state, "old_values", Wanted(same, AFTER), -1)
    sum_up(state, "new_values", Wanted(same, AFTER), 1)
    other = {m: layout for m, layout in now.items() if m not in same}
    names = [name for m, layout in other.items() for name in sum_names(m, layout)]
    for table, _ in state.groupings() if other else ():
        state.clear(table, names)
    sum_up(state, "unit_values", Wanted(other, AFTER), 1)
