"""The day by which the window of ids moves, from a clock that may once be wrong.

Moving forward forgets ids for good, and a repetition of a forgotten event is stored again; staying
costs memory only. So a jump forward must be confirmed by the clock itself.
"""

MAX_STEP_DAYS = 3
"""A reading that lies further ahead than this is not believed at once."""
CONFIRMED_AFTER_DAYS = 2
"""A jump is believed when the clock has gone on from there for so long without a step."""


class SteadyDay:
    """Follows the readings of a clock forward, never backward."""

    def __init__(self) -> None:
        self._day: int | None = None
        self._suspected: tuple[int, int] | None = None
        """First and newest of the readings that are not believed yet."""

    @property
    def day(self) -> int:
        """The UTC day, counted from 1970-01-01, that is believed; 0 before the first."""
        return self._day or 0

    def know(self, day: int) -> None:
        """Something was received on this day, says what is stored."""
        self._day = max(self.day, day)

    def read(self, today: int) -> bool:
        """Take a reading of the clock; False when it is not believed."""
        if self._day is None or today <= self._day + MAX_STEP_DAYS or self._confirms(today):
            self._day = max(self.day, today)
            self._suspected = None
            return True
        return False

    def _confirms(self, today: int) -> bool:
        first, newest = self._suspected or (today, today)
        if not newest <= today <= newest + MAX_STEP_DAYS:
            first = today
        self._suspected = (first, today)
        return today >= first + CONFIRMED_AFTER_DAYS
