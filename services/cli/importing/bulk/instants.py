"""Columns of times: with a zone, without one, of days, or as numbers since 1970."""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.cli.importing.bulk.fields import INSTANT
from services.cli.importing.bulk.loops import Wrong, each, no_utf8
from services.cli.importing.bulk.text_columns import as_text, empty, is_text
from services.cli.importing.cells import RowError, microseconds
from shared.errors import invalid, shown

EPOCHS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_ALLOWED = "RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, or a date"
_NAIVE = pa.timestamp("us")
_DATE_LENGTH = 10
# What a timestamp of the contract can say: from the year 1 to the year 9999.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_Result = tuple[pa.Array, Sequence[Wrong]]


@dataclass(frozen=True, slots=True)
class InstantRules:
    """What the file does not say of its times: the zone of those that name none, and the unit of
    those that are numbers since 1970.
    """

    time_zone: str = ""
    epoch: str = ""

    def __post_init__(self) -> None:
        if self.time_zone and self.time_zone not in zoneinfo.available_timezones():
            allowed = "a name of the IANA database, such as Europe/Berlin or UTC"
            raise invalid("--time-zone", self.time_zone, allowed)


def instants(column: pa.Array, rules: InstantRules) -> _Result:
    """The column in microseconds UTC. Raises TypeError when its type is no time."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        times, wrong = _scaled(column.cast(pa.int64()), _PER_UNIT[kind.unit])
        return (times, wrong) if kind.tz else _zoned(times.cast(_NAIVE), rules, wrong)
    if pa.types.is_date(kind):
        days = column.cast(pa.timestamp("s")).cast(pa.int64())
        times, wrong = _scaled(days, EPOCHS["s"])
        return _zoned(times.cast(_NAIVE), _of_days(rules), wrong)
    if pa.types.is_integer(kind) and rules.epoch:
        return _scaled(column.cast(pa.int64(), safe=False), EPOCHS[rules.epoch])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if not rules.epoch:
            raise TypeError(f"is of the type {kind}; say with --epoch whether it is s, ms or us")
        return each(column, lambda cell: _counted(cell, rules.epoch), INSTANT)
    if not is_text(kind):
        raise TypeError(f"is of the type {kind}; allowed: a time, a date, text, or a number")
    texts, bad = as_text(column)
    return _of_text(pc.if_else(empty(texts), None, texts), rules, no_utf8(bad))


def _of_text(texts: pa.Array, rules: InstantRules, wrong: Sequence[Wrong]) -> _Result:
    try:
        if rules.epoch:
            times, outside = _scaled(texts.cast(pa.int64()), EPOCHS[rules.epoch])
            return times, [*wrong, *outside]
        return texts.cast(INSTANT), wrong
    except pa.ArrowInvalid:
        if rules.epoch:
            return each(texts, lambda cell: _counted(cell, rules.epoch), INSTANT, wrong)
    try:
        days = pc.all(pc.equal(pc.binary_length(texts), _DATE_LENGTH)).as_py()
        if rules.time_zone or days:
            return _zoned(texts.cast(_NAIVE), _of_days(rules), wrong)
    except pa.ArrowInvalid:
        pass
    return each(texts, lambda cell: _parsed(cell, rules), INSTANT, wrong)


def _scaled(numbers: pa.Array, factor: int) -> _Result:
    """Numbers since 1970 as times; a negative factor divides."""
    empty_at = np.asarray(numbers.is_null())
    given = np.asarray(numbers.fill_null(0))
    if factor < 0:
        return pa.array(given // -factor, mask=empty_at).cast(INSTANT), ()
    outside = (given < _FIRST_US // factor) | (given > _LAST_US // factor)
    times = pa.array(np.where(outside, 0, given) * factor, mask=empty_at | outside)
    return times.cast(INSTANT), [
        Wrong(int(place), f"is {given[place]}; allowed: a time from the year 1 to 9999")
        for place in np.flatnonzero(outside)
    ]


def _zoned(naive: pa.Array, rules: InstantRules, wrong: Sequence[Wrong]) -> _Result:
    """Times of a clock on the wall. One that the zone has twice or never is wrong."""
    if not rules.time_zone:
        raise TypeError("holds times without a zone; name it with --time-zone, such as UTC")
    try:
        return pc.assume_timezone(naive, rules.time_zone).cast(INSTANT), wrong
    except pa.ArrowInvalid:
        zone = zoneinfo.ZoneInfo(rules.time_zone)
        return each(naive, lambda cell: _placed(cell, zone, cell), INSTANT, wrong)


def _of_days(rules: InstantRules) -> InstantRules:
    return rules if rules.time_zone else InstantRules("UTC", rules.epoch)


def _parsed(cell: object, rules: InstantRules) -> int:
    text = str(cell).strip()
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise RowError("", cell, f"is {shown(cell)}; allowed: {_ALLOWED}") from error
    if time.tzinfo is not None:
        return microseconds(time)
    if not rules.time_zone and len(text) > _DATE_LENGTH:
        raise RowError("", cell, f"is {shown(cell)}, without a zone; name it with --time-zone")
    return _placed(time, zoneinfo.ZoneInfo(rules.time_zone or "UTC"), cell)


def _placed(time: object, zone: zoneinfo.ZoneInfo, cell: object) -> int:
    assert isinstance(time, dt.datetime)
    first, second = time.replace(tzinfo=zone), time.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        raise RowError(
            "", cell, f"is {cell}, which {zone.key} has twice or never; allowed: a time with offset"
        )
    return microseconds(first)


def _counted(cell: object, epoch: str) -> int:
    try:
        whole = decimal.Decimal(str(cell).strip()) * EPOCHS[epoch]
        us = int(whole.to_integral_value(decimal.ROUND_FLOOR))
    except (decimal.InvalidOperation, ValueError, OverflowError) as error:
        allowed = f"a number of {epoch} since 1970, by --epoch"
        raise RowError("", cell, f"is {shown(cell)}; allowed: {allowed}") from error
    if not _FIRST_US <= us <= _LAST_US:
        raise RowError("", cell, f"is {shown(cell)}; allowed: a time from the year 1 to 9999")
    return us


_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": -1_000}
