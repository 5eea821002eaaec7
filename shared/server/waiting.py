"""How long a call may wait for fresh data before it begins to answer."""

from typing import Protocol

WAITING_PART_OF_DEADLINE = 0.8
"""The rest of the time is for the answer itself."""


class Deadline(Protocol):
    """What knows how long a call has left."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""


def waiting_time_s(call: Deadline, longest_s: float) -> float:
    """At most `longest_s` seconds, and no more of the call's deadline than leaves an answer."""
    left_s = call.time_remaining()
    return longest_s if left_s is None else min(longest_s, left_s * WAITING_PART_OF_DEADLINE)
