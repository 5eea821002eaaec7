"""An event as the sender gave it, parsed and within its limits."""

from typing import NamedTuple

Value = str | int | float | None

# Between project and event id: a character that neither may hold.
_SEPARATOR = "\x1f"

DIGEST_VERSION = 2
"""How the digest of a content is computed. Another way gets the next number, up to 15."""
DIGEST_VERSION_BITS = 4
_VERSION_MASK = (1 << DIGEST_VERSION_BITS) - 1


class Event(NamedTuple):
    """One event that was parsed by itself."""

    event_id: str
    time_us: int
    """Event time in microseconds since 1970 UTC."""
    unit_type: str
    unit_id: str
    linked_units: str | None
    """JSON list of {"type", "id"}."""
    source: str | None
    properties: str | None
    """JSON object with sorted keys."""
    table: str
    """The kind: the name of the table that it goes to."""
    payload: tuple[Value, ...]
    """The values of the columns that only this kind has, in the order of the layout."""


def fingerprint_prefix(project: str) -> bytes:
    """What precedes the event id in the text whose md5 is the fingerprint of an event."""
    return (project + _SEPARATOR).encode()


def same_content(one: int, other: int) -> bool:
    """Whether two digests are of the same content, as far as they can tell.

    Digests of different versions cannot be compared. An id that comes again is far more often a
    retry than another event, so they count as the same.
    """
    return one == other or (one ^ other) & _VERSION_MASK != 0
