"""Move the window of ids with the day."""

import datetime as dt
import logging
import threading

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


class WindowUpkeepLoop:
    """Turns of upkeep in a thread of its own: to merge many ids takes seconds."""

    def __init__(self, upkeep: WindowUpkeep, interval_s: float) -> None:
        self._upkeep = upkeep
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="window", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the turn in progress. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._upkeep.turn()
            # Without its turn the window is larger and slower than need be, and still right.
            except Exception:  # noqa: BLE001  see above
                _LOG.exception("upkeep of the window of event ids failed; trying again later")
