"""What is counted of all units that were exposed, in an arm or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ibis import ir

from services.results.adapters.lake.engine import row_of, rows_of
from services.results.adapters.lake.exposed import units_of
from services.results.domain.observation import Question


@dataclass(frozen=True, slots=True)
class Seen:
    """`start_us`: the first exposure of all, None without any. `several`: for each arm the units
    that saw it first and another later. `strangers`: exposures to variants that the plan does not
    have. `forced`: units on which a variant was forced; they are in none of the others.
    """

    start_us: int | None
    several: tuple[int, ...]
    strangers: int
    forced: int


def seen_of(every: ir.Table, question: Question) -> Seen:
    """The counts of a table of exposed units."""
    return seen_in(rows_of(seen_table(every, question)), row_of(left_out_table(every)), question)


def seen_table(every: ir.Table, question: Question) -> ir.Table:
    """By the first arm how many units saw another, and when the first of all came."""
    units = units_of(every, question)
    return units.group_by("first_arm").aggregate(
        several=units.several.sum(), start=units.first_us.min()
    )


def left_out_table(every: ir.Table) -> ir.Table:
    """The units that were looked at on purpose, and the others' exposures of unknown variants."""
    return every.aggregate(
        forced=every.forced.sum().fill_null(0),
        strangers=every.strangers.sum(where=~every.forced).fill_null(0),
    )


def seen_in(
    by_arm: Sequence[Mapping[str, Any]], left_out: Mapping[str, Any], question: Question
) -> Seen:
    """The counts out of the rows of both tables."""
    rows = {row["first_arm"]: row for row in by_arm}
    arms = range(len(question.plan.arms))
    return Seen(
        start_us=min((row["start"] for row in rows.values()), default=None),
        several=tuple(int(rows[arm]["several"]) if arm in rows else 0 for arm in arms),
        strangers=int(left_out["strangers"]),
        forced=int(left_out["forced"]),
    )
