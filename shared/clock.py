"""Time as a port: the wall clock stands in one place."""

from __future__ import annotations

import datetime as dt
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> dt.datetime:
        """The present, aware and in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """The present, aware and in UTC."""
        return dt.datetime.now(dt.UTC)  # noqa: TID251  the one place that reads it
