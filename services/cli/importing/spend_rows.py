"""From the rows of a file to spend: a row a day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from touchstone.attribution.v1 import spend_service_pb2 as pb

from services.cli.importing import cells
from services.cli.importing.cells import RowError
from services.cli.importing.sources import Source, SourceRow, require_column
from shared.errors import DomainError, FieldViolation, invalid_fields, shown


@dataclass(frozen=True, slots=True)
class SpendMapping:
    """Which columns hold what; without a column the texts `source` and `currency` stand for all."""

    source: str
    day: str
    channel: str
    amount: str
    campaign: str = ""
    currency: str = ""
    currency_column: str = ""
    source_column: str = ""


@dataclass(frozen=True, slots=True)
class SpendFile:
    """The rows of a file, each once, and the lines that say what an earlier one says."""

    rows: list[pb.Spend]
    repeated: list[int]


def spend_file(mapping: SpendMapping, source: Source) -> SpendFile:
    """Every row of the file; INVALID_ARGUMENT for one that is none, or two for one key.

    All rows or none are wanted: a file of spend that lacks some days looks like savings.
    """
    known: dict[tuple[str, ...], tuple[int, pb.Spend]] = {}
    repeated = []
    for line, row in _rows(mapping, source):
        key = (row.source, row.channel, row.campaign, row.day)
        first, other = known.setdefault(key, (line, row))
        if other != row:
            raise _wrong(
                "FILE",
                f"has two amounts for {row.channel}, {row.campaign or 'no campaign'}, {row.day} "
                f"in lines {first} and {line}; allowed: one row for each source, channel, campaign "
                "and day; add up what is finer",
            )
        if first != line:
            repeated.append(line)
    return SpendFile([row for _, row in known.values()], repeated)


def _wrong(place: str, what: str) -> DomainError:
    return invalid_fields([FieldViolation(place, what)])


def _rows(mapping: SpendMapping, source: Source) -> Iterator[tuple[int, pb.Spend]]:
    places = {
        name: require_column(source, column, f"--{name.replace('_', '-')}")
        for name in ("day", "channel", "amount", "campaign", "currency_column", "source_column")
        if (column := getattr(mapping, name))
    }
    for row in source.rows():
        if row.problem:
            raise _wrong(f"FILE line {row.line}", f"cannot be read: {row.problem}")
        try:
            yield row.line, _spend(mapping, row, places)
        except RowError as error:
            raise _wrong(f"FILE line {row.line}: {error.column}", error.reason) from error


def _spend(mapping: SpendMapping, row: SourceRow, places: Mapping[str, int]) -> pb.Spend:
    def named(name: str, column: str, otherwise: str) -> str:
        return cells.text(row.cells[places[name]], column) if name in places else otherwise

    campaign = row.cells[places["campaign"]] if "campaign" in places else None
    amount = cells.number(row.cells[places["amount"]], mapping.amount)
    if amount < 0:
        raise RowError(mapping.amount, amount, f"is {amount}; allowed: 0 and above")
    return pb.Spend(
        source=named("source_column", mapping.source_column, mapping.source),
        channel=cells.text(row.cells[places["channel"]], mapping.channel),
        campaign="" if cells.is_missing(campaign) else str(campaign).strip(),
        day=_day(row.cells[places["day"]], mapping.day),
        amount=amount,
        currency=named("currency_column", mapping.currency_column, mapping.currency),
    )


def _day(cell: object, column: str) -> str:
    if isinstance(cell, dt.date):
        return (cell.date() if isinstance(cell, dt.datetime) else cell).isoformat()
    try:
        return dt.date.fromisoformat(cells.text(cell, column)).isoformat()
    except ValueError as error:
        message = f"is {shown(cell)}; allowed: a day such as 2026-01-31"
        raise RowError(column, cell, message) from error
