"""When events are received."""

import threading

from services.events.domain.limits import MICROSECONDS
from shared.clock import Clock


class ReceiveTime:
    """Never goes back, even when the clock is set back while the service runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; not below any earlier answer."""
        now_us = int(self._clock.now().timestamp() * MICROSECONDS)
        with self._lock:
            self._last_us = max(self._last_us, now_us)
            return self._last_us
