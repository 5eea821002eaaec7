"""From the units and the events to the rows of units, and how their numbers are counted."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ibis import ir

from services.results.adapters.lake.caps import caps_of
from services.results.adapters.lake.columns import (
    BITS,
    EXACT_BITS,
    Scale,
    Scales,
    scale_of,
    step_exponent,
)
from services.results.adapters.lake.engine import row_of
from services.results.adapters.lake.events import Catalogue, Peaks, peaks
from services.results.adapters.lake.groups import Grouped, counted
from services.results.adapters.lake.parts import Nature, Part, longest_lookback
from services.results.adapters.lake.sums import Row
from services.results.adapters.lake.values import SECOND_STEPS, Reading
from services.results.domain.measure import Source
from services.results.domain.observation import Question

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LAST = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


def since(start_us: int | None, question: Question) -> dt.datetime:
    """From when on events are read: a look back before the first exposure of all, at `start_us`."""
    if start_us is None:
        return LAST
    start = EPOCH + dt.timedelta(microseconds=start_us)
    return max(start - longest_lookback(question), EPOCH)


def reading_of(narrow: ir.Table, parts: tuple[Part, ...], catalogue: Catalogue) -> Reading:
    """How the values of these events are counted."""
    return Reading(parts, catalogue, exponents(peaks(narrow, catalogue), catalogue))


def exponents(largest: Peaks, catalogue: Catalogue) -> Mapping[Source, int]:
    """The exponent of the step in which the values of each source are counted."""
    steps = map(step_exponent, largest)
    return dict(zip(catalogue.amounts, steps, strict=True))


@dataclass(frozen=True, slots=True)
class Shown:
    """Units that count: by arm, and how old the data is."""

    grouped: Grouped
    data_us: int


def scales_of(
    values: ir.Table,
    question: Question,
    reading: Reading,
    shown: Shown,
    sizes: Mapping[str, Any] | None = None,
) -> Scales:
    """How the numbers of the units are counted, and the most that each may count. `sizes` is the
    row of `sizes_table`, where it is known.
    """
    everybody = added_up(shown.grouped.everybody(of_sums=False))
    found = row_of(sizes_table(values, reading)) if sizes is None else sizes
    units = int(everybody.get("units", 0))
    # The sum of a cluster is at most that of all units, and so is the root of its square.
    bits = bits_for(units if question.clustering is None else units * units)
    scales = _scales(found, reading, bits)
    counts = tuple(counted(everybody or None, measure) for measure in question.measures)
    caps = caps_of(values, question.measures, reading, counts, shown.data_us)
    return Scales(reading.parts, scales, caps)


def added_up(rows: Mapping[tuple[int, ...], Row]) -> dict[str, int]:
    """All arms together."""
    total: dict[str, int] = {}
    for row in rows.values():
        for name, value in row.items():
            total[name] = total.get(name, 0) + int(value or 0)
    return total


def bits_for(units: int) -> int:
    """How many bits a unit's number may have, so that the products of all add up exactly."""
    return min(BITS, (EXACT_BITS - units.bit_length()) // 2)


def sizes_table(values: ir.Table, reading: Reading) -> ir.Table:
    """The largest number in size of each part that has no bound."""
    measured = {
        f"x_{n}": values[f"x_{n}"].abs().max()
        for n, part in enumerate(reading.parts)
        if part.nature in {Nature.AMOUNT, Nature.COUNT}
    }
    return values.aggregate(rows=values.count(), **measured)


def _scales(sizes: Mapping[str, Any], reading: Reading, bits: int) -> tuple[Scale, ...]:
    bounded = {
        f"x_{n}": part.span.high * SECOND_STEPS
        for n, part in enumerate(reading.parts)
        if part.nature is Nature.SAVED and part.span.high is not None
    }
    found = {**sizes, **bounded}
    return tuple(
        scale_of(part, reading.exponent(part.source), float(found.get(f"x_{n}") or 0), bits)
        for n, part in enumerate(reading.parts)
    )
