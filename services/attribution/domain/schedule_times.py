"""When a schedule is due. All times are UTC."""

import datetime as dt
from dataclasses import dataclass

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Daily:
    """Every day at this hour and minute."""

    hour: int
    minute: int


@dataclass(frozen=True, slots=True)
class Every:
    """Time and again, this long after it was due before."""

    interval: dt.timedelta


Timing = Daily | Every


def first_due(timing: Timing, now: dt.datetime) -> dt.datetime:
    """When a new schedule is due first: of an interval at once, of a time of day at the next."""
    return now if isinstance(timing, Every) else due_after(timing, now, now)


def due_after(timing: Timing, due: dt.datetime, now: dt.datetime) -> dt.datetime:
    """When it is due next, later than `now`, after it was due at `due`.

    What fell due in between is left out: however many runs were missed, one makes up for them.
    """
    if isinstance(timing, Daily):
        today = now.replace(hour=timing.hour, minute=timing.minute, second=0, microsecond=0)
        return today if today > now else today + _DAY
    missed = max(0, (now - due) // timing.interval)
    return due + (missed + 1) * timing.interval
