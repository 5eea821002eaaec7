"""When a cut of the event tables ends, and how an answer names it."""

import datetime as dt
from collections.abc import Mapping

from ibis import ir

from services.results.adapters.lake.engine import epoch_us, row_of
from services.results.domain.observation import DataCut
from services.results.domain.removed import Rows
from shared.lake.cut import Cut
from shared.lake.snapshot import Snapshot

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def data_cut(cut: Cut, data_us: int | None) -> DataCut:
    """How an answer names the cut that it read."""
    time = None if data_us is None else EPOCH + dt.timedelta(microseconds=data_us)
    known = cut.token and not cut.past
    return DataCut(cut.token, cut.watermark.commit_time if known else None, time)


def data_time_us(tables: Mapping[str, ir.Table]) -> int | None:
    """When the last exposure or conversion of the project was received; None without any.

    It is a function of the cut, as the clock is not, and so is whether a unit is old enough.
    """
    names = ("exposures", "conversions")
    found = [row_of(received_table(tables[name]))["last"] for name in names]
    return max((one for one in found if one is not None), default=None)


def received_table(table: ir.Table) -> ir.Table:
    """How many rows there are, and when the last of them was received."""
    return table.aggregate(rows=table.count(), last=epoch_us(table.receive_time).max())


def rows_of_cut(snapshot: Snapshot, cut: Cut) -> Rows:
    """How many exposures and conversions a cut holds; of the newest the files themselves say it."""
    names = ("exposures", "conversions")
    if not cut.past:
        return Rows(*(snapshot.rows(name) for name in names))
    with snapshot.read() as now:
        tables = cut.tables(now)
        found = [row_of(tables[name].aggregate(rows=tables[name].count())) for name in names]
    return Rows(*(int(one["rows"]) for one in found))
