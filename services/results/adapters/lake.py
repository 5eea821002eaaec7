"""Sums over units from the event tables, as Ibis expressions that any engine can run."""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis import ir

from services.results.domain.exact import Cell, Sums
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import (
    DataCut,
    ExperimentPlan,
    Links,
    Observation,
    Question,
    Slice,
)
from shared.identity.events import OwnedEvents, owned_events
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.layout import unit_key
from shared.lake.snapshot import EventTables
from shared.lake.watermark import Watermark

# Values become whole numbers of at most this many bits, as many as a double holds, before they
# are added: sums are then exact, and the order of addition cannot change a digit.
BITS = 53
# Squares of units' numbers have to add up within the 38 decimal digits of the widest exact type.
EXACT = "decimal(38, 0)"
EXACT_BITS = 126
SMALLEST_EXPONENT = -1000
WINDOW_UNIT = dt.timedelta(microseconds=1)
FORCED = "forced"
"""The reason of an exposure to a variant that was forced, in lower case."""


@dataclass(frozen=True, slots=True)
class LakeMoments:
    """MomentsSource over the event tables."""

    tables: EventTables
    identities: IdentityReader

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See MomentsSource."""
        await self.tables.wait_until(at_least, timeout_s)

    def observe(self, question: Question) -> Observation:
        """See MomentsSource."""
        snapshot = self.tables.snapshot(question.project)
        with snapshot.read() as tables:
            identity = self.identities.of(question.project, snapshot.watermark, tables)
            plan, stitching = question.plan, question.stitching
            ownership = Ownership(plan.unit_type, identity, stitching, as_key=True)
            exposed = _exposed(tables["exposures"], plan, ownership)
            every = _stored("exposed_units", _exposed_units(exposed.rows, plan))
            left_out = _rows(_left_out(every))[0]
            units = _stored("observed_units", _units(every))
            counts = {row["variant"]: row for row in _rows(_counts(units))}
            start = min((counts[v]["start"] for v in counts if v is not None), default=None)
            measured = _measured(tables["conversions"], question, start, ownership)
            in_arm = {variant: int(row["units"]) for variant, row in counts.items()}
            in_arms = tuple(in_arm.get(arm.variant, 0) for arm in question.plan.arms)
            sums = _all_sums(measured, units, question, in_arms)
        return Observation(
            slices=(Slice(in_arms),),
            sums=sums,
            multiply_exposed=(in_arm.get(None, 0), *(0 for _ in question.plan.arms[1:])),
            unknown_variant_exposures=left_out["strangers"],
            forced_units=left_out["forced"],
            cut=_cut(snapshot.watermark),
            links=Links(identity.version, stitching, exposed.ambiguous, _ambiguous(measured)),
        )


def _cut(watermark: Watermark) -> DataCut:
    written = bool(watermark.journal_id)
    return DataCut(
        token=watermark.token() if written else "",
        commit_time=watermark.commit_time if written else None,
    )


def _rows(expression: ir.Table) -> list[dict[str, Any]]:
    return expression.to_pyarrow().to_pylist()  # type: ignore[no-any-return]


def _stored(name: str, expression: ir.Table) -> ir.Table:
    """Computed once for several questions; it goes when the snapshot is closed."""
    return expression.get_backend().create_table(name, expression, temp=True)


def _ambiguous(events: OwnedEvents | None) -> int:
    return 0 if events is None else events.ambiguous


def _exposed(exposures: ir.Table, plan: ExperimentPlan, ownership: Ownership) -> OwnedEvents:
    of_experiment = exposures.filter(exposures.experiment == plan.experiment_id)
    # What went through a flag says its reason in the words of flags, which know none for this: the
    # units that are forced now are known by their ids.
    looked_at = of_experiment.unit_key.isin([unit_key(*unit) for unit in plan.forced])
    forced = (of_experiment.reason.fill_null("").lower() == FORCED) | looked_at
    marked = of_experiment.mutate(forced=forced)
    return owned_events(marked, ("event_time", "variant", "forced"), ownership)


def _exposed_units(exposed: ir.Table, plan: ExperimentPlan) -> ir.Table:
    """One row a unit: what it saw of the plan's variants, how often it saw others, and whether a
    variant was ever forced on it.
    """
    known = exposed.variant.isin([arm.variant for arm in plan.arms])
    return exposed.group_by("unit_key").aggregate(
        first=exposed.event_time.min(where=known),
        low=exposed.variant.min(where=known),
        high=exposed.variant.max(where=known),
        strangers=exposed.count(where=~known),
        forced=exposed.forced.any(),
    )


def _left_out(every: ir.Table) -> ir.Table:
    """The units that were looked at on purpose, and the others' exposures of unknown variants."""
    return every.aggregate(
        forced=every.count(where=every.forced),
        strangers=every.strangers.sum(where=~every.forced).fill_null(0),
    )


def _units(every: ir.Table) -> ir.Table:
    """One row a unit: its first exposure and its variant, null when it saw several."""
    units = every.filter(~every.forced, every.low.notnull())
    single = ibis.ifelse(units.low == units.high, units.low, ibis.null("string"))
    return units.select("unit_key", "first", variant=single)


def _counts(units: ir.Table) -> ir.Table:
    return units.group_by("variant").aggregate(units=units.count(), start=units.first.min())


