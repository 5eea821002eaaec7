"""Times as a person reads them."""

import datetime as dt

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rfc3339(time_us: int) -> str:
    """A time in microseconds since 1970 UTC, of the years 1 to 9999: `2026-01-31T12:00:00Z`."""
    time = _EPOCH + dt.timedelta(microseconds=int(time_us))
    return time.isoformat().replace("+00:00", "Z")
