"""When events are received."""

import threading

from services.events.domain.limits import MICROSECONDS
from shared.clock import Clock

MOST_BACK_US = 2 * 3600 * MICROSECONDS
"""A clock that is set back by more than this was wrong before, not now."""


class ReceiveTime:
    """Never goes back while the service runs, unless the clock shows that it was far ahead.

    Without that a clock that is years ahead for a second would let events of the next years in.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; not below any earlier answer by less than MOST_BACK_US."""
        now_us = int(self._clock.now().timestamp() * MICROSECONDS)
        with self._lock:
            if now_us < self._last_us - MOST_BACK_US:
                self._last_us = now_us
            self._last_us = max(self._last_us, now_us)
            return self._last_us
