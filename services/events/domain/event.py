"""An event as the sender gave it, parsed and within its limits."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

Value = str | int | float | None

# Between project and event id: a character that neither may hold.
_SEPARATOR = "\x1f"


class Event(NamedTuple):
    """One event. A named tuple, because a service makes a hundred thousand of them a second."""

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


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of one project that were received together and are new."""

    project: str
    receive_time_us: int
    events: tuple[Event, ...]
    digests: tuple[int, ...]
    """`content_digest` of each event."""


def fingerprint_prefix(project: str) -> bytes:
    """What the fingerprints of a project's events have in common."""
    return (project + _SEPARATOR).encode()


def fingerprint(prefix: bytes, event_id: str) -> bytes:
    """128 bits that stand for (project, event id): md5, which every engine computes alike."""
    return hashlib.md5(prefix + event_id.encode(), usedforsecurity=False).digest()


def content_digest(event: Event) -> int:
    """64 bits that stand for everything the sender said: equal in a retry of the same event."""
    text = tuple.__repr__(event).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)
