"""How long the events of a project are kept."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

REJECTED = "rejected"
"""Stands beside the names of the tables for the rejected events."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days by the name of the table; one that is absent or 0 is kept for ever.

    `version` is 0 where nothing was ever set.
    """

    project: str
    days: Mapping[str, int] = field(default_factory=dict)
    version: int = 0
    update_time: dt.datetime | None = None

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return f"r{self.version}"

    def oldest_day(self, table: str, today: dt.date) -> dt.date | None:
        """The first day that is kept; None when all are, or when the calendar ends before."""
        days = self.days.get(table, 0)
        if not days or days >= today.toordinal():
            return None
        return today - dt.timedelta(days=days)
