"""Which cut of the event tables is read: the newest, or one of the past."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ibis import ir

from services.results.adapters.lake.engine import epoch_us, row_of
from services.results.domain.observation import DataCut
from shared.errors import Code, DomainError, shown, unavailable
from shared.lake.watermark import ConsistencyToken, Watermark

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Cut:
    """The position up to which rows count; `past`: later rows are there and must not be seen."""

    watermark: Watermark
    position: int
    past: bool

    def tables(self, tables: Mapping[str, ir.Table]) -> Mapping[str, ir.Table]:
        """The tables as they were then."""
        return _Until(tables, self.position) if self.past else tables

    def data_cut(self, data_us: int | None) -> DataCut:
        """How the answer names this cut."""
        time = None if data_us is None else EPOCH + dt.timedelta(microseconds=data_us)
        if not self.watermark.journal_id:
            return DataCut("", None, time)
        token = ConsistencyToken(self.watermark.journal_id, self.position).encode()
        return DataCut(token, None if self.past else self.watermark.commit_time, time)


def cut_of(watermark: Watermark, as_of: str) -> Cut:
    """The cut that a token names; the newest without one.

    INVALID_ARGUMENT for a token of another log, UNAVAILABLE for one that is not readable yet.
    """
    if not as_of:
        return Cut(watermark, watermark.position, past=False)
    token = ConsistencyToken.decode(as_of)
    if token.journal_id != watermark.journal_id:
        raise DomainError(
            Code.INVALID_ARGUMENT,
            "INVALID_CONSISTENCY_TOKEN",
            f"as_of is of event log {shown(token.journal_id)}; the tables are of "
            f"{shown(watermark.journal_id)}: leave it empty for the newest cut",
        )
    if token.position > watermark.position:
        raise unavailable(
            "NOT_YET_FRESH",
            f"as_of names position {token.position}; the tables stand at position "
            f"{watermark.position}: pass it as consistency_token to wait for it",
        )
    return Cut(watermark, token.position, past=token.position < watermark.position)


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


class _Until(Mapping[str, ir.Table]):
    """Tables without the rows that came later."""

    def __init__(self, tables: Mapping[str, ir.Table], position: int) -> None:
        self._tables = tables
        self._position = position

    def __getitem__(self, name: str) -> ir.Table:
        table = self._tables[name]
        return table.filter(table.position <= self._position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)
