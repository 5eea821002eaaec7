"""Cells as values: text, numbers, yes or no, times. A cell that does not hold is a RowError."""

from __future__ import annotations

import datetime as dt
import math
import re

from google.protobuf.timestamp_pb2 import Timestamp

from shared.errors import shown

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


class RowError(Exception):
    """A row that cannot be imported: the column and value at fault, and what is allowed."""

    def __init__(self, column: str, value: object, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        self.reason = reason


def is_missing(cell: object) -> bool:
    """The cell holds nothing."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def text(cell: object, column: str) -> str:
    """The text of a cell, without blanks around it. Raises RowError when it is empty."""
    if is_missing(cell):
        raise RowError(column, cell, "is empty; a value is needed")
    return str(cell).strip()


def unit_id(cell: object, column: str) -> str:
    """The id of a unit. Raises RowError when it is empty or holds what no id may hold."""
    found = text(cell, column)
    if any(character < " " or character == "\x7f" for character in found):
        raise RowError(
            column, cell, f"is {shown(cell)}; allowed: no tabs, line breaks or control characters"
        )
    return found


def number(cell: object, column: str) -> float:
    """The finite number in a cell. Raises RowError for anything else."""
    if isinstance(cell, str):
        stripped = cell.strip()
        value = float(stripped) if _NUMBER.fullmatch(stripped) else math.nan
    else:
        try:
            value = float(cell)  # type: ignore[arg-type]  # what has no float raises
        except (TypeError, ValueError):
            value = math.nan
    if not math.isfinite(value):
        raise RowError(column, cell, f"is {shown(cell)}; allowed: a finite number such as 12.5")
    return value


def flag(cell: object, column: str) -> bool:
    """Yes or no. Raises RowError for anything but 0, 1 (as any number), true, false, yes, no."""
    found = _FLAGS.get(str(cell).strip().lower())
    if found is None and not is_missing(cell):
        value = number_or_none(cell)
        found = bool(value) if value in (0.0, 1.0) else None
    if found is None:
        raise RowError(column, cell, f"is {shown(cell)}; allowed: 0, 1, true, false, yes, no")
    return found


def number_or_none(cell: object) -> float | None:
    """The finite number in a cell, or None for anything else."""
    try:
        return number(cell, "")
    except RowError:
        return None


def time_us(cell: object, column: str) -> int:
    """Microseconds since 1970 UTC. A time without an offset is UTC. Raises RowError."""
    time = cell
    if isinstance(cell, str):
        try:
            time = dt.datetime.fromisoformat(cell.strip())
        except ValueError:
            time = None
    elif isinstance(cell, dt.date) and not isinstance(cell, dt.datetime):
        time = dt.datetime(cell.year, cell.month, cell.day, tzinfo=dt.UTC)
    if not isinstance(time, dt.datetime):
        raise RowError(
            column, cell, f"is {shown(cell)}; allowed: ISO 8601 such as 2026-01-31T12:00:00Z"
        )
    return microseconds(time)


def microseconds(time: dt.datetime) -> int:
    """Microseconds since 1970 UTC of a time; one without an offset is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // _MICROSECOND


def stamp(us: int) -> Timestamp:
    """A timestamp message of microseconds since 1970."""
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)
