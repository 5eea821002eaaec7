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
        self._day = 0
        self._plausible: int | None = None
        """The newest day that may have come; None before anything is known."""
        self._suspected: tuple[int, int] | None = None
        """First and newest of the readings that are not believed yet."""

    @property
    def day(self) -> int:
        """The UTC day, counted from 1970-01-01, of the newest reading believed; 0 before."""
        return self._day

    def know(self, day: int) -> None:
        """What is stored says that this day may have come. It alone forgets nothing."""
        self._plausible = max(self._plausible or 0, day)

    def read(self, today: int) -> bool:
        """Take a reading of the clock; False when it is not believed."""
        newest = self._plausible
        if newest is None or today <= newest + MAX_STEP_DAYS or self._confirms(today):
            self._day = max(self._day, today)
            self.know(today)
            self._suspected = None
            return True
        return False

    def _confirms(self, today: int) -> bool:
        first, newest = self._suspected or (today, today)
        if not newest <= today <= newest + MAX_STEP_DAYS:
            first = today
        self._suspected = (first, today)
        return today >= first + CONFIRMED_AFTER_DAYS
