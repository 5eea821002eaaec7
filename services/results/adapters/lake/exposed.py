"""The units of an experiment: what each saw first, when, and what it was then."""

import ibis
from ibis import ir

from services.results.adapters.lake.engine import epoch_us
from services.results.adapters.lake.grouped_units import (
    CLUSTER,
    cluster_columns,
    in_windows,
    with_linked_cluster,
)
from services.results.domain.observation import ExperimentPlan, MultipleExposures, Question
from shared.identity.events import OwnedEvents, owned_events
from shared.identity.ownership import Ownership
from shared.lake.filters import PROPERTIES, property_of
from shared.lake.layout import unit_key

FORCED = "forced"
"""The reason of an exposure to a variant that was forced, in lower case."""


def narrow_exposures(exposures: ir.Table, question: Question, ownership: Ownership) -> OwnedEvents:
    """The experiment's exposures with their units: unit_key, us (the time in microseconds), arm
    (null for a variant that the plan does not have), forced, and the dimensions.
    """
    plan = question.plan
    rows = exposures.filter(exposures.experiment == plan.experiment_id)
    # What went through a flag says its reason in the words of flags, which know none for this: the
    # units that are forced now are known by their ids.
    looked_at = rows.unit_key.isin([unit_key(*unit) for unit in plan.forced])
    forced = (rows.reason.fill_null("").lower() == FORCED) | looked_at
    arm = rows.variant.cases(*((arm.variant, n) for n, arm in enumerate(plan.arms)))
    dimensions = {
        column: _dimension(rows, name) for name, column in dimension_columns(question).items()
    }
    marked = rows.mutate(forced=forced, arm=arm.cast("int16"), **dimensions)
    marked = _with_cluster(marked, question, ownership)
    columns = ("arm", "forced", *dimensions, *(c for c in marked.columns if c == CLUSTER))
    owned = owned_events(marked, ("event_time", *columns), ownership)
    narrow = owned.rows.select("unit_key", *columns, us=epoch_us(owned.rows.event_time))
    switchback = None if question.clustering is None else question.clustering.switchback
    return in_windows(OwnedEvents(narrow, owned.ambiguous), switchback, exposures=True)


def _with_cluster(rows: ir.Table, question: Question, ownership: Ownership) -> ir.Table:
    clustering = question.clustering
    if clustering is None or not clustering.named:
        return rows
    if clustering.unit_type:
        return with_linked_cluster(rows, clustering, ownership)
    return rows.mutate(**{CLUSTER: _dimension(rows, clustering.field)})


def dimension_columns(question: Question) -> dict[str, str]:
    """The column of each dimension of a question."""
    return {name: f"dimension_{n}" for n, name in enumerate(question.dimensions)}


def first_columns(question: Question) -> tuple[str, ...]:
    """The columns of a unit that its first exposure decides."""
    return (*dimension_columns(question).values(), *cluster_columns(question))


def exposed_units(narrow: ir.Table, question: Question) -> ir.Table:
    """One row a unit: unit_key, stamp (its first exposure to a variant of the plan, as time and
    arm in one number), low and high (the arms that it saw), strangers (how often it saw others),
    forced (whether a variant ever was), and the dimensions at the first exposure.
    """
    stamp = narrow.us * arms_in_a_stamp(question.plan) + narrow.arm
    known = narrow.arm.notnull()
    dimensions = first_columns(question)
    at_first = {}
    if dimensions:
        # Exposures at one instant have no first: the least of what they say is taken.
        seen = ibis.struct({"stamp": stamp} | {name: narrow[name] for name in dimensions})
        at_first = {"at_first": seen.min(where=known)}
    units = narrow.group_by("unit_key").aggregate(
        stamp=stamp.min(),
        low=narrow.arm.min(),
        high=narrow.arm.max(),
        strangers=(~known).sum().cast("int64"),
        forced=narrow.forced.any(),
        **at_first,
    )
    if not dimensions:
        return units
    unpacked = {name: units.at_first[name] for name in dimensions}
    return units.mutate(**unpacked).drop("at_first")


def merged_units(rows: ir.Table, question: Question) -> ir.Table:
    """One row a unit out of several that `exposed_units` made of parts of its exposures."""
    dimensions = first_columns(question)
    seen = ibis.struct({"stamp": rows.stamp} | {name: rows[name] for name in dimensions})
    units = rows.group_by("unit_key").aggregate(
        stamp=rows.stamp.min(),
        low=rows.low.min(),
        high=rows.high.max(),
        strangers=rows.strangers.sum().cast("int64"),
        forced=rows.forced.any(),
        at_first=seen.min(where=rows.stamp.notnull()),
    )
    return units.mutate(**{name: units.at_first[name] for name in dimensions}).drop("at_first")


def units_of(every: ir.Table, question: Question) -> ir.Table:
    """The units that were not looked at on purpose: unit_key, first_us (the time of the first
    exposure), first_arm, several (whether it saw more), arm (where it counts, null for nowhere),
    and the dimensions.
    """
    units = every.filter(~every.forced, every.stamp.notnull())
    size = arms_in_a_stamp(question.plan)
    first_arm = (units.stamp % size).cast("int16")
    several = units.low != units.high
    arm = first_arm
    if question.multiple_exposures is MultipleExposures.EXCLUDE:
        arm = several.ifelse(ibis.null("int16"), first_arm)
    dimensions = first_columns(question)
    first_us = units.stamp // size
    return units.select(
        "unit_key", *dimensions, first_us=first_us, first_arm=first_arm, several=several, arm=arm
    )


def arms_in_a_stamp(plan: ExperimentPlan) -> int:
    """Times are multiplied by this, so that an arm fits in below; a power of two."""
    return 1 << max(len(plan.arms) - 1, 1).bit_length()


def _dimension(rows: ir.Table, name: str) -> ir.StringValue:
    """A text as it is; of other properties their JSON, and null for none."""
    if not name.startswith(PROPERTIES):
        return rows[name].cast("string")
    found = property_of(rows, name.removeprefix(PROPERTIES))
    text = found.cast("string")
    return ibis.coalesce(found.unwrap_as("string"), text.nullif("null"))
