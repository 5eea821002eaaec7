"""A receive time that never steps back, from a clock that may."""


class SteadyTime:
    """Follows the readings of a clock, in microseconds since 1970; waits while the clock is behind.

    Not safe to use from several threads.
    """

    def __init__(self, newest_us: int = 0) -> None:
        self._newest_us = newest_us

    def read(self, now_us: int) -> int:
        """The reading, or the newest one before it when the clock has stepped back."""
        self._newest_us = max(self._newest_us, now_us)
        return self._newest_us
