"""One row a unit of an arm, for what cannot be told from sums."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from ibis import ir
from touchstone_statistics.gaps import FloatArray

from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.engine import row_of
from services.results.adapters.lake.parts import part_of
from services.results.domain.measure import Measure


@dataclass(frozen=True, slots=True)
class Sampling:
    """At most so many units of an arm. Keys are digests, so that the least of them are a random
    sample, and the same one again.
    """

    arm: int
    most: int


def sampled_numbers(
    units: ir.Table, values: ir.Table, layout: Layout, sampling: Sampling, data_us: int
) -> tuple[list[FloatArray], int]:
    """For each column of the layout the numbers of the units, ascending by key; and how many units
    count. A unit without events has the default of the column.
    """
    counting = units.filter(units.arm == sampling.arm)
    if layout.needed_age is not None:
        counting = counting.filter(counting.first_us <= data_us - layout.needed_age)
    many = row_of(counting.aggregate(units=counting.count()))["units"]
    chosen = counting.order_by("unit_key").limit(sampling.most).select(sampled="unit_key")
    whole = {f"w_{c}": one for c, one in enumerate(layout.of(values, data_us))}
    numbers = values.select("unit_key", **whole)
    joined = chosen.left_join(numbers, chosen.sampled == numbers.unit_key)
    found = joined.order_by("sampled").select(*whole).to_pyarrow()
    columns = []
    for place, column in enumerate(layout.columns):
        steps = pc.fill_null(found[f"w_{place}"], 0).to_numpy() + column.default
        columns.append(np.ldexp(steps.astype(np.float64), column.scale.final))
    return columns, int(many)


def rows_by_column(measure: Measure, numbers: Sequence[FloatArray]) -> FloatArray:
    """A row a unit with all columns of the measure. Those that are made of no part say that a unit
    counts: they are 1.
    """
    left, ones = iter(numbers), np.ones(len(numbers[0]))
    columns = [one if part_of(measure, one) else None for one in measure.columns]
    return np.column_stack([ones if one is None else next(left) for one in columns])
