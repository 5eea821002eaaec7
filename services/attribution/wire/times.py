"""Times and durations as whole microseconds."""

import datetime as dt

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from shared.errors import invalid

_NANOS_PER_SECOND = 1_000_000_000


def microseconds(field: str, time: Timestamp | Duration) -> int:
    """Whole microseconds, rounded down. The library's own conversion raises on odd values."""
    if not 0 <= time.nanos < _NANOS_PER_SECOND:
        raise invalid(f"{field}.nanos", time.nanos, "0 to 999999999")
    return time.seconds * 1_000_000 + time.nanos // 1_000


def encode_duration(time_us: int) -> Duration:
    """A duration of so many microseconds."""
    duration = Duration()
    duration.FromMicroseconds(time_us)
    return duration


def encode_time(time_us: int) -> Timestamp:
    """The time so many microseconds after 1970-01-01 UTC."""
    timestamp = Timestamp()
    timestamp.FromMicroseconds(time_us)
    return timestamp


def encode_instant(time: dt.datetime | None) -> Timestamp | None:
    """The time, or None."""
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
