"""Exposures over the event tables, by the units that journeys are of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import ir

from services.attribution.adapters.journey_events import ArrowNames
from services.attribution.application.calibration_ports import (
    ExposedSpan,
    ExposedUnits,
    ExposureQuery,
    Placed,
)
from services.attribution.domain.arrays import Integers
from services.attribution.ports import Names
from shared.identity.events import owned_events
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.cut import cut_of
from shared.lake.snapshot import EventTables

FORCED = "forced"
"""The reason of an exposure to a variant that was forced, in lower case."""


class LakeExposures:
    """See Exposures."""

    def __init__(self, tables: EventTables, identities: IdentityReader) -> None:
        self._tables = tables
        self._identities = identities

    def read(self, query: ExposureQuery) -> ExposedUnits:
        """See Exposures."""
        snapshot = self._tables.snapshot(query.project)
        cut = cut_of(snapshot.watermark, query.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self._identities.of(query.project, snapshot.watermark, tables, past=cut.past)
            owners = Ownership(query.unit_type, identity, query.stitching, merged=True)
            data_us = max(_received(tables[name]) for name in ("exposures", "conversions"))
            exposed = _by_unit(tables["exposures"], query, owners)
        return ArrowExposedUnits(_placed_rows(exposed, query), len(query.variants), data_us)


def _by_unit(exposures: ir.Table, query: ExposureQuery, owners: Ownership) -> pa.Table:
    """One row a unit and experiment: unit_id, experiment, variant (null where it saw several), and
    first, the time of its first exposure. Units that were ever forced are left out.
    """
    named = sorted({each.experiment_id for each in query.variants})
    rows = exposures.filter(exposures.experiment.isin(named))
    rows = rows.mutate(forced=rows.reason.fill_null("").lower() == FORCED)
    columns = ("event_time", "experiment", "variant", "forced")
    owned = owned_events(rows, columns, owners).rows
    units = owned.group_by(["unit_id", "experiment"]).aggregate(
        first=owned.event_time.min(),
        low=owned.variant.min(),
        high=owned.variant.max(),
        forced=owned.forced.any(),
    )
    kept = units.filter(~units.forced, units.low == units.high)
    found: pa.Table = (
        kept.select("unit_id", "experiment", "first", variant=kept.low)
        .order_by(["unit_id", "experiment"])
        .to_pyarrow()
    )
    return found


def _placed_rows(exposed: pa.Table, query: ExposureQuery) -> pa.Table:
    """The rows in the variants asked for: unit_id, place, and first_us."""
    places = np.full(exposed.num_rows, -1, dtype=np.int64)
    for place, each in enumerate(query.variants):
        of_experiment = pc.equal(exposed["experiment"], each.experiment_id)
        inside = pc.and_(of_experiment, pc.equal(exposed["variant"], each.variant))
        places[inside.to_numpy()] = place
    first = exposed["first"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    rows = pa.table({"unit_id": exposed["unit_id"], "place": places, "first_us": first})
    return rows.filter(pc.greater_equal(rows["place"], 0))


def _received(table: ir.Table) -> int:
    """When the last row was received, in microseconds; 0 without any."""
    last = pa.scalar(table.receive_time.max().to_pyarrow().as_py(), pa.timestamp("us", tz="UTC"))
    return int(last.value or 0)


@dataclass(frozen=True, slots=True)
class ArrowExposedUnits:
    """See ExposedUnits; `rows` hold unit_id, place and first_us."""

    rows: pa.Table
    variants: int
    data_us: int

    @property
    def start_us(self) -> int | None:
        """See ExposedUnits."""
        found: int | None = pc.min(self.rows["first_us"]).as_py()
        return found

    def spans(self, until_us: int | None) -> Sequence[ExposedSpan]:
        """See ExposedUnits."""
        places, first_us = self.rows["place"].to_numpy(), self.rows["first_us"].to_numpy()
        counted = np.ones(len(places), np.bool_) if until_us is None else first_us <= until_us
        found = []
        for place in range(self.variants):
            times = first_us[counted & (places == place)]
            ends = (int(times.min()), int(times.max())) if len(times) else (0, 0)
            found.append(ExposedSpan(len(times), *ends))
        return found

    def placed(self, units: Names, count: int, places: Sequence[int]) -> Placed:
        """See ExposedUnits."""
        names = units.column.combine_chunks() if isinstance(units, ArrowNames) else None
        if names is None:
            names = pa.array(units.at(np.arange(count, dtype=np.int64)), pa.string())
        rows = self.rows.filter(np.isin(self.rows["place"].to_numpy(), list(places)))
        at = pc.index_in(names, value_set=rows["unit_id"].combine_chunks())
        found: Integers = at.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        inside = found >= 0
        first_us = np.zeros(len(found), dtype=np.int64)
        first_us[inside] = rows["first_us"].to_numpy()[found[inside]]
        return Placed(inside[:count], first_us[:count])
