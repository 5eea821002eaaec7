"""Spend between messages and the domain."""

import datetime as dt

from touchstone.attribution.v1 import spend_service_pb2 as pb

from services.attribution.application.spend import Existing, ImportSpend
from services.attribution.domain.economics import Spend, SpendKey
from services.attribution.spend_ports import SpendSelection
from shared.errors import invalid

PLACE = "([^\x1f]*)\x1f([^\x1f]*)\x1f([1-9][0-9]{0,5})\x1f([^\x1f]*)"
"""The form of a place in the list of spend."""

_EXISTING: dict[int, Existing] = {
    pb.EXISTING_SPEND_UNSPECIFIED: Existing.REPLACE,
    pb.EXISTING_SPEND_REPLACE: Existing.REPLACE,
    pb.EXISTING_SPEND_REFUSE: Existing.REFUSE,
    pb.EXISTING_SPEND_REPLACE_DAYS: Existing.REPLACE_DAYS,
}


def decode_import(request: pb.ImportSpendRequest, project: str) -> ImportSpend:
    """The rows to keep; INVALID_ARGUMENT for a day that is in no calendar."""
    rows = tuple(_row(number, row) for number, row in enumerate(request.rows))
    return ImportSpend(project, rows, _EXISTING[request.existing])


def decode_selection(
    request: pb.ListSpendRequest | pb.DeleteSpendRequest, project: str
) -> SpendSelection:
    """Which spend is asked for."""
    first = decode_day("first_day", request.first_day) if request.first_day else None
    last = decode_day("last_day", request.last_day) if request.last_day else None
    if first is not None and last is not None and last < first:
        raise invalid("last_day", request.last_day, f"{first} or later")
    return SpendSelection(project, request.source, request.channel, first, last)


def decode_day(field: str, text: str) -> dt.date:
    """A day of the calendar."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise invalid(field, text, "a day such as 2026-01-31") from error


def encode_spend(row: Spend) -> pb.Spend:
    """The row."""
    return pb.Spend(
        source=row.key.source,
        channel=row.key.channel,
        campaign=row.key.campaign,
        day=row.key.day.isoformat(),
        amount=row.amount,
        currency=row.currency,
    )


def encode_place(row: Spend) -> str:
    """Where the row stands in the list."""
    key = row.key
    return "\x1f".join((key.channel, key.campaign, str(key.day.toordinal()), key.source))


def decode_place(channel: str, campaign: str, day: str, source: str) -> SpendKey:
    """The place behind which a page starts."""
    return SpendKey(source, channel, campaign, dt.date.fromordinal(int(day)))


def _row(number: int, row: pb.Spend) -> Spend:
    day = decode_day(f"rows[{number}].day", row.day)
    return Spend(SpendKey(row.source, row.channel, row.campaign, day), row.amount, row.currency)
