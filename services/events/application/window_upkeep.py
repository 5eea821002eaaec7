"""Move the window of ids with the day."""

import datetime as dt
import logging

from services.events.application.log_events import Window
from services.events.domain.dedupe import day_number
from services.events.domain.steady_day import CONFIRMED_AFTER_DAYS
from shared.clock import Clock

_LOG = logging.getLogger(__name__)


class WindowUpkeep:
    """Takes the day from the clock, and tells once of a day that is not believed."""

    def __init__(self, window: Window, clock: Clock) -> None:
        self._window = window
        self._clock = clock
        self._told = False

    def turn(self) -> None:
        """A turn of upkeep; it takes no time unless ids are sealed or merged."""
        now = self._clock.now()
        believed = self._window.tidy(day_number(now))
        if not believed and not self._told:
            _LOG.warning(
                "the clock says %s, days after the newest event received: is it right? No event "
                "id is forgotten until the clock has gone on from there for %d days",
                now.astimezone(dt.UTC).date(),
                CONFIRMED_AFTER_DAYS,
            )
        self._told = not believed
