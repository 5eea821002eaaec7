"""Instants: RFC 3339 text, or seconds since 1970 as a number."""

import math
import re
from datetime import date

from touchstone_assignment.conditions.numbers import read_number

ALLOWED = (
    "an RFC 3339 instant with its offset such as '2026-03-01T08:00:00Z', "
    "or a finite number of seconds since 1970"
)

_NANOSECONDS = 1_000_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,30}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def read_instant(value: object) -> int | None:
    """Nanoseconds since 1970, or None when this is no instant.

    Of a fraction the first nine digits count. A leap second is the instant after it.
    """
    if isinstance(value, str):
        return _of_text(value)
    seconds = read_number(value)
    if seconds is None or not math.isfinite(seconds):
        return None
    whole = math.floor(seconds)
    return whole * _NANOSECONDS + round((seconds - whole) * _NANOSECONDS)


def _of_text(text: str) -> int | None:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    offset = _offset_s(found)
    if offset is None:
        return None
    whole = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    return whole * _NANOSECONDS + int((found[7] or "0").ljust(9, "0")[:9])


def _offset_s(found: re.Match[str]) -> int | None:
    if found[8] is None:
        return 0
    hours, minutes = int(found[9]), int(found[10])
    if hours > 23 or minutes > 59:
        return None
    size = hours * 3_600 + minutes * 60
    return size if found[8] == "+" else -size
