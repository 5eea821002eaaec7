"""The columns of a measure as whole numbers, made of the parts of a unit."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import ibis
from ibis import ir

from services.results.adapters.lake.parts import (
    SECONDS_EXPONENT,
    Nature,
    Part,
    needed_age,
    part_of,
)
from services.results.adapters.lake.values import SECOND_STEPS
from services.results.domain.measure import Column, ColumnRole, Measure
from services.results.domain.observation import Question

# Values become whole numbers of at most this many bits, as many as a double holds, before they
# are added: sums are then exact, and the order of addition cannot change a digit.
BITS = 53
# Products of units' numbers have to add up within the 38 decimal digits of the widest exact type.
EXACT_BITS = 126
# A product of two numbers of together at most this many bits fits the engine's own integers.
WORD_BITS = 62
COARSE_BITS = 20
SMALLEST_EXPONENT = -1000
LOG_EXPONENT, LOG_BITS = -36, 46
"""Logarithms, at most some 710 in size, are counted in steps of 2**-36."""
Instant: TypeAlias = "int | ir.IntegerScalar"
"""Microseconds since 1970, known now or when the query runs."""
CAPPED = {
    ColumnRole.CAPPED_VALUE: ColumnRole.VALUE,
    ColumnRole.CAPPED_DENOMINATOR: ColumnRole.DENOMINATOR,
}


def step_exponent(peak: float | None, bits: int = BITS) -> int:
    """Exponent e for which values up to `peak` are at most `2**bits` steps of `2**e`."""
    if not peak:
        return 0
    return max(math.frexp(peak)[1] - bits, SMALLEST_EXPONENT)


@dataclass(frozen=True, slots=True)
class Scale:
    """How the numbers of a part are counted: `exponent` is that of the step of its events, and
    they are shortened by `shift` more bits to at most `bits`.
    """

    exponent: int
    shift: int
    bits: int
    binary: bool = False
    """Whether a number is 0 or 1, and so its own square."""

    @property
    def final(self) -> int:
        """The exponent of the step that sums are in."""
        return self.exponent + self.shift


def scale_of(part: Part, exponent: int, peak: float, bits: int) -> Scale:
    """The scale of a part whose largest number in size is `peak`, in the steps of its events, which
    are of `exponent`.
    """
    if part.nature in {Nature.FLAG, Nature.DEPTH}:
        return Scale(0, 0, 1, binary=True)
    base = 0
    if part.nature is Nature.AMOUNT:
        base = exponent
    if part.nature is Nature.SAVED:
        base = SECONDS_EXPONENT
    shift = max(step_exponent(peak, bits), 0)
    return Scale(base, shift, max(math.frexp(peak)[1] - shift, 1))


@dataclass(frozen=True, slots=True)
class Whole:
    """A column of a measure. `default` is added to the number of every unit that counts: that much
    has a unit without a row.
    """

    column: Column
    part: int
    scale: Scale
    cap: float | None = None
    """The most that it counts, in the steps of its events."""
    default: int = 0
    unit: float = 1.0
    """One step of its events, of a logarithm."""

    def of(self, values: ir.Table) -> ir.IntegerColumn:
        """The number of each unit, before the default."""
        number = values[f"x_{self.part}"]
        if self.column.role is ColumnRole.STEP:
            return (number > self.column.index).cast("int64")
        if self.column.role in SIGNS:
            return SIGNS[self.column.role](number).cast("int64")
        if self.column.role is ColumnRole.LOG:
            positive = (number > 0).ifelse(number * self.unit, 1.0)
            return (positive.ln() * math.ldexp(1.0, -LOG_EXPONENT)).round().cast("int64")
        if self.cap is not None:
            number = ibis.least(number, self.cap)
        if self.scale.shift or self.cap is not None:
            number = (number * math.ldexp(1.0, -self.scale.shift)).round()
        whole = number.cast("int64")
        # What is capped below zero is so for a unit without a row, too.
        return whole - self.default if self.cap is not None and self.default else whole


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a measure that are made of parts, and the age that a unit needs to count."""

    columns: tuple[Whole, ...]
    needed_age: int | None

    def of(self, values: ir.Table, data_us: Instant) -> list[ir.IntegerColumn]:
        """Every column; 0 where the unit is not old enough."""
        numbers = [column.of(values) for column in self.columns]
        if self.needed_age is None:
            return numbers
        old = values.first_us <= data_us - self.needed_age
        return [old.ifelse(number, 0) for number in numbers]


@dataclass(frozen=True, slots=True)
class Scales:
    """The scale of each part, by its number, and the caps of measures in the steps of events."""

    parts: tuple[Part, ...]
    scales: tuple[Scale, ...]
    caps: Mapping[tuple[int, ColumnRole], float]

    def layouts(self, question: Question) -> tuple[Layout, ...]:
        """How the columns of each measure come out of the parts."""
        return tuple(self._layout(m, measure) for m, measure in enumerate(question.measures))

    def _layout(self, number: int, measure: Measure) -> Layout:
        found = []
        for column in measure.columns:
            part = part_of(measure, column)
            if part is not None:
                at = self.parts.index(part)
                cap = self.caps.get((number, column.role))
                default = _default(part, self.scales[at], cap)
                found.append(_whole(Whole(column, at, self.scales[at], cap, default)))
        return Layout(tuple(found), needed_age(measure) if measure.needs_age else None)


SIGNS: Mapping[ColumnRole, Callable[[ir.NumericColumn], ir.BooleanColumn]] = {
    ColumnRole.POSITIVE: lambda number: number > 0,
    ColumnRole.NEGATIVE: lambda number: number < 0,
}


def _whole(found: Whole) -> Whole:
    """The column with the scale that its role has, whatever that of the part is."""
    if found.column.role in SIGNS:
        return replace(found, scale=Scale(0, 0, 1, binary=True))
    if found.column.role is ColumnRole.LOG:
        unit = math.ldexp(1.0, found.scale.exponent)
        return replace(found, scale=Scale(LOG_EXPONENT, 0, LOG_BITS), unit=unit)
    return found


def _default(part: Part, scale: Scale, cap: float | None) -> int:
    if part.nature is Nature.SAVED and part.span.high is not None:
        return round(part.span.high * SECOND_STEPS) >> scale.shift
    return 0 if cap is None else round(min(cap, 0.0) * math.ldexp(1.0, -scale.shift))
