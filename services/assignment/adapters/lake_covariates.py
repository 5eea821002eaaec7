"""What units did before, from the event tables."""

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
from ibis import ir

from services.assignment.application.find_balanced_salt import Covariates, History
from shared.lake.snapshot import EventTables

MOST_UNITS = 1_000_000
_SEEN = ("conversions", "exposures", "touchpoints")


@dataclass(frozen=True, slots=True)
class LakeHistory:
    """See UnitHistory. Of more than `most_units` it takes a part, the same in every run."""

    tables: EventTables
    most_units: int = MOST_UNITS

    def read(self, history: History) -> Covariates:
        """See UnitHistory."""
        with self.tables.snapshot(history.project).read() as tables:
            seen = ibis.union(
                *(_within(tables[name], history).select("unit_id", "unit_key") for name in _SEEN),
                distinct=True,
            )
            seen = _part(seen, self.most_units).select("unit_id")
            did = _did(tables["conversions"], history)
            rows = seen.left_join(did, "unit_id").drop("unit_id_right").order_by("unit_id")
            found = rows.to_pyarrow()
        names = [f"{name} {kind}" for name in history.conversions for kind in ("sum", "units")]
        columns = [found[name].fill_null(0).to_numpy() for name in names]
        return Covariates(
            units=found["unit_id"].to_pylist(),
            names=tuple(names),
            values=np.column_stack(columns).astype(float),
        )


def _within(events: ir.Table, history: History) -> ir.Table:
    start, end = (ibis.literal(time.astimezone(dt.UTC)) for time in (history.start, history.end))
    return events.filter(
        events.unit_type == history.unit_type,
        events.event_time >= start,
        events.event_time < end,
    )


def _part(seen: ir.Table, most: int) -> ir.Table:
    """All units, or those whose key falls below a bound that leaves about as many."""
    count = int(seen.count().to_pyarrow().as_py())
    if count <= most:
        return seen
    buckets = 1 << 20
    kept = most * buckets // count
    return seen.filter((seen.unit_key % buckets + buckets) % buckets < kept)


def _did(conversions: ir.Table, history: History) -> ir.Table:
    """For each unit the sum of the values of each conversion, and whether it had any."""
    events = _within(conversions, history)
    events = events.filter(events.event_name.isin(history.conversions))
    columns: dict[str, ir.Value] = {}
    for name in history.conversions:
        of_name = events.event_name == name
        columns[f"{name} sum"] = ibis.ifelse(of_name, events.value, 0.0).sum()
        columns[f"{name} units"] = of_name.any().cast("int64")
    return events.group_by("unit_id").aggregate(**columns)
