"""How long to wait before something is tried again."""

from __future__ import annotations

from touchstone_events.system import System, fraction

from touchstone_assignment.local.settings import Settings


def pause_s(settings: Settings, system: System, attempt: int) -> float:
    """A random part of a time that doubles: a thousand clients must not come back at once."""
    longest_s = min(settings.longest_retry_s, settings.first_retry_s * 2.0 ** min(attempt, 32))
    return longest_s * fraction(system)
