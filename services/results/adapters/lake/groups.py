"""Counts and sums by slice and arm, put together into what an observation holds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ibis import ir

from services.results.adapters.lake.columns import Instant, Layout
from services.results.adapters.lake.parts import needed_age
from services.results.adapters.lake.slices import Value
from services.results.adapters.lake.sums import Key, Row, cell_of
from services.results.domain.exact import Sums
from services.results.domain.measure import Measure
from services.results.domain.observation import Question, Slice

Values = tuple[tuple[Value, ...], ...]
"""What the slots of each dimension stand for."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows of counts, and of sums, by dimension; keys are a slot and an arm. Without dimensions
    there is one grouping, whose only slot is 0.
    """

    counts: tuple[Mapping[Key, Row], ...]
    sums: tuple[Mapping[Key, Row], ...] = ()

    def everybody(self, of_sums: bool) -> Mapping[Key, Row]:
        """All slots of a dimension together, by arm: each unit is in one of them."""
        groups = self.sums if of_sums else self.counts
        return added((key[-1:], row) for key, row in groups[0].items()) if groups else {}


def added(rows: Iterable[tuple[Key, Row]]) -> dict[Key, Row]:
    """Rows of numbers under the same key, added up."""
    total: defaultdict[Key, dict[str, Any]] = defaultdict(dict)
    for key, row in rows:
        into = total[key]
        for name, value in row.items():
            into[name] = into.get(name, 0) + int(value or 0)
    return dict(total)


def groupings(columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The columns by which everything is summed up, in turn."""
    return [(column, "arm") for column in columns] or [("arm",)]


def ages_of(question: Question) -> tuple[int, ...]:
    """The ages that units have to have for some measure, in microseconds."""
    found = {age for age in map(needed_age, question.measures) if age is not None}
    return tuple(sorted(found))


def counts_table(
    units: ir.Table, keys: Sequence[str], ages: Sequence[int], data_us: Instant
) -> ir.Table:
    """One row for each combination of the keys: the units in arms, and those of each age."""
    counted = units.filter(units.arm.notnull())
    old = {f"age_{age}": (counted.first_us <= data_us - age).sum() for age in ages}
    return counted.group_by(list(keys)).aggregate(units=counted.count(), **old)


def slices_of(grouped: Grouped, values: Values, question: Question) -> tuple[Slice, ...]:
    """Everybody, then the values of each dimension."""
    everybody = Slice(_units(grouped.everybody(of_sums=False), (), question))
    found = [everybody]
    for n, of_dimension in enumerate(values):
        for value in of_dimension:
            units = _units(grouped.counts[n], (value.slot,), question)
            name = question.dimensions[n]
            found.append(Slice(units, name, value.value, value.others))
    return tuple(found)


def measured(
    grouped: Grouped, values: Values, question: Question, layouts: tuple[Layout, ...]
) -> tuple[Sums, ...]:
    """The sums of each measure, by slice and arm."""
    places: list[tuple[Mapping[Key, Row], Mapping[Key, Row], Key]] = [
        (grouped.everybody(of_sums=False), grouped.everybody(of_sums=True), ())
    ]
    for n, of_dimension in enumerate(values):
        sums = grouped.sums[n] if grouped.sums else {}
        places += [(grouped.counts[n], sums, (value.slot,)) for value in of_dimension]
    return tuple(
        Sums(
            tuple(_exponents(measure, layout)),
            tuple(
                tuple(
                    cell_of(
                        sums.get((*slot, arm)),
                        m,
                        measure,
                        layout,
                        counted(counts.get((*slot, arm)), measure),
                    )
                    for arm in range(len(question.plan.arms))
                )
                for counts, sums, slot in places
            ),
        )
        for m, (measure, layout) in enumerate(zip(question.measures, layouts, strict=True))
    )


def counted(row: Row | None, measure: Measure) -> int:
    """How many of the units of a row of counts count for a measure."""
    if row is None:
        return 0
    age = needed_age(measure) if measure.needs_age else None
    return int(row["units"] if age is None else row[f"age_{age}"])


def incomplete(grouped: Grouped, question: Question) -> tuple[tuple[int, ...], ...]:
    """For each measure and arm how many units have their window not over yet."""
    counts = grouped.everybody(of_sums=False)
    rows = [counts.get((arm,)) for arm in range(len(question.plan.arms))]
    return tuple(
        tuple(
            0 if row is None or age is None else int(row["units"] - row[f"age_{age}"])
            for row in rows
        )
        for age in map(needed_age, question.measures)
    )


def _units(counts: Mapping[Key, Row], slot: Key, question: Question) -> tuple[int, ...]:
    rows = [counts.get((*slot, arm)) for arm in range(len(question.plan.arms))]
    return tuple(0 if row is None else int(row["units"]) for row in rows)


def _exponents(measure: Measure, layout: Layout) -> Iterable[int]:
    """The exponent of each column of the measure; that of the ones which say who counts is 0."""
    of_parts = {whole.column: whole.scale.final for whole in layout.columns}
    return [of_parts.get(column, 0) for column in measure.columns]
