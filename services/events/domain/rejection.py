"""Why an event was not stored."""

import enum
from dataclasses import dataclass


class Reason(enum.Enum):
    """The values are the names of touchstone.events.v1.RejectionReason without their prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    EVENT_TIME_OUT_OF_RANGE = "EVENT_TIME_OUT_OF_RANGE"
    CONFLICTING_DUPLICATE = "CONFLICTING_DUPLICATE"
    TOO_LARGE = "TOO_LARGE"
    UNIT_ERASED = "UNIT_ERASED"


@dataclass(frozen=True, slots=True)
class Rejection:
    """One item of a batch that is not stored: what is wrong, which value, what is allowed."""

    event_id: str
    reason: Reason
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A rejected event as it is kept."""

    project: str
    rejection: Rejection
    receive_time_us: int
    source: str
    payload: bytes
    """The event as the sender encoded it, cut at `Limits.kept_payload_bytes`."""
