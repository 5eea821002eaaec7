"""Dimensions cut into slices: the largest values each, and all others together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import ibis
from ibis import ir

from services.results.adapters.lake.engine import rows_of, stored
from services.results.adapters.lake.exposed import dimension_columns
from services.results.domain.observation import MOST_VALUES, Question


@dataclass(frozen=True, slots=True)
class Value:
    """A slice to be: its place within the dimension, its value, how many values it stands for."""

    slot: int
    value: str | None
    others: int = 0


@dataclass(frozen=True, slots=True)
class Sliced:
    """Units with the column `slot_<n>` for dimension n, and what the slots of each stand for."""

    units: ir.Table
    values: tuple[tuple[Value, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of slots."""
        return tuple(f"slot_{n}" for n in range(len(self.values)))


def sliced(units: ir.Table, question: Question) -> Sliced:
    """The units with their slots in place of the values of their dimensions."""
    columns = tuple(dimension_columns(question).values())
    if not columns:
        return Sliced(units, ())
    units = stored("units", units)
    found = []
    with_slots = units
    for n, column in enumerate(columns):
        counted = units.filter(units.arm.notnull())
        sizes = counted.group_by(value=counted[column]).aggregate(units=counted.count())
        ranks = stored("ranks", ranks_of(sizes))
        found.append(values_in(rows_of(slots_table(ranks))))
        slot = {f"slot_{n}": ranks["rank"].cast("int16")}
        named = ranks.select(**slot, **{f"ranked_{n}": ranks.value})
        match = with_slots[column].identical_to(named[f"ranked_{n}"])
        with_slots = with_slots.left_join(named, match).drop(f"ranked_{n}")
    return Sliced(stored("sliced", with_slots.drop(*columns)), tuple(found))


def ranks_of(values: ir.Table) -> ir.Table:
    """Each value with its rank by how many units have it, none above MOST_VALUES."""
    order = [values.units.desc(), values.value.isnull(), values.value]
    rank = ibis.row_number().over(ibis.window(order_by=order))
    return values.select("value", rank=ibis.least(rank, MOST_VALUES))


def slots_table(ranks: ir.Table) -> ir.Table:
    """By rank the value, and how many have that rank."""
    return ranks.group_by(slot=ranks["rank"]).aggregate(
        value=ranks.value.max(), values=ranks.count()
    )


def values_in(rows: Sequence[Mapping[str, Any]]) -> tuple[Value, ...]:
    """What the slots of a dimension stand for, by the rows of `slots_table`."""
    return tuple(
        Value(row["slot"], row["value"])
        if row["slot"] < MOST_VALUES
        else Value(row["slot"], None, row["values"])
        for row in sorted(rows, key=itemgetter("slot"))
    )
