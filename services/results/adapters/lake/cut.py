"""When a cut of the event tables ends, and how an answer names it."""

import datetime as dt
from collections.abc import Mapping

from ibis import ir

from services.results.adapters.lake.engine import epoch_us, row_of
from services.results.domain.observation import DataCut
from shared.lake.cut import Cut

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