def _measured(
    conversions: ir.Table, question: Question, start: dt.datetime | None, ownership: Ownership
) -> OwnedEvents | None:
    """The events that are measured, from the first exposure of all on; None without one."""
    if start is None or not question.measures:
        return None
    events = conversions.filter(
        conversions.event_name.isin(sorted({m.event_name for m in question.measures})),
        conversions.day >= ibis.literal(start.date()),
        conversions.event_time >= ibis.literal(start),
    )
    return owned_events(events, ("event_time", "event_name", "value"), ownership)


def _all_sums(
    measured: OwnedEvents | None, units: ir.Table, question: Question, in_arms: tuple[int, ...]
) -> tuple[Sums, ...]:
    """Sums of each measure."""
    variants, measures = [arm.variant for arm in question.plan.arms], question.measures
    if measured is None:
        nothing = tuple(Cell(count, (0,), (0,)) for count in in_arms)
        return tuple(Sums((0,), (nothing,)) for _ in measures)
    events = measured.rows
    steps = _event_steps(events, measures)
    values = _stored("unit_values", _unit_values(events, units, measures, steps))
    unit_steps = _unit_steps(values, measures)
    exponents = [
        unit_step + steps.get(measure.event_name, 0) if measure.kind is MetricKind.MEAN else 0
        for measure, unit_step in zip(measures, unit_steps, strict=True)
    ]
    found = {row["variant"]: row for row in _rows(_sums(values, unit_steps))}
    cells = [
        tuple(
            _cell(found.get(variant), m, count)
            for variant, count in zip(variants, in_arms, strict=True)
        )
        for m in range(len(measures))
    ]
    return tuple(Sums((e,), (row,)) for e, row in zip(exponents, cells, strict=True))


def _cell(row: Mapping[str, Any] | None, measure: int, units: int) -> Cell:
    if row is None:
        return Cell(units, (0,), (0,))
    return Cell(units, (int(row[f"sum_{measure}"]),), (int(row[f"square_{measure}"]),))


def _event_steps(events: ir.Table, measures: tuple[Measure, ...]) -> dict[str, int]:
    """For each summed event the exponent of the step in which its values are counted."""
    summed = sorted({m.event_name for m in measures if m.kind is MetricKind.MEAN})
    if not summed:
        return {}
    peaks = events.filter(events.event_name.isin(summed)).group_by("event_name")
    rows = _rows(peaks.aggregate(peak=events.value.abs().max()))
    return {row["event_name"]: step_exponent(row["peak"]) for row in rows}


def step_exponent(peak: float | None, bits: int = BITS) -> int:
    """Exponent e for which values up to `peak` are at most `2**bits` steps of `2**e`."""
    if not peak:
        return 0
    return max(math.frexp(peak)[1] - bits, SMALLEST_EXPONENT)


def _unit_values(
    events: ir.Table, units: ir.Table, measures: tuple[Measure, ...], steps: Mapping[str, int]
) -> ir.Table:
    """One row a unit that has events: its number for each measure, in whole steps."""
    single = units.filter(units.variant.notnull())
    joined = events.join(single, "unit_key").select(
        "unit_key", "variant", "first", "event_time", "event_name", "value"
    )
    joined = joined.filter(joined.event_time >= joined["first"])
    return joined.group_by("unit_key", "variant").aggregate(
        **{f"x_{m}": _unit_value(joined, measure, steps) for m, measure in enumerate(measures)}
    )


def _unit_value(joined: ir.Table, measure: Measure, steps: Mapping[str, int]) -> ir.Column:
    counts = joined.event_name == measure.event_name
    if measure.window is not None:
        window = ibis.interval(microseconds=measure.window // WINDOW_UNIT)
        counts = counts & (joined.event_time <= joined["first"] + window)
    if measure.kind is MetricKind.PROPORTION:
        return ibis.ifelse(counts, 1.0, 0.0).max()
    step = math.ldexp(1.0, -steps.get(measure.event_name, 0))
    whole = (joined.value * step).round().cast("int64")
    # The exact sum is rounded once, by the cast: adding in another order changes nothing.
    return whole.sum(where=counts).cast("float64").fill_null(0.0)


def _unit_steps(values: ir.Table, measures: tuple[Measure, ...]) -> list[int]:
    """For each measure how far units' numbers have to be shortened to fit BITS again."""
    peaks = {f"x_{m}": values[f"x_{m}"].abs().max() for m in range(len(measures))}
    row = _rows(values.aggregate(rows=values.count(), **peaks))[0]
    bits = min(BITS, (EXACT_BITS - row["rows"].bit_length()) // 2)
    return [max(step_exponent(row[f"x_{m}"], bits), 0) for m in range(len(measures))]


def _sums(values: ir.Table, unit_steps: list[int]) -> ir.Table:
    aggregates = {}
    for m, exponent in enumerate(unit_steps):
        whole = (values[f"x_{m}"] * math.ldexp(1.0, -exponent)).round().cast(EXACT)
        aggregates[f"sum_{m}"] = whole.sum().cast(EXACT)
        aggregates[f"square_{m}"] = (whole * whole).sum().cast(EXACT)
    return values.group_by("variant").aggregate(**aggregates)
